/** Nodes that were removed while they were away (R38), and ids that are never used again (R39). */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConfChange, Entry, Message, PersistentState } from "../../../src/raft/index.js";
import { createRaftNode, emptyConfiguration, emptyState } from "../../../src/raft/index.js";
import { electionTimeoutMs, Network, optionsFor, votersOf } from "./network.js";

const remove = (id: number): ConfChange => ({ transition: "auto", ops: [{ type: "remove", id }] });
const configAt = (index: number, ...voters: number[]): Entry => ({
  type: "config",
  term: 1,
  index,
  config: votersOf(...voters),
});

function removedWhileAway(): Network {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([3], [1, 2]);
  assert.ok(net.node(1).proposeConfChange(remove(3), net.now).ok);
  // Longer than the leader keeps sending the log to a removed node.
  net.run(12 * electionTimeoutMs);
  return net;
}

test("R38: a removed node that campaigns is told since when it is no member, and stops campaigning", () => {
  const net = removedWhileAway();
  assert.equal(net.status(3).removedAt, 0);
  net.heal();
  net.run(3 * electionTimeoutMs);
  assert.equal(net.status(3).removedAt, net.status(1).commit);
  assert.equal(net.status(3).role, "follower");
  let asked = 0;
  net.drop = (m) => {
    if (m.from === 3) asked += 1;
    return false;
  };
  net.run(10 * electionTimeoutMs);
  assert.equal(asked, 0, "it is quiet now");
  net.node(3).campaign(net.now);
  assert.equal(net.status(3).role, "follower");
  assert.deepEqual(net.leaders(), [1]);
});

test("R38: a removed leader with a long uncommitted tail is told as well", () => {
  const net = new Network([1, 2, 3]);
  net.elect(3);
  net.partition([3], [1, 2]);
  for (let i = 0; i < 30; i += 1) net.propose(3, `${i}`);
  net.run(6 * electionTimeoutMs);
  const leader = net.leaders()[0] as number;
  assert.ok(net.node(leader).proposeConfChange(remove(3), net.now).ok);
  net.run(12 * electionTimeoutMs);
  net.heal();
  net.run(3 * electionTimeoutMs);
  assert.ok(net.status(3).removedAt > 0);
});

const told = { type: "PreVoteResponse", from: 2, to: 1, granted: false, removedAt: 9 } as const;

function member(commit: number, entries: readonly Entry[]): PersistentState {
  return { ...emptyState(), hardState: { term: 1, vote: 0, commit }, entries };
}

test("R38: who was never a member by what it knows committed is not removed, but not a member yet", () => {
  const newcomer = createRaftNode(optionsFor(1, member(1, [configAt(1, 2, 3), configAt(2, 1, 2, 3)]), () => 0));
  newcomer.campaign(0);
  newcomer.step({ ...told, term: 1 }, 1);
  assert.equal(newcomer.status().removedAt, 0);
  const removed = createRaftNode(optionsFor(1, member(1, [configAt(1, 1, 2, 3)]), () => 0));
  removed.campaign(0);
  removed.step({ ...told, term: 1 }, 1);
  assert.deepEqual([removed.status().removedAt, removed.status().role], [9, "follower"]);
  const newer = createRaftNode(
    optionsFor(
      1,
      member(
        9,
        [...Array(9)].map((_, i) => configAt(i + 1, 1, 2)),
      ),
      () => 0,
    ),
  );
  newer.step({ ...told, term: 1 }, 0);
  assert.equal(newer.status().removedAt, 0, "it knows of a later configuration that has it in");
});

test("R38: only strangers to the committed and to the newest configuration are told", () => {
  const preVote = (from: number): Message => ({ type: "PreVote", from, to: 1, term: 1, lastIndex: 0, lastTerm: 0 });
  const ask = (state: PersistentState, from: number) => {
    const node = createRaftNode(optionsFor(1, state, () => 0));
    node.step(preVote(from), 0);
    const [answer] = node.ready().messagesAfterPersist;
    assert.ok(answer?.type === "PreVoteResponse" && !answer.granted);
    return answer.removedAt;
  };
  const learning: Entry = { ...configAt(3), config: { ...emptyConfiguration, voters: [1, 2], learners: [4] } } as Entry;
  const state = member(2, [configAt(1, 1, 2, 3), configAt(2, 1, 2), learning]);
  assert.equal(ask(state, 3), 2);
  assert.equal(ask(state, 2), undefined);
  assert.equal(ask(state, 4), undefined, "about to become a member");
  assert.equal(ask(member(0, []), 3), undefined, "who knows no configuration can not tell");
});

test("R38: a leader that talks to a node again makes it forget what it was told", () => {
  const node = createRaftNode(optionsFor(1, member(1, [configAt(1, 1, 2, 3)]), () => 0));
  node.step({ ...told, term: 1 }, 0);
  assert.equal(node.status().removedAt, 9);
  node.step({ type: "Heartbeat", from: 2, to: 1, term: 1, commit: 1, round: 0 }, 1);
  assert.equal(node.status().removedAt, 0);
});

test("R39: an empty node under a used id stops at the first heartbeat instead of voting as its old self", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.propose(1, "x");
  net.settle();
  net.crash(3);
  net.get(3).disk = emptyState();
  net.restart(3);
  assert.throws(() => net.run(300), /rolled back/);
});
