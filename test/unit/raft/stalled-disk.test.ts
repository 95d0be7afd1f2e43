/** A leader whose disk stalls (R28): its Ready is never advanced. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { electionTimeoutMs, heartbeatIntervalMs, Network } from "./network.js";

/** Node 1 leads and hangs in the write of a proposal. */
function stalled(): Network {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.propose(1, "x");
  net.queue.push(...net.node(1).ready().messages);
  return net;
}

test("R28: a leader whose disk stalls sends nothing, and the others elect another one", () => {
  const net = stalled();
  net.settle();
  net.run(2 * heartbeatIntervalMs);
  let sent = 0;
  net.drop = (m) => {
    if (m.from === 1) sent += 1;
    return false;
  };
  net.run(4 * electionTimeoutMs);
  assert.equal(sent, 0);
  assert.equal(net.leaders().length, 1);
  assert.notEqual(net.leaders()[0], 1);
});

test("R28: it steps down by itself after an election timeout, although every peer still answers it", () => {
  const net = stalled();
  const handedOutAt = net.now;
  const answer = () => {
    for (const from of [2, 3]) net.node(1).step({ type: "HeartbeatResponse", from, to: 1, term: 1, round: 0 }, net.now);
  };
  while (net.now < handedOutAt + electionTimeoutMs - 50) {
    net.now += 50;
    answer();
    net.node(1).tick(net.now);
    assert.equal(net.status(1).role, "leader");
  }
  net.now += 50;
  answer();
  net.node(1).tick(net.now);
  assert.equal(net.status(1).role, "follower");
  assert.equal(net.node(1).propose(new Uint8Array(1), net.now).ok, false);
});

test("R28: heartbeats do not pile up behind a stalled write", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.propose(1, "x");
  const ready = net.node(1).ready();
  for (let i = 0; i < 9; i += 1) {
    net.now += heartbeatIntervalMs;
    net.node(1).tick(net.now);
  }
  net.node(1).advance(ready);
  const heartbeats = net
    .node(1)
    .ready()
    .messages.filter((m) => m.type === "Heartbeat");
  assert.deepEqual(
    heartbeats.map((m) => m.to),
    [2, 3],
  );
});
