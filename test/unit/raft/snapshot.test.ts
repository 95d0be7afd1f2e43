import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message, Snapshot } from "../../../src/raft/index.js";
import { createRaftNode, emptyState, RaftInvariantError } from "../../../src/raft/index.js";
import { electionTimeoutMs, Network, optionsFor, votersOf } from "./network.js";

const data = new Uint8Array([7]);
const snapshotAt = (index: number, term: number, ...voters: number[]): Snapshot => ({
  index,
  term,
  config: votersOf(...voters),
  data,
});
const install = (snapshot: Snapshot, term: number): Message => ({
  type: "InstallSnapshot",
  from: 2,
  to: 1,
  term,
  snapshot,
});

function compacted(): Network {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([3], [1, 2]);
  for (let i = 0; i < 10; i += 1) net.propose(1, `${i}`);
  net.settle();
  net.node(1).compact(net.status(1).applied, data);
  return net;
}

test("paper 7: a follower that needs compacted entries gets the snapshot and goes on from the log", () => {
  const net = compacted();
  net.heal();
  net.propose(1, "after");
  net.run(2 * electionTimeoutMs);
  assert.deepEqual(net.data(3), ["after"]);
  assert.equal(net.get(3).disk.snapshot.index, 11);
  assert.equal(net.status(1).progress.find((p) => p.id === 3)?.state, "replicate");
});

test("a lost snapshot is sent again; a reported failure too", () => {
  const net = compacted();
  net.heal();
  let lost = 0;
  net.drop = (m) => m.type === "InstallSnapshot" && lost++ < 2;
  net.run(5 * electionTimeoutMs);
  assert.ok(lost > 2);
  assert.equal(net.status(3).applied, 11);
  const again = compacted();
  again.heal();
  again.drop = (m) => m.type === "InstallSnapshot";
  again.run(200);
  again.heal();
  again.node(1).reportSnapshot(3, "failed");
  again.run(300);
  assert.equal(again.status(3).applied, 11);
});

test("R33: the snapshot carries the configuration as of its index, not the latest", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const index = net.propose(1, "x");
  net.settle();
  assert.ok(net.node(1).proposeConfChange({ transition: "auto", ops: [{ type: "addLearner", id: 4 }] }, net.now).ok);
  net.settle();
  const snapshot = net.node(1).compact(index, data);
  assert.deepEqual(snapshot.config, votersOf(1, 2, 3));
  assert.deepEqual(net.status(1).config.learners, [4]);
});

test("R41: a snapshot at or below the commit index is only answered; one in the log moves the commit index", () => {
  const initial = {
    ...emptyState(votersOf(1, 2, 3)),
    hardState: { term: 1, vote: 0, commit: 2 },
    entries: [1, 2, 3, 4].map((index) => ({ type: "noop", term: 1, index }) as const),
  };
  const node = createRaftNode(optionsFor(1, initial, () => 0));
  node.step(install(snapshotAt(2, 1, 8, 9), 1), 0);
  node.step(install(snapshotAt(3, 1, 8, 9), 1), 0);
  const ready = node.ready();
  assert.equal(ready.snapshot, undefined);
  assert.deepEqual(
    ready.messagesAfterPersist.map((m) => m.type === "InstallSnapshotResponse" && m.matchIndex),
    [2, 3],
  );
  assert.equal(node.status().lastIndex, 4);
});

test("R34: after an install the configuration is the snapshot's, and nothing of the old log is left", () => {
  const initial = {
    ...emptyState(votersOf(1, 2, 3)),
    hardState: { term: 1, vote: 0, commit: 0 },
    entries: [{ type: "config", term: 1, index: 1, config: votersOf(1) } as const],
  };
  const node = createRaftNode(optionsFor(1, initial, () => 0));
  node.step(install(snapshotAt(5, 2, 1, 2, 3, 4), 3), 0);
  const status = node.status();
  assert.deepEqual(
    [status.config.voters, status.firstIndex, status.lastIndex, status.lastTerm],
    [[1, 2, 3, 4], 6, 5, 2],
  );
});

test("R26, R43: while a snapshot is being installed nobody campaigns, and applying starts after it", () => {
  const node = createRaftNode(optionsFor(1, emptyState(votersOf(1)), () => 0));
  node.step(install(snapshotAt(5, 1, 1, 2), 1), 0);
  node.campaign(1);
  assert.equal(node.status().role, "follower");
  const entries = [{ type: "noop", term: 1, index: 6 }] as const;
  node.step({ type: "AppendEntries", from: 2, to: 1, term: 1, prevIndex: 5, prevTerm: 1, entries, commit: 6 }, 2);
  const ready = node.ready();
  assert.equal(ready.snapshot?.index, 5);
  assert.equal(ready.mustSync, true);
  assert.deepEqual(ready.committedEntries, entries);
  assert.deepEqual(ready.messages, []);
  node.advance(ready);
  assert.equal(node.status().applied, 6);
  node.campaign(3);
  assert.equal(node.status().role, "preCandidate");
});

test("compaction past what is applied is a fault of the caller", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  assert.throws(() => net.node(1).compact(99), RaftInvariantError);
});

test("R18: an empty log behind a snapshot votes by the snapshot's term and index", () => {
  const initial = {
    ...emptyState(),
    hardState: { term: 3, vote: 0, commit: 9 },
    snapshot: snapshotAt(9, 3, 1, 2, 3),
  } as const;
  const node = createRaftNode(optionsFor(1, initial, () => 0));
  node.step({ type: "RequestVote", from: 2, to: 1, term: 4, lastIndex: 8, lastTerm: 3, transfer: false }, 0);
  const [answer] = node.ready().messagesAfterPersist;
  assert.ok(answer?.type === "RequestVoteResponse" && !answer.granted);
});
