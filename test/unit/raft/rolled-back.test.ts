/** Disks that come back older than they were (R51), and what a young life may do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message, PersistentState } from "../../../src/raft/index.js";
import { createRaftNode, emptyState, RaftInvariantError, RolledBackError } from "../../../src/raft/index.js";
import { electionTimeoutMs, Network, optionsFor, votersOf } from "./network.js";

const entries = [1, 2, 3].map((index) => ({ type: "noop", term: 2, index }) as const);
const state: PersistentState = {
  ...emptyState(votersOf(1, 2, 3)),
  hardState: { term: 2, vote: 2, commit: 1 },
  entries,
};
const base = { from: 2, to: 1 } as const;
const logEnd = { lastIndex: 9, lastTerm: 2 } as const;

function restarted(restartGraceMs = 0) {
  return createRaftNode({ ...optionsFor(1, state, () => 0), restartGraceMs });
}

function stops(message: Message): void {
  assert.throws(
    () => restarted().step(message, 0),
    (error) =>
      error instanceof RolledBackError &&
      error instanceof RaftInvariantError &&
      error.code === "RAFT_ROLLED_BACK" &&
      /state directory/.test(error.message),
  );
}

test("R51: the leader of the own term, or of a later one in which it acknowledged, proves a log that became shorter", () => {
  const heartbeat = { ...base, type: "Heartbeat", commit: 1, round: 0 } as const;
  stops({ ...heartbeat, term: 2, heldIndex: 4 });
  stops({ ...heartbeat, term: 3, heldIndex: 4, reachedTerm: 3 });
  const node = restarted();
  node.step({ ...heartbeat, term: 2, heldIndex: 3, reachedTerm: 2 }, 0);
  node.step({ ...heartbeat, from: 3, term: 1, heldIndex: 9, reachedTerm: 1 }, 0);
  assert.equal(node.status().term, 2, "what a leader of an older term counted may have been cut off since");
});

test("R51: whoever asks for a vote, or answers, proves a term or a committed log that was forgotten", () => {
  for (const memory of [{ reachedTerm: 3 }, { heldIndex: 4 }]) {
    stops({ ...base, ...logEnd, ...memory, type: "PreVote", term: 3 });
    stops({ ...base, ...logEnd, ...memory, type: "RequestVote", term: 3, transfer: false });
    stops({ ...base, ...memory, type: "PreVoteResponse", term: 3, granted: true });
    stops({ ...base, ...memory, type: "RequestVoteResponse", term: 2, granted: false, elapsedMs: 0 });
  }
  restarted().step({ ...base, ...logEnd, type: "PreVote", term: 3, reachedTerm: 2, heldIndex: 3 }, 0);
});

/** Node 3's disk as it was before the last proposals, which node 3 has acknowledged. */
function rolledBack(): Network {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const old = net.get(3).disk;
  for (const text of ["a", "b"]) net.propose(1, text);
  net.settle();
  net.crash(3);
  net.get(3).disk = old;
  net.restart(3);
  return net;
}

test("R51: a node whose disk was rolled back stops at the first heartbeat", () => {
  const net = rolledBack();
  assert.throws(() => net.run(200), RolledBackError);
});

test("R51: the others know from the leader what a node held, and prove it when that leader is gone", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const old = net.get(3).disk;
  net.propose(1, "a");
  net.settle();
  net.run(200);
  net.crash(1);
  net.get(3).disk = old;
  net.restart(3);
  net.node(2).reportUnreachable(1);
  assert.throws(() => net.run(3 * electionTimeoutMs), RolledBackError);
  assert.notEqual(net.status(2).role, "leader");
});

test("R51: what a leader knew of its followers it still knows when it leads no more", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const old = net.get(3).disk;
  net.propose(1, "a");
  // No heartbeat passes: only the leader itself knows.
  net.settle();
  net.partition([1], [2]);
  net.crash(3);
  net.run(2 * electionTimeoutMs);
  assert.notEqual(net.status(1).role, "leader");
  net.get(3).disk = old;
  net.restart(3);
  assert.throws(() => net.run(4 * electionTimeoutMs), RolledBackError);
});

test("R51: a young life gives no vote, but to the candidate that its leader names", () => {
  const request = { ...base, ...logEnd, type: "RequestVote", transfer: false } as const;
  const node = restarted(electionTimeoutMs);
  node.tick(5000);
  node.advance(node.ready());
  node.step({ ...request, term: 2 }, 5000);
  node.step({ ...request, term: 3 }, 5000 + electionTimeoutMs - 1);
  node.step({ ...base, ...logEnd, type: "PreVote", term: 3 }, 5000 + electionTimeoutMs - 1);
  assert.equal(node.hasReady(), false);
  assert.equal(node.status().term, 2);
  node.step({ ...request, term: 3 }, 5000 + electionTimeoutMs);
  assert.equal(node.status().vote, 2);
  const asked = restarted(electionTimeoutMs);
  asked.step({ ...request, term: 3, transfer: true }, 5000);
  assert.equal(asked.status().vote, 2);
});

test("R51: with the grace, a cluster that lost its power as a whole elects a leader again", () => {
  const net = new Network([1, 2, 3], undefined, 3, { restartGraceMs: electionTimeoutMs });
  net.run(4 * electionTimeoutMs);
  assert.equal(net.leaders().length, 1);
  for (const id of [1, 2, 3]) {
    net.crash(id);
    net.run(300);
  }
  for (const id of [1, 2, 3]) {
    net.restart(id);
    net.run(300);
  }
  net.run(6 * electionTimeoutMs);
  assert.equal(net.leaders().length, 1);
});

test("R51: honest nodes are never accused, however late and often messages come", () => {
  const net = new Network([1, 2, 3]);
  const kept: Message[] = [];
  net.drop = (m) => {
    kept.push(m);
    return false;
  };
  for (const leader of [1, 2, 3, 1]) {
    net.run(2 * electionTimeoutMs);
    net.elect(net.leaders()[0] === leader ? leader : leaderAfterTransfer(net, leader));
    net.propose(leader, `${leader}`);
    net.settle();
    net.crash(leader);
    net.restart(leader);
  }
  net.drop = () => false;
  for (const message of kept) net.deliver(message);
  net.settle();
  net.run(3 * electionTimeoutMs);
  assert.equal(net.leaders().length, 1);
});

function leaderAfterTransfer(net: Network, to: number): number {
  net.node(net.leaders()[0] as number).transferLeadership(to, net.now);
  net.settle();
  return to;
}
