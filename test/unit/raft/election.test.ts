import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "../../../src/raft/index.js";
import { createRaftNode, emptyState } from "../../../src/raft/index.js";
import { electionTimeoutMs, heartbeatIntervalMs, Network, optionsFor, votersOf } from "./network.js";

function single(random = () => 0.5) {
  return createRaftNode(optionsFor(1, emptyState(votersOf(1, 2, 3)), random));
}

function voteRequest(from: number, term: number, extra: object = {}): Message {
  return { type: "RequestVote", from, to: 1, term, lastIndex: 0, lastTerm: 0, transfer: false, ...extra };
}

test("paper 5.2: the first node to time out is elected, once per term", () => {
  const net = new Network([1, 2, 3]);
  net.run(3 * electionTimeoutMs);
  assert.equal(net.leaders().length, 1);
  for (const m of net.machines.values()) assert.equal(m.status().leader, net.leaders()[0]);
});

test("a single voter elects itself at the first tick past its timeout and commits after its own write", () => {
  const net = new Network([1]);
  net.run(2 * electionTimeoutMs);
  assert.equal(net.status(1).role, "leader");
  net.propose(1, "x");
  assert.equal(net.status(1).commit, 1, "not before the entry is durable");
  net.settle();
  assert.deepEqual(net.data(1), ["x"]);
});

test("R1, R2: term and vote are one durable record, and the response leaves only after it", () => {
  const node = single();
  node.step(voteRequest(2, 5), 0);
  const ready = node.ready();
  assert.deepEqual(ready.hardState, { term: 5, vote: 2, commit: 0 });
  assert.equal(ready.mustSync, true);
  assert.deepEqual(ready.messages, []);
  assert.equal(ready.messagesAfterPersist[0]?.type, "RequestVoteResponse");
});

test("R1: refusals wait for the disk too", () => {
  const node = single();
  node.step(voteRequest(2, 5), 0);
  node.step(voteRequest(3, 5), 0);
  const ready = node.ready();
  const answers = ready.messagesAfterPersist.map((m) => m.type === "RequestVoteResponse" && m.granted);
  assert.deepEqual(answers, [true, false], "R5: one vote a term");
  assert.deepEqual(ready.messages, []);
});

test("R5: a repeated request gets the same answer", () => {
  const node = single();
  node.step(voteRequest(2, 5), 0);
  node.step(voteRequest(2, 5), 1);
  const granted = node.ready().messagesAfterPersist.map((m) => m.type === "RequestVoteResponse" && m.granted);
  assert.deepEqual(granted, [true, true]);
});

test("R4: the vote for oneself counts only once it is durable, and never for a later term", () => {
  const node = createRaftNode(optionsFor(1, emptyState(votersOf(1)), () => 0));
  node.campaign(0);
  assert.equal(node.status().role, "candidate");
  const ready = node.ready();
  assert.deepEqual(ready.hardState, { term: 1, vote: 1, commit: 0 });
  assert.equal(node.status().role, "candidate");
  node.step({ type: "Heartbeat", from: 2, to: 1, term: 2, commit: 0, round: 0 }, 1);
  node.advance(ready);
  assert.equal(node.status().role, "follower", "the election was lost before the vote was durable");
});

test("R18 (paper 5.4.1): logs compare by last term first, then by length", () => {
  const initial = {
    ...emptyState(votersOf(1, 2, 3)),
    hardState: { term: 3, vote: 0, commit: 0 },
    entries: [{ type: "noop", term: 3, index: 1 }] as const,
  };
  const node = createRaftNode(optionsFor(1, initial, () => 0));
  node.step(voteRequest(2, 4, { lastIndex: 9, lastTerm: 2 }), 0);
  node.step(voteRequest(3, 4, { lastIndex: 1, lastTerm: 3 }), 0);
  const granted = node.ready().messagesAfterPersist.map((m) => m.type === "RequestVoteResponse" && m.granted);
  assert.deepEqual(granted, [false, true]);
});

test("R19: who hears a live leader does not look at a higher term's request, unless the leader named the candidate", () => {
  const node = single();
  node.step({ type: "Heartbeat", from: 2, to: 1, term: 5, commit: 0, round: 0 }, 0);
  node.step(voteRequest(3, 9), electionTimeoutMs - 1);
  assert.equal(node.status().term, 5);
  node.step(voteRequest(3, 9, { transfer: true }), electionTimeoutMs - 1);
  assert.equal(node.status().term, 9);
  assert.equal(node.status().vote, 3);
});

test("R20: a pre-vote changes nothing and is answered with the term that was asked for, a refusal with our own", () => {
  const node = single();
  node.step({ type: "PreVote", from: 2, to: 1, term: 7, lastIndex: 0, lastTerm: 0 }, 0);
  node.step({ type: "PreVote", from: 2, to: 1, term: 0, lastIndex: 0, lastTerm: 0 }, 0);
  const ready = node.ready();
  assert.equal(ready.hardState, undefined);
  assert.deepEqual(
    ready.messagesAfterPersist.map((m) => [m.term, m.type === "PreVoteResponse" && m.granted]),
    [
      [7, true],
      [0, false],
    ],
  );
  assert.equal(node.status().term, 0);
});

test("R21: two followers of a dead leader elect one of them", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.crash(1);
  net.run(6 * electionTimeoutMs);
  assert.equal(net.leaders().length, 1);
});

test("R22: a leader of an older term learns of ours from the answer", () => {
  const node = single();
  node.step(voteRequest(2, 5), 0);
  node.advance(node.ready());
  node.step({ type: "Heartbeat", from: 3, to: 1, term: 4, commit: 0, round: 0 }, 1);
  const [answer] = node.ready().messagesAfterPersist;
  assert.equal(answer?.term, 5);
  assert.equal(answer?.to, 3);
});

test("R23: a leader that no majority answers steps down after one election timeout", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([1], [2, 3]);
  net.run(electionTimeoutMs);
  assert.equal(net.status(1).role, "follower");
  const refused = net.node(1).propose(new Uint8Array(1), net.now);
  assert.equal(refused.ok, false);
});

test("R6, R19, R20: a node that was cut off comes back without disturbing the leader", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([3], [1, 2]);
  net.run(10 * electionTimeoutMs);
  net.heal();
  net.run(2 * electionTimeoutMs);
  assert.deepEqual(net.leaders(), [1]);
  assert.equal(net.status(3).term, net.status(1).term, "pre-votes raised no term");
});

test("R24: a node that hears nobody but is heard cannot depose the leader", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.cut.add("1>3");
  net.run(10 * electionTimeoutMs);
  assert.deepEqual(net.leaders(), [1]);
  assert.equal(net.status(1).term, 1);
});

test("R26: who is no voter, or knows no configuration, never campaigns by any path; it votes when asked (R36)", () => {
  const node = createRaftNode(optionsFor(1, emptyState(), () => 0));
  for (let now = 0; now < 10 * electionTimeoutMs; now += 100) node.tick(now);
  node.campaign(10 * electionTimeoutMs);
  assert.equal(node.status().role, "follower");
  node.step(voteRequest(2, 3), 10 * electionTimeoutMs);
  assert.equal(node.status().vote, 2);
});

test("R52: a restarted leader is a follower that knows no leader and keeps term, vote and log", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.propose(1, "x");
  net.settle();
  const before = net.status(1);
  net.crash(1);
  net.restart(1);
  const after = net.status(1);
  assert.deepEqual([after.role, after.leader, after.term, after.vote], ["follower", 0, before.term, 1]);
  assert.equal(after.lastIndex, before.lastIndex);
});

test("R53: a term far out of reach is not adopted", () => {
  const node = single();
  node.step(voteRequest(2, 2 ** 40), 0);
  assert.equal(node.status().term, 0);
});

test("the end of the leader's connection waives stickiness and shortens the timer; hearing it again restores both", () => {
  const node = single(() => 0.99);
  node.step({ type: "Heartbeat", from: 2, to: 1, term: 5, commit: 0, round: 0 }, 0);
  node.reportUnreachable(3);
  node.tick(3 * heartbeatIntervalMs);
  assert.equal(node.status().role, "follower", "another peer's connection means nothing");
  node.reportUnreachable(2);
  node.step({ type: "Heartbeat", from: 2, to: 1, term: 5, commit: 0, round: 0 }, 300);
  node.step(voteRequest(3, 9), 301);
  node.tick(300 + electionTimeoutMs - 1);
  assert.deepEqual([node.status().role, node.status().term], ["follower", 5]);
  node.reportUnreachable(2);
  node.step({ type: "PreVote", from: 3, to: 1, term: 6, lastIndex: 0, lastTerm: 0 }, 1299);
  const answer = node.ready().messagesAfterPersist.at(-1);
  assert.ok(answer?.type === "PreVoteResponse" && answer.granted);
  node.tick(1299 + 3 * heartbeatIntervalMs);
  assert.equal(node.status().role, "preCandidate");
});

test("reference 4.2: a granted vote says how long ago a leader was acknowledged; restart and leadership count as now", () => {
  const node = single();
  node.step({ type: "Heartbeat", from: 2, to: 1, term: 5, commit: 0, round: 0 }, 100);
  node.step(voteRequest(3, 9), 100 + 3 * electionTimeoutMs);
  const vote = node.ready().messagesAfterPersist.at(-1);
  assert.ok(vote?.type === "RequestVoteResponse");
  assert.equal(vote.elapsedMs, 3 * electionTimeoutMs);
  const fresh = single();
  fresh.step(voteRequest(3, 9), 5000);
  const first = fresh.ready().messagesAfterPersist[0];
  assert.ok(first?.type === "RequestVoteResponse");
  assert.equal(first.elapsedMs, 0, "R57: the clock of contact starts with the process");
});

test("reference 4.2: a new leader knows the shortest time since any of its voters acknowledged one", () => {
  const node = createRaftNode(optionsFor(1, emptyState(votersOf(1, 2, 3)), () => 0));
  node.tick(0);
  node.campaign(5000);
  node.step({ type: "PreVoteResponse", from: 2, to: 1, term: 1, granted: true }, 5000);
  const ready = node.ready();
  node.advance(ready);
  node.step({ type: "RequestVoteResponse", from: 2, to: 1, term: 1, granted: true, elapsedMs: 700 }, 5001);
  const status = node.status();
  assert.deepEqual([status.role, status.electionElapsedMs, status.electedAtMs], ["leader", 700, 5001]);
  assert.equal(status.termCommitted, false);
});

test("reference 4.2: a leader that is voted out has acknowledged itself until that moment", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.run(5 * electionTimeoutMs);
  const { term, lastIndex, lastTerm } = net.status(1);
  const request = { type: "RequestVote", from: 2, to: 1, term: term + 1, lastIndex, lastTerm, transfer: true } as const;
  net.node(1).step(request, net.now);
  const vote = net.node(1).ready().messagesAfterPersist.at(-1);
  assert.ok(vote?.type === "RequestVoteResponse" && vote.granted);
  assert.equal(vote.elapsedMs, 0);
});
