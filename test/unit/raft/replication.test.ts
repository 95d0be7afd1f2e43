import assert from "node:assert/strict";
import { test } from "node:test";
import type { Entry, Message, PersistentState } from "../../../src/raft/index.js";
import { createRaftNode, emptyState, RaftInvariantError } from "../../../src/raft/index.js";
import { electionTimeoutMs, Network, optionsFor, votersOf } from "./network.js";

const noop = (index: number, term: number): Entry => ({ type: "noop", index, term });

function withLog(entries: Entry[], term: number, commit = 0): PersistentState {
  return { ...emptyState(votersOf(1, 2, 3)), hardState: { term, vote: 0, commit }, entries };
}

function append(term: number, prev: [number, number], entries: Entry[], commit = 0): Message {
  return { type: "AppendEntries", from: 2, to: 1, term, prevIndex: prev[0], prevTerm: prev[1], entries, commit };
}

function follower(initial: PersistentState) {
  return createRaftNode(optionsFor(1, initial, () => 0));
}

test("paper 5.3: what the leader proposes is applied by all in the same order", () => {
  const net = new Network([1, 2, 3]);
  net.elect(2);
  for (const text of ["a", "b", "c"]) net.propose(2, text);
  net.settle();
  for (const id of [1, 2, 3]) assert.deepEqual(net.data(id), ["a", "b", "c"]);
});

test("R1: an ack waits for the disk; the leader's appends do not wait for its own", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.propose(1, "x");
  const atLeader = net.node(1).ready();
  assert.deepEqual(
    atLeader.messages.map((m) => m.type),
    ["AppendEntries", "AppendEntries"],
  );
  const [message] = atLeader.messages;
  assert.ok(message);
  net.deliver(message);
  const atFollower = net.node(message.to).ready();
  assert.deepEqual(atFollower.messages, []);
  assert.equal(atFollower.messagesAfterPersist[0]?.type, "AppendEntriesResponse");
});

test("proposals that wait for the same Ready make one append a follower, however many they are", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  for (let number = 0; number < 20; number += 1) net.propose(1, `p${number}`);
  const ready = net.node(1).ready();
  const sent = ready.messages.map((m) => (m.type === "AppendEntries" ? [m.to, m.entries.length] : [m.to, m.type]));
  assert.deepEqual(sent, [
    [2, 20],
    [3, 20],
  ]);
  assert.equal(ready.entries.length, 20, "and one write");
});

test("R4: the leader's own copy counts only once it is durable", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([1], [3]);
  const index = net.propose(1, "x");
  const ready = net.node(1).ready();
  for (const m of ready.messages) net.deliver(m);
  const answers = net.process(2).messagesAfterPersist;
  for (const m of answers) net.deliver(m);
  assert.equal(net.status(1).commit, index - 1, "one follower and an unsynced leader are no majority of three");
  net.node(1).advance(ready);
  assert.equal(net.status(1).commit, index);
});

test("R8: a commit index alone needs no sync", () => {
  const node = follower(withLog([noop(1, 1)], 1));
  node.step({ type: "Heartbeat", from: 2, to: 1, term: 1, commit: 1, round: 3 }, 0);
  const ready = node.ready();
  assert.deepEqual(ready.hardState, { term: 1, vote: 0, commit: 1 });
  assert.equal(ready.mustSync, false);
  assert.deepEqual(ready.committedEntries, [noop(1, 1)]);
});

test("R9 (paper 5.4.2): commits by counting only entries of its own term", () => {
  // Figure 8: node 1 has an entry of term 2 that a majority will hold, and leads in a later term.
  const node = follower(withLog([noop(1, 1), noop(2, 2)], 3));
  node.campaign(0);
  node.step({ type: "PreVoteResponse", from: 2, to: 1, term: 4, granted: true }, 0);
  node.advance(node.ready());
  node.step({ type: "RequestVoteResponse", from: 2, to: 1, term: 4, granted: true, elapsedMs: 0 }, 0);
  node.advance(node.ready());
  node.step({ type: "AppendEntriesResponse", from: 2, to: 1, term: 4, success: true, matchIndex: 2 }, 1);
  assert.equal(node.status().commit, 0);
  node.step({ type: "AppendEntriesResponse", from: 2, to: 1, term: 4, success: true, matchIndex: 3 }, 2);
  assert.equal(node.status().commit, 3, "R10: the no-op of its own term carries the older ones along");
});

test("R11: a late, shorter append deletes nothing", () => {
  const node = follower(withLog([noop(1, 1), noop(2, 1), noop(3, 1)], 1));
  node.step(append(1, [0, 0], [noop(1, 1)]), 0);
  assert.equal(node.status().lastIndex, 3);
});

test("R11: a conflict cuts the log from there, and storage is told so", () => {
  const node = follower(withLog([noop(1, 1), noop(2, 1), noop(3, 1)], 1, 1));
  node.step(append(2, [1, 1], [noop(2, 2)]), 0);
  const ready = node.ready();
  assert.deepEqual(ready.entries, [noop(2, 2)]);
  assert.equal(node.status().lastIndex, 2);
});

test("R12: a conflict below the commit index stops the node", () => {
  const node = follower(withLog([noop(1, 1), noop(2, 1)], 1, 1));
  node.step(append(1, [2, 1], [], 2), 0);
  node.step(append(2, [1, 1], [noop(2, 2)]), 1);
  assert.equal(node.status().lastTerm, 1, "an append that starts below the commit index is acknowledged, not obeyed");
  const restarted = () => follower({ ...withLog([noop(1, 1)], 1), hardState: { term: 1, vote: 0, commit: 2 } });
  assert.throws(restarted, RaftInvariantError, "a log that lost committed entries is not started");
});

test("R13, R51: a heartbeat that proves a lost log stops the node", () => {
  const node = follower(withLog([noop(1, 1)], 1));
  const heartbeat: Message = { type: "Heartbeat", from: 2, to: 1, term: 1, commit: 5, round: 0 };
  assert.throws(() => node.step(heartbeat, 0), RaftInvariantError);
});

test("R13: only what the message proved is committed", () => {
  const node = follower(withLog([noop(1, 1), noop(2, 1), noop(3, 1)], 1));
  node.step(append(2, [0, 0], [noop(1, 1)], 3), 0);
  assert.equal(node.status().commit, 1, "entries 2 and 3 may be another leader's");
});

test("R7: a write that was overtaken by a truncation does not mark the new entries durable", () => {
  const node = follower(withLog([noop(1, 1)], 1, 1));
  node.step(append(1, [1, 1], [noop(2, 1), noop(3, 1)]), 0);
  const first = node.ready();
  node.step(append(2, [1, 1], [noop(2, 2), noop(3, 2)]), 1);
  node.advance(first);
  assert.deepEqual(node.ready().entries, [noop(2, 2), noop(3, 2)]);
});

test("R7: the committed part of an overtaken write is durable, its rest is written again", () => {
  const node = follower(withLog([], 1));
  node.step(append(1, [0, 0], [noop(1, 1), noop(2, 1)], 1), 0);
  const first = node.ready();
  assert.deepEqual(first.committedEntries, [noop(1, 1)]);
  node.step(append(2, [1, 1], [noop(2, 2)]), 1);
  node.advance(first);
  assert.deepEqual(node.ready().entries, [noop(2, 2)]);
  assert.equal(node.compact(1).index, 1);
});

test("one Ready at a time", () => {
  const node = follower(withLog([], 1));
  node.step(append(1, [0, 0], [noop(1, 1)]), 0);
  const ready = node.ready();
  assert.equal(node.hasReady(), false);
  assert.throws(() => node.ready(), RaftInvariantError);
  node.advance(ready);
  assert.throws(() => node.advance(ready), RaftInvariantError);
});

test("R14: late acks and late rejections change nothing", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const index = net.propose(1, "x");
  net.settle();
  const before = net.status(1).progress;
  net.deliver({ type: "AppendEntriesResponse", from: 2, to: 1, term: 1, success: true, matchIndex: 1 });
  const late = {
    type: "AppendEntriesResponse",
    from: 2,
    to: 1,
    term: 1,
    success: false,
    rejectedIndex: index,
  } as const;
  net.deliver({ ...late, hintIndex: 0, hintTerm: 0 });
  assert.deepEqual(net.status(1).progress, before);
});

test("R15: a long divergent tail is found in one probe a term", () => {
  const tail = (term: number) => Array.from({ length: 300 }, (_, i) => noop(i + 2, term));
  const net = new Network([]);
  net.add(1, withLog([noop(1, 1), ...tail(3)], 3));
  net.add(2, withLog([noop(1, 1), ...tail(3)], 3));
  net.add(3, withLog([noop(1, 1), ...tail(2)], 2));
  let rejections = 0;
  net.drop = (m) => {
    if (m.type === "AppendEntriesResponse" && !m.success) rejections += 1;
    return false;
  };
  net.elect(1);
  net.run(300);
  assert.equal(net.status(3).lastIndex, net.status(1).lastIndex);
  assert.ok(rejections <= 3, `${rejections} rejections`);
});

test("R16: a follower whose whole window of appends was lost catches up again", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.drop = (m) => m.type === "AppendEntries" && m.to === 3;
  for (let i = 0; i < 30; i += 1) net.propose(1, `${i}`);
  net.run(300);
  net.heal();
  net.run(electionTimeoutMs);
  assert.equal(net.data(3).length, 30);
});

test("R16: an answer that says nothing new brings forth no append while the window is full", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const { match } = net.status(1).progress.find(({ id }) => id === 3) ?? assert.fail("no progress of 3");
  // Nothing reaches 3 any more; 2 commits more than fits into the window of 3.
  net.drop = (m) => m.to === 3;
  for (let i = 0; i < 30; i += 1) {
    net.propose(1, `${i}`);
    net.settle();
  }
  const { term, commit } = net.status(1);
  const progress = net.status(1).progress.find(({ id }) => id === 3);
  assert.ok(progress?.paused && commit > progress.next, "the window is full and ends below the commit index");
  const stale = { type: "AppendEntriesResponse", from: 3, to: 1, term, success: true, matchIndex: match } as const;
  for (let i = 0; i < 10; i += 1) net.node(1).step(stale, net.now);
  const sent = net.node(1).hasReady() ? net.process(1).messages : [];
  assert.deepEqual(sent, []);
});

test("R17: proposals above the limit of uncommitted bytes are refused until some are committed", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([1], [2, 3]);
  const half = new Uint8Array(600 * 1024);
  assert.equal(net.node(1).propose(half, net.now).ok, true);
  const second = net.node(1).propose(half, net.now);
  assert.ok(!second.ok && second.reason === "busy");
  net.heal();
  net.run(500);
  assert.equal(net.node(1).propose(half, net.now).ok, true);
});

test("the commit index is broadcast at once, without waiting for a heartbeat", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.propose(1, "x");
  net.settle();
  for (const id of [2, 3]) assert.deepEqual(net.data(id), ["x"], "no time has passed");
});

test("R36: appends are taken from a leader whom the own configuration does not know", () => {
  const node = createRaftNode(optionsFor(9, emptyState(), () => 0));
  node.step({ ...append(1, [0, 0], [noop(1, 1)], 1), to: 9 }, 0);
  assert.equal(node.status().commit, 1);
});

test("R60: answers of nodes outside the configuration are dropped", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([1], [2, 3]);
  const index = net.propose(1, "x");
  net.settle();
  for (const from of [8, 9]) {
    net
      .node(1)
      .step({ type: "AppendEntriesResponse", from, to: 1, term: 1, success: true, matchIndex: index }, net.now);
  }
  assert.equal(net.status(1).commit, index - 1);
});

test("entries are the core's own: the caller's buffer may be used again", () => {
  const net = new Network([1]);
  net.elect(1);
  const buffer = Buffer.from("x");
  net.node(1).propose(buffer, net.now);
  buffer.fill(0);
  net.settle();
  assert.deepEqual(net.data(1), ["x"]);
});
