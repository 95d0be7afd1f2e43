import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConfChange } from "../../../src/raft/index.js";
import { electionTimeoutMs, Network, votersOf } from "./network.js";

const add = (id: number): ConfChange => ({ transition: "auto", ops: [{ type: "addVoter", id }] });
const learn = (id: number): ConfChange => ({ transition: "auto", ops: [{ type: "addLearner", id }] });
const remove = (id: number): ConfChange => ({ transition: "auto", ops: [{ type: "remove", id }] });

function change(net: Network, leader: number, what: ConfChange): void {
  const result = net.node(leader).proposeConfChange(what, net.now);
  assert.ok(result.ok, result.ok ? "" : result.message);
}

test("a cluster of one grows by learners that become voters", () => {
  const net = new Network([1]);
  net.elect(1);
  for (const id of [2, 3]) {
    net.add(id);
    change(net, 1, learn(id));
    net.run(300);
    change(net, 1, add(id));
    net.run(300);
  }
  for (const id of [1, 2, 3]) assert.deepEqual(net.status(id).config.voters, [1, 2, 3]);
  net.crash(1);
  net.run(6 * electionTimeoutMs);
  assert.equal(net.leaders().length, 1);
});

test("R33: a configuration is in force as soon as it is appended, and a truncation takes it back", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([1], [2, 3]);
  change(net, 1, learn(4));
  assert.deepEqual(net.status(1).config.learners, [4]);
  net.run(6 * electionTimeoutMs);
  net.heal();
  net.run(2 * electionTimeoutMs);
  assert.deepEqual(net.status(1).config.learners, [], "the new leader's log replaced it");
});

test("R30: one uncommitted configuration at a time", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  change(net, 1, learn(4));
  const second = net.node(1).proposeConfChange(learn(5), net.now);
  assert.ok(!second.ok && second.reason === "busy");
  net.settle();
  change(net, 1, learn(5));
});

test("R31: no configuration before the leader's own term has committed something", () => {
  const net = new Network([1, 2, 3]);
  net.drop = (m) => m.type === "AppendEntriesResponse";
  net.elect(1);
  const early = net.node(1).proposeConfChange(learn(4), net.now);
  assert.ok(!early.ok && early.reason === "busy");
  net.heal();
  net.run(300);
  change(net, 1, learn(4));
});

test("R32: replacing a voter goes through a joint configuration, which the leader leaves by itself", () => {
  const net = new Network([1, 2, 3]);
  net.add(4);
  net.elect(1);
  const swap: ConfChange = {
    transition: "auto",
    ops: [
      { type: "addVoter", id: 4 },
      { type: "remove", id: 3 },
    ],
  };
  change(net, 1, swap);
  assert.deepEqual(net.status(1).config.votersOutgoing, [1, 2, 3]);
  net.run(500);
  for (const id of [1, 2, 4]) assert.deepEqual(net.status(id).config, { ...votersOf(1, 2, 4) });
});

test("R32: a joint configuration that a dead leader left behind is finished by the next one", () => {
  const net = new Network([1, 2, 3]);
  net.add(4);
  net.elect(1);
  const isAppend = (type: string) => type === "AppendEntries";
  net.drop = (m) => isAppend(m.type) && m.to === 4;
  change(net, 1, {
    transition: "auto",
    ops: [
      { type: "addVoter", id: 4 },
      { type: "remove", id: 3 },
    ],
  });
  for (const m of net.process(1).messages) net.deliver(m);
  net.crash(1);
  net.queue.length = 0;
  net.heal();
  net.run(8 * electionTimeoutMs);
  assert.equal(net.leaders().length, 1);
  assert.deepEqual(net.status(net.leaders()[0] as number).config.votersOutgoing, []);
});

test("jointExplicit is left only on request", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  change(net, 1, { transition: "jointExplicit", ops: [{ type: "remove", id: 3 }] });
  net.run(500);
  assert.deepEqual(net.status(1).config.votersOutgoing, [1, 2, 3]);
  assert.equal(net.node(1).proposeConfChange(learn(9), net.now).ok, false);
  change(net, 1, { transition: "leave", ops: [] });
  net.run(500);
  assert.deepEqual(net.status(2).config.voters, [1, 2]);
});

test("R27: a leader that removes itself leads until that is committed, then hands over", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  change(net, 1, remove(1));
  assert.equal(net.status(1).role, "leader");
  net.settle();
  assert.equal(net.status(1).role, "follower");
  assert.equal(net.leaders().length, 1, "a successor was told at once, no timeout passed");
});

test("R26, R27: the leader of two removes itself and dies: the other one leads on alone", () => {
  const net = new Network([1, 2]);
  net.elect(1);
  change(net, 1, remove(1));
  net.settle();
  net.crash(1);
  net.run(4 * electionTimeoutMs);
  assert.deepEqual(net.leaders(), [2]);
  net.propose(2, "x");
  net.settle();
  assert.deepEqual(net.data(2), ["x"]);
});

test("R26: who is missing only from an uncommitted configuration may still campaign, without counting itself", () => {
  const net = new Network([1, 2]);
  net.elect(1);
  net.partition([1], [2]);
  change(net, 1, remove(1));
  net.run(2 * electionTimeoutMs);
  assert.equal(net.status(1).role, "follower");
  net.heal();
  net.run(20 * electionTimeoutMs);
  assert.deepEqual(net.leaders(), [2], "node 2 got the entry that only node 1 could give it");
  assert.deepEqual(net.status(2).config.voters, [2]);
});

test("R38: a removed node learns of it and never campaigns", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  change(net, 1, remove(3));
  net.settle();
  assert.deepEqual(net.status(3).config.voters, [1, 2]);
  net.run(20 * electionTimeoutMs);
  assert.equal(net.status(3).role, "follower");
  assert.equal(net.status(1).term, 1);
  assert.deepEqual(
    net.status(1).progress.map((p) => p.id),
    [1, 2],
  );
});

test("R38: a removed node that was not told cannot depose the leader", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([3], [1, 2]);
  change(net, 1, remove(3));
  net.run(12 * electionTimeoutMs);
  net.heal();
  net.run(10 * electionTimeoutMs);
  assert.deepEqual(net.leaders(), [1]);
});

test("R37: a learner that lags or is silent is not made a voter", () => {
  const net = new Network([1]);
  net.elect(1);
  change(net, 1, learn(2));
  net.settle();
  const early = net.node(1).proposeConfChange(add(2), net.now);
  assert.ok(!early.ok && early.reason === "busy");
  net.add(2);
  net.run(500);
  change(net, 1, add(2));
});

test("a learner counts in no quorum, whatever it acknowledges", () => {
  const net = new Network([1, 2, 3]);
  net.add(4);
  net.elect(1);
  change(net, 1, learn(4));
  net.run(300);
  net.partition([1, 4], [2, 3]);
  const index = net.propose(1, "x");
  net.run(300);
  assert.equal(net.status(4).lastIndex, index);
  assert.equal(net.status(1).commit, index - 1);
});
