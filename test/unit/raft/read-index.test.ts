import assert from "node:assert/strict";
import { test } from "node:test";
import { electionTimeoutMs, Network } from "./network.js";

test("dissertation 6.4: a read on the leader is confirmed by a round that starts at once", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const index = net.propose(1, "x");
  net.settle();
  const token = net.node(1).readIndex(net.now);
  net.settle();
  assert.deepEqual(net.get(1).readStates, [{ token, index }]);
});

test("R54: without a majority a read is never answered, not even by the answer to an older round", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.node(1).readIndex(net.now);
  net.settle();
  net.get(1).readStates.length = 0;
  net.partition([1], [2, 3]);
  net.node(1).readIndex(net.now);
  net.settle();
  for (const from of [2, 3]) net.node(1).step({ type: "HeartbeatResponse", from, to: 1, term: 1, round: 1 }, net.now);
  net.settle();
  assert.deepEqual(net.get(1).readStates, []);
});

test("R54: a read waits for the first commit of the term", () => {
  const net = new Network([1, 2, 3]);
  net.drop = (m) => m.type === "AppendEntriesResponse";
  net.elect(1);
  net.node(1).readIndex(net.now);
  net.settle();
  assert.deepEqual(net.get(1).readStates, []);
  net.heal();
  net.run(300);
  assert.deepEqual(
    net.get(1).readStates.map((r) => r.index),
    [1],
  );
});

test("a lost round is repeated by the next heartbeat", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.drop = (m) => m.type === "Heartbeat";
  net.node(1).readIndex(net.now);
  net.settle();
  assert.deepEqual(net.get(1).readStates, []);
  net.heal();
  net.run(200);
  assert.equal(net.get(1).readStates.length, 1);
});

test("a read on a follower is forwarded and comes back under the follower's own token", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const index = net.propose(1, "x");
  net.settle();
  const tokens = [net.node(2).readIndex(net.now), net.node(2).readIndex(net.now)];
  net.settle();
  assert.deepEqual(
    net.get(2).readStates,
    tokens.map((token) => ({ token, index })),
  );
  assert.ok(tokens.every((token) => token.sequence < 0) && tokens[0]?.sequence !== tokens[1]?.sequence);
});

test("R54, R60: an answer that was not asked for in this life is dropped", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.node(2).step({ type: "ReadIndexResponse", from: 1, to: 2, term: 1, requestId: 1, index: 1 }, net.now);
  net.settle();
  assert.deepEqual(net.get(2).readStates, []);
});

test("reads of a deposed leader are dropped", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([1], [2, 3]);
  net.node(1).readIndex(net.now);
  net.run(6 * electionTimeoutMs);
  net.heal();
  net.run(2 * electionTimeoutMs);
  assert.deepEqual(net.get(1).readStates, []);
});

test("a single voter confirms its reads alone", () => {
  const net = new Network([1]);
  net.elect(1);
  const token = net.node(1).readIndex(net.now);
  net.settle();
  assert.deepEqual(net.get(1).readStates, [{ token, index: 1 }]);
});
