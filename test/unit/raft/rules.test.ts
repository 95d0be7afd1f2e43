/** Rules of docs/raft-rules.md that no other test of the core pins alone. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConfChange, Entry, Message, PersistentState } from "../../../src/raft/index.js";
import { createRaftNode, emptyState, RaftInvariantError } from "../../../src/raft/index.js";
import { RaftLog } from "../../../src/raft/log.js";
import { electionTimeoutMs as E, Network, optionsFor, votersOf } from "./network.js";

const noop = (index: number, term: number): Entry => ({ type: "noop", index, term });
const change = (type: "addVoter" | "addLearner" | "remove", id: number): ConfChange => ({
  transition: "auto",
  ops: [{ type, id }],
});

function withLog(entries: Entry[], term: number, commit = 0): PersistentState {
  return { ...emptyState(votersOf(1, 2, 3)), hardState: { term, vote: 0, commit }, entries };
}

function node(initial: PersistentState, random: () => number = () => 0) {
  return createRaftNode(optionsFor(1, initial, random));
}

test("R8: what a commit index promises is in the log that is durable with it, so compaction needs no commit index", () => {
  const follower = node(withLog([noop(1, 1)], 1, 1));
  follower.advance(follower.ready());
  const entries = [noop(2, 1)];
  follower.step({ type: "AppendEntries", from: 2, to: 1, term: 1, prevIndex: 1, prevTerm: 1, entries, commit: 2 }, 0);
  const ready = follower.ready();
  assert.deepEqual([ready.entries, ready.committedEntries, ready.mustSync], [entries, entries, true]);
  assert.throws(() => follower.compact(2), RaftInvariantError, "not before it is durable and applied");
  follower.advance(ready);
  const snapshot = follower.compact(2);
  // The disk lost the commit index, which nobody synced: the snapshot carries it.
  const restarted = node({ hardState: { term: 1, vote: 0, commit: 1 }, snapshot, entries: [] });
  assert.deepEqual([restarted.status().commit, restarted.status().applied], [2, 2]);
});

test("R10: the no-op goes out with the election itself, to followers whose progress is known already", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const { progress, term } = net.status(1);
  assert.deepEqual(
    progress.map(({ id, match }) => [id, match]),
    [
      [1, 1],
      [2, 1],
      [3, 1],
    ],
  );
  assert.deepEqual(net.get(1).disk.entries, [noop(1, term)]);
});

test("R12: a conflict below the commit index is a broken invariant, not a truncation", () => {
  const follower = node(withLog([noop(1, 1), noop(2, 1), noop(3, 1)], 1, 2));
  const entries = [noop(3, 2)];
  const append = { type: "AppendEntries", from: 2, to: 1, term: 2, prevIndex: 2, prevTerm: 1, commit: 2 } as const;
  follower.step({ ...append, entries }, 0);
  assert.equal(follower.status().lastTerm, 2, "above it the log is cut");
  const liar = [noop(1, 1), noop(2, 2)];
  const other = node(withLog([noop(1, 1), noop(2, 1)], 1, 0));
  other.step({ ...append, term: 1, prevIndex: 0, prevTerm: 0, entries: [noop(1, 1)], commit: 1 }, 0);
  // The leader of term 2 commits 1 in the same message that denies it elsewhere: prev is not below the commit index.
  other.step({ ...append, prevIndex: 1, prevTerm: 1, entries: liar.slice(1), commit: 2 }, 1);
  assert.equal(other.status().commit, 2);
  const snapshot = { index: 2, term: 9, config: votersOf(1, 2, 3), data: new Uint8Array(0) };
  other.step({ type: "InstallSnapshot", from: 2, to: 1, term: 9, snapshot }, 2);
  assert.equal(other.status().lastTerm, 2, "a snapshot at the commit index replaces nothing");
});

test("R14: a match never falls, and next stays above it", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  for (const text of ["a", "b", "c"]) net.propose(1, text);
  net.settle();
  const before = net.status(1).progress;
  const response = { type: "AppendEntriesResponse", from: 2, to: 1, term: net.status(1).term } as const;
  net.node(1).step({ ...response, success: true, matchIndex: 2 }, net.now);
  net.node(1).step({ ...response, success: false, rejectedIndex: 3, hintIndex: 0, hintTerm: 0 }, net.now);
  net.node(1).reportUnreachable(2);
  net.node(1).step({ ...response, success: false, rejectedIndex: 2, hintIndex: 0, hintTerm: 0 }, net.now);
  const after = net.status(1).progress;
  assert.deepEqual(
    after.map(({ match }) => match),
    before.map(({ match }) => match),
  );
  for (const { match, next } of after) assert.ok(next > match);
});

test("R16: a commit index that was lost on its way is told again by the next heartbeats", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const index = net.propose(1, "x");
  net.drop = (m) => m.to === 3 && m.type === "AppendEntries" && m.entries.length === 0;
  net.settle();
  assert.equal(net.status(1).commit, index);
  assert.ok(net.status(3).commit < index, "the append that carried it was lost");
  net.run(200);
  assert.equal(net.status(3).commit, index);
});

test("R16: a commit index is told once, at once, to a follower that holds what it covers", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.settle();
  let told = 0;
  net.drop = (m) => {
    if (m.to === 2 && m.type === "AppendEntries" && m.entries.length === 0) told += 1;
    return false;
  };
  const index = net.propose(1, "x");
  net.settle();
  assert.equal(net.status(2).commit, index);
  assert.equal(told, 1);
});

test("R17: the no-op, a configuration and empty proposals are never refused; one proposal always fits", () => {
  const leader = new Network([1, 2, 3], undefined, 1, { maxUncommittedBytes: 4 });
  leader.elect(1);
  leader.partition([1], [2, 3]);
  assert.ok(leader.node(1).propose(new Uint8Array(9), leader.now).ok, "a large one when nothing is uncommitted");
  const second = leader.node(1).propose(new Uint8Array(1), leader.now);
  assert.ok(!second.ok && second.reason === "busy");
  assert.ok(leader.node(1).proposeConfChange(change("addLearner", 4), leader.now).ok);
});

test("R17: what a new leader inherits uncommitted is counted, and its no-op is appended all the same", () => {
  const data = new Uint8Array(9);
  const initial = withLog([noop(1, 1), { type: "data", term: 1, index: 2, data }], 1, 1);
  const leader = createRaftNode({ ...optionsFor(1, initial, () => 0), maxUncommittedBytes: 4 });
  win(leader, 2);
  assert.equal(leader.status().lastIndex, 3);
  const refused = leader.propose(new Uint8Array(1), 0);
  assert.ok(!refused.ok && refused.reason === "busy");
  for (const matchIndex of [3]) {
    leader.step({ type: "AppendEntriesResponse", from: 2, to: 1, term: 2, success: true, matchIndex }, 1);
  }
  assert.ok(leader.propose(new Uint8Array(1), 1).ok);
});

/** Node 2 votes for node 1 in both rounds. */
function win(leader: ReturnType<typeof node>, term: number): void {
  leader.campaign(0);
  leader.step({ type: "PreVoteResponse", from: 2, to: 1, term, granted: true }, 0);
  leader.advance(leader.ready());
  leader.step({ type: "RequestVoteResponse", from: 2, to: 1, term, granted: true, elapsedMs: 0 }, 0);
  leader.advance(leader.ready());
  assert.equal(leader.status().role, "leader");
}

test("R22: appends, heartbeats, snapshots and pre-votes of an older term are answered with ours", () => {
  const snapshot = { index: 9, term: 1, config: votersOf(1, 2, 3), data: new Uint8Array(0) };
  const base = { from: 3, to: 1, term: 4 } as const;
  const stale: Message[] = [
    { ...base, type: "AppendEntries", prevIndex: 0, prevTerm: 0, entries: [], commit: 0 },
    { ...base, type: "Heartbeat", commit: 0, round: 0 },
    { ...base, type: "InstallSnapshot", snapshot },
    { ...base, type: "PreVote", lastIndex: 9, lastTerm: 3 },
    { ...base, type: "RequestVote", lastIndex: 9, lastTerm: 3, transfer: false },
  ];
  for (const message of stale) {
    const receiver = node(withLog([], 5));
    receiver.step(message, 0);
    const answers = receiver.ready().messagesAfterPersist;
    assert.deepEqual(
      answers.map(({ to, term }) => [to, term]),
      [[3, 5]],
      message.type,
    );
    assert.equal(receiver.status().leader, 0);
  }
});

test("R22: a node in a higher term that the others do not listen to gets the leader to step down, and comes back", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.crash(3);
  net.get(3).disk = { ...net.get(3).disk, hardState: { ...net.get(3).disk.hardState, term: 7 } };
  net.restart(3);
  net.run(6 * E);
  assert.equal(net.leaders().length, 1);
  assert.equal(net.status(3).leader, net.leaders()[0]);
});

test("R25: the election timeout is drawn anew at each change of role or term, within [E, 2E)", () => {
  const draws = [0, 0.5, 0.999, 0.25, 0.75];
  let drawn = 0;
  const voter = node(emptyState(votersOf(1, 2, 3)), () => draws[drawn++ % draws.length] as number);
  const timesOutAfter = (from: number, ms: number) => {
    const before = drawn;
    voter.tick(from + ms - 1);
    assert.equal(drawn, before, `not before ${ms} ms`);
    voter.tick(from + ms);
    assert.equal(drawn, before + 1, `after ${ms} ms, and a new draw`);
  };
  voter.tick(0);
  assert.equal(drawn, 1);
  timesOutAfter(0, E);
  assert.equal(voter.status().role, "preCandidate");
  timesOutAfter(E, 1.5 * E);
  // 0.999 of E; a higher term draws the next one instead of it.
  voter.step({ type: "Heartbeat", from: 2, to: 1, term: 5, commit: 0, round: 0 }, 3 * E);
  assert.equal(drawn, 4, "new term and role");
  timesOutAfter(3 * E, 1.25 * E);
  assert.equal(voter.status().role, "preCandidate");
  voter.step({ type: "PreVoteResponse", from: 3, to: 1, term: 6, granted: true }, 5 * E);
  assert.deepEqual([voter.status().role, drawn], ["candidate", 6]);
});

test("R26: a voter that only an uncommitted configuration leaves out campaigns, and does not count itself", () => {
  const without: Entry = { type: "config", term: 1, index: 1, config: votersOf(2) };
  const left = node({ ...withLog([without], 1), ...emptyless() });
  left.campaign(0);
  assert.equal(left.status().role, "preCandidate", "its own vote alone elects nobody");
  const committed = node({ ...withLog([without], 1, 1) });
  committed.campaign(0);
  assert.equal(committed.status().role, "follower");
});

function emptyless(): Pick<PersistentState, "snapshot"> {
  return { snapshot: emptyState(votersOf(1, 2)).snapshot };
}

test("R27: a leader that removes itself counts only the others, and its successor takes over without a timeout", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([3], [1, 2]);
  assert.ok(net.node(1).proposeConfChange(change("remove", 1), net.now).ok);
  net.settle();
  assert.equal(net.status(1).commit, 1, "node 2 alone is no majority of {2, 3}, with node 1 or without");
  assert.equal(net.status(1).role, "leader");
  net.heal();
  const sent: string[] = [];
  net.drop = (m) => {
    sent.push(m.type);
    return false;
  };
  net.run(300);
  assert.ok(sent.includes("TimeoutNow"), "the successor was told");
  assert.ok(net.leaders().length === 1 && net.leaders()[0] !== 1);
});

test("R30: a new leader changes no configuration while its inherited tail, which may hold one, is not committed", () => {
  const tail: Entry = { type: "config", term: 1, index: 2, config: { ...votersOf(1, 2, 3), learners: [4] } };
  const leader = node(withLog([noop(1, 1), tail], 1, 1));
  win(leader, 2);
  assert.deepEqual(leader.status().config.learners, [4], "in force, committed or not");
  const refused = leader.proposeConfChange(change("addLearner", 5), 1);
  assert.ok(!refused.ok && refused.reason === "busy");
});

test("R37: a learner that answers but lags behind what is committed does not become a voter", () => {
  const net = new Network([1, 2, 3]);
  net.add(4);
  net.elect(1);
  assert.ok(net.node(1).proposeConfChange(change("addLearner", 4), net.now).ok);
  net.settle();
  net.drop = (m) => m.to === 4 && m.type === "AppendEntries";
  net.propose(1, "x");
  net.run(300);
  const early = net.node(1).proposeConfChange(change("addVoter", 4), net.now);
  assert.ok(!early.ok && early.reason === "busy" && /caught up/.test(early.message));
  net.heal();
  net.run(300);
  assert.ok(net.node(1).proposeConfChange(change("addVoter", 4), net.now).ok);
});

test("R40: a round confirmed under one configuration and a vote under the one after the next share a node's memory", () => {
  const net = new Network([1, 2, 3]);
  for (const id of [4, 5]) net.add(id);
  net.elect(1);
  net.run(300);
  // The round of the lease: acknowledged by 1 and 2 of {1, 2, 3}, node 3 hears nothing of it.
  net.partition([3], [1, 2]);
  net.node(1).readIndex(net.now);
  net.settle();
  assert.equal(net.get(1).readStates.length, 1);
  const confirmedAt = net.now;
  net.heal();
  for (const id of [4, 5]) {
    for (const type of ["addLearner", "addVoter"] as const) {
      net.run(300);
      assert.ok(net.node(1).proposeConfChange(change(type, id), net.now).ok);
    }
  }
  net.run(300);
  // {3, 4, 5} is a majority of the five and shares no node with the round's quorum {1, 2}.
  net.partition([1, 2], [3, 4, 5]);
  net.run(8 * E);
  const [leader] = net.leaders();
  assert.ok(leader !== undefined && leader > 2);
  const { electedAtMs, electionElapsedMs } = net.status(leader);
  assert.ok(
    electedAtMs - electionElapsedMs >= confirmedAt,
    "whoever acknowledged the later configurations did so after the round: the hold reaches back no further",
  );
});

test("R43: a snapshot in the log moves the commit index instead of replacing the log, and nothing is applied twice", () => {
  const follower = node(withLog([noop(1, 1), noop(2, 1), noop(3, 1)], 1, 1));
  follower.advance(follower.ready());
  const snapshot = { index: 2, term: 1, config: votersOf(1, 2, 3), data: new Uint8Array(0) };
  follower.step({ type: "InstallSnapshot", from: 2, to: 1, term: 1, snapshot }, 0);
  const ready = follower.ready();
  assert.deepEqual([ready.snapshot, ready.committedEntries], [undefined, [noop(2, 1)]]);
});

test("R43: while a snapshot is being written, what follows it waits, and an append from the beginning is not taken", () => {
  const follower = node(emptyState());
  const snapshot = { index: 5, term: 1, config: votersOf(1, 2, 3), data: new Uint8Array(0) };
  follower.step({ type: "InstallSnapshot", from: 2, to: 1, term: 1, snapshot }, 0);
  const installing = follower.ready();
  assert.deepEqual([installing.snapshot?.index, installing.committedEntries], [5, []]);
  const append = { type: "AppendEntries", from: 2, to: 1, term: 1, prevTerm: 0, commit: 6 } as const;
  follower.step({ ...append, prevIndex: 0, entries: [noop(1, 1)] }, 1);
  follower.step({ ...append, prevIndex: 5, prevTerm: 1, entries: [noop(6, 1)] }, 2);
  assert.equal(follower.hasReady(), false);
  assert.throws(() => follower.compact(5), RaftInvariantError);
  follower.advance(installing);
  assert.deepEqual(follower.ready().committedEntries, [noop(6, 1)]);
});

test("R44: a snapshot of any index that lets replication go on is taken as an answer, not only the pending one", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([3], [1, 2]);
  for (let i = 0; i < 10; i += 1) net.propose(1, `${i}`);
  net.settle();
  net.node(1).compact(5);
  net.heal();
  net.drop = (m) => m.type === "InstallSnapshot";
  net.run(200);
  assert.equal(net.status(1).progress.find(({ id }) => id === 3)?.state, "snapshot");
  // Another way brought node 3 further than the pending snapshot: its answer alone says so.
  const { term, lastIndex } = net.status(1);
  net.node(1).step({ type: "InstallSnapshotResponse", from: 3, to: 1, term, matchIndex: lastIndex - 2 }, net.now);
  const progress = net.status(1).progress.find(({ id }) => id === 3);
  assert.deepEqual([progress?.state, progress?.match], ["replicate", lastIndex - 2]);
});

test("R53: a term beyond reach is dropped in every message, and the last usable term is refused at the border", () => {
  const messages: Message[] = [
    { type: "Heartbeat", from: 2, to: 1, term: 2 ** 32 + 2, commit: 0, round: 0 },
    { type: "RequestVoteResponse", from: 2, to: 1, term: 2 ** 32 + 2, granted: false, elapsedMs: 0 },
    { type: "PreVote", from: 2, to: 1, term: 2 ** 33, lastIndex: 0, lastTerm: 0 },
  ];
  for (const message of messages) {
    const receiver = node(withLog([], 1));
    receiver.step(message, 0);
    assert.deepEqual([receiver.status().term, receiver.hasReady()], [1, false]);
  }
  const reachable = node(withLog([], 1));
  reachable.step({ type: "Heartbeat", from: 2, to: 1, term: 2 ** 32 + 1, commit: 0, round: 0 }, 0);
  assert.equal(reachable.status().term, 2 ** 32 + 1);
});

test("R56: the vote that a transfer asks for is forced for nobody but the target that the leader named", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.run(300);
  const asked: Message[] = [];
  net.drop = (m) => {
    if (m.type === "RequestVote") asked.push(m);
    return false;
  };
  net.node(1).transferLeadership(2, net.now);
  net.settle();
  assert.deepEqual(
    asked.map((m) => [m.from, m.type === "RequestVote" && m.transfer]),
    [
      [2, true],
      [2, true],
    ],
  );
  net.node(3).campaign(net.now);
  net.settle();
  assert.deepEqual(net.leaders(), [2], "node 3 asks like anybody else and is not listened to");
});

test("R59: a transfer ends when its target is removed or demoted", () => {
  for (const type of ["remove", "addLearner"] as const) {
    const net = new Network([1, 2, 3]);
    net.elect(1);
    assert.ok(net.node(1).proposeConfChange(change(type, 3), net.now).ok);
    net.node(1).transferLeadership(3, net.now);
    assert.ok(net.node(1).propose(new Uint8Array(1), net.now).ok, `${type}: no transfer to who is leaving`);
  }
});

test("R59: a transfer under way ends when a joint configuration is left without its target", () => {
  const net = new Network([1, 2, 3]);
  net.add(4);
  net.elect(1);
  const ops = [
    { type: "remove", id: 3 },
    { type: "addVoter", id: 4 },
  ] as const;
  assert.ok(net.node(1).proposeConfChange({ transition: "auto", ops }, net.now).ok);
  net.drop = (m) => m.type === "TimeoutNow";
  net.node(1).transferLeadership(3, net.now);
  const refused = net.node(1).propose(new Uint8Array(1), net.now);
  assert.ok(!refused.ok && refused.reason === "transferring", "it still votes in the outgoing half");
  net.settle();
  assert.deepEqual(net.status(1).config.voters, [1, 2, 4]);
  assert.ok(net.node(1).propose(new Uint8Array(1), net.now).ok, "no time has passed");
});

test("R13: a heartbeat carries no more than the follower is known to hold", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.partition([1], [3]);
  const index = net.propose(1, "x");
  net.settle();
  assert.equal(net.status(1).commit, index);
  net.node(1).tick(net.now + 200);
  const heartbeats = net
    .node(1)
    .ready()
    .messages.flatMap((m) => (m.type === "Heartbeat" ? [[m.to, m.commit]] : []));
  assert.deepEqual(heartbeats, [
    [2, index],
    [3, index - 1],
  ]);
});

test("R21: a pre-candidate knows no leader, and grants another one's pre-vote", () => {
  const candidate = node(withLog([], 5));
  candidate.step({ type: "Heartbeat", from: 2, to: 1, term: 5, commit: 0, round: 0 }, 0);
  candidate.tick(E);
  assert.deepEqual([candidate.status().role, candidate.status().leader], ["preCandidate", 0]);
  candidate.step({ type: "PreVote", from: 3, to: 1, term: 6, lastIndex: 0, lastTerm: 0 }, E);
  const answer = candidate.ready().messagesAfterPersist.at(-1);
  assert.ok(answer?.type === "PreVoteResponse" && answer.granted);
});

test("R12: the log itself refuses to cut what is committed, whoever asks for it", () => {
  const log = new RaftLog(withLog([noop(1, 1), noop(2, 1), noop(3, 1)], 2, 2));
  assert.throws(() => log.appendMatching([noop(2, 2)]), RaftInvariantError);
  assert.deepEqual([log.lastIndex, log.lastTerm], [3, 1]);
  log.appendMatching([noop(3, 2)]);
  assert.equal(log.lastTerm, 2);
});

test("R15: a long tail of a later term on the follower is skipped in one probe as well", () => {
  const tail = (term: number) => Array.from({ length: 100 }, (_, i) => noop(i + 2, term));
  const net = new Network([]);
  net.add(1, withLog([noop(1, 1), ...tail(2), noop(102, 4)], 4));
  net.add(2, withLog([noop(1, 1), ...tail(2), noop(102, 4)], 4));
  net.add(3, withLog([noop(1, 1), ...tail(3)], 4));
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

test("R18: a shorter log with a later last term may lead, as in a dictionary", () => {
  const voter = node(withLog([noop(1, 1), noop(2, 3), noop(3, 3)], 3));
  const request = { type: "RequestVote", from: 2, to: 1, term: 5, transfer: false } as const;
  voter.step({ ...request, lastIndex: 2, lastTerm: 4 }, 0);
  assert.equal(voter.status().vote, 2);
});

test("R20: a pre-vote leaves the leader, the vote and the election timer as they are", () => {
  let drawn = 0;
  const follower = node(withLog([], 5), () => {
    drawn += 1;
    return 0;
  });
  follower.step({ type: "Heartbeat", from: 2, to: 1, term: 5, commit: 0, round: 0 }, 0);
  const before = [drawn, follower.status()];
  follower.reportUnreachable(3);
  follower.step({ type: "PreVote", from: 3, to: 1, term: 6, lastIndex: 9, lastTerm: 5 }, E);
  const answer = follower.ready().messagesAfterPersist.at(-1);
  assert.ok(answer?.type === "PreVoteResponse" && answer.granted);
  assert.deepEqual([drawn, follower.status()], before);
  follower.tick(E);
  assert.equal(follower.status().role, "preCandidate", "its own timer ran on");
});

test("R37: a learner that has caught up but fell silent does not become a voter", () => {
  const net = new Network([1, 2, 3]);
  net.add(4);
  net.elect(1);
  assert.ok(net.node(1).proposeConfChange(change("addLearner", 4), net.now).ok);
  net.run(300);
  net.partition([4], [1, 2, 3]);
  net.run(2 * E);
  const row = net.status(1).progress.find(({ id }) => id === 4);
  assert.deepEqual([row?.state, row?.match], ["replicate", net.status(1).commit]);
  const silent = net.node(1).proposeConfChange(change("addVoter", 4), net.now);
  assert.ok(!silent.ok && silent.reason === "busy" && /does not answer/.test(silent.message));
});

test("R54: a new leader answers no read from what it knew committed before its own term", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  net.propose(1, "x");
  net.settle();
  net.node(1).transferLeadership(2, net.now);
  net.drop = (m) => m.type === "AppendEntriesResponse" && m.to === 2;
  net.settle();
  assert.equal(net.status(2).role, "leader");
  net.node(2).readIndex(net.now);
  net.settle();
  assert.deepEqual(net.get(2).readStates, []);
  net.heal();
  net.run(300);
  assert.deepEqual(
    net.get(2).readStates.map(({ index }) => index),
    [net.status(2).commit],
  );
});

test("R56: a candidate that no leader named asks for no forced vote", () => {
  const net = new Network([1, 2, 3]);
  const forced: boolean[] = [];
  net.drop = (m) => {
    if (m.type === "RequestVote") forced.push(m.transfer);
    return false;
  };
  net.elect(1);
  assert.deepEqual(forced, [false, false]);
});

test("R23: a new peer counts as just heard from, or the leader would depose itself at once", () => {
  const net = new Network([1]);
  net.elect(1);
  net.run(5 * E);
  assert.ok(net.node(1).proposeConfChange(change("addVoter", 2), net.now).ok);
  net.run(E / 2);
  assert.equal(net.status(1).role, "leader");
  net.run(E);
  assert.equal(net.status(1).role, "follower", "but not for longer than anybody else");
});
