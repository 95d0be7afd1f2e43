import assert from "node:assert/strict";
import { test } from "node:test";
import { electionTimeoutMs, Network } from "./network.js";

test("dissertation 3.10: leadership moves to the target at once, past the stickiness of the others", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.node(1).transferLeadership(2, net.now);
  net.settle();
  assert.deepEqual(net.leaders(), [2]);
});

test("R59: proposals are refused while transferring, and taken again one election timeout later", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.drop = (m) => m.type === "TimeoutNow";
  net.node(1).transferLeadership(2, net.now);
  const refused = net.node(1).propose(new Uint8Array(1), net.now);
  assert.ok(!refused.ok && refused.reason === "transferring");
  net.run(electionTimeoutMs);
  net.propose(1, "x");
});

test("R59: never to itself, to a learner or to a stranger", () => {
  const net = new Network([1, 2, 3]);
  net.add(4);
  net.elect(1);
  assert.ok(net.node(1).proposeConfChange({ transition: "auto", ops: [{ type: "addLearner", id: 4 }] }, net.now).ok);
  net.run(300);
  for (const to of [1, 4, 9]) net.node(1).transferLeadership(to, net.now);
  net.propose(1, "not refused");
});

test("R56: a TimeoutNow from an aborted transfer is too late", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const { lastIndex, lastTerm, term } = net.status(1);
  net.drop = (m) => m.type === "TimeoutNow";
  net.node(1).transferLeadership(2, net.now);
  net.run(2 * electionTimeoutMs);
  net.node(2).step({ type: "TimeoutNow", from: 1, to: 2, term, lastIndex, lastTerm }, net.now);
  assert.equal(net.status(2).role, "follower");
});

test("R56: a TimeoutNow counts only from the leader of exactly this term", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const { lastIndex, lastTerm, term } = net.status(1);
  net.node(2).step({ type: "TimeoutNow", from: 3, to: 2, term, lastIndex, lastTerm }, net.now);
  assert.equal(net.status(2).role, "follower");
  net.node(2).step({ type: "TimeoutNow", from: 1, to: 2, term: term + 1, lastIndex, lastTerm }, net.now);
  assert.equal(net.status(2).role, "follower");
});

test("a target that lags is caught up first", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([1], [2]);
  for (let i = 0; i < 20; i += 1) net.propose(1, `${i}`);
  net.settle();
  net.heal();
  net.node(1).transferLeadership(2, net.now);
  net.run(500);
  assert.deepEqual(net.leaders(), [2]);
  assert.equal(net.data(2).length, 20);
});
