/** The surface that independent tools drive the core with: names, shapes and results. Additions must be optional. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type {
  Configuration,
  LogIndex,
  Message,
  Millis,
  NodeId,
  PersistentState,
  ProposeResult,
  RaftNode,
  RaftOptions,
  ReadState,
  ReadToken,
  Ready,
  Status,
  Term,
} from "../../../src/raft/index.js";
import * as surface from "../../../src/raft/index.js";
import { NaiveCluster } from "./naive-driver.js";
import { Network, optionsFor, votersOf } from "./network.js";

/** Compiles only while a tool that names exactly these fields, and no other, can build the options and use the rest. */
const options: RaftOptions = {
  id: 1 satisfies NodeId,
  electionTimeoutMs: 1000,
  heartbeatIntervalMs: 100,
  random: () => 0,
  maxBytesPerAppend: 1024,
  maxInflightAppends: 8,
  maxUncommittedBytes: 1024,
  initial: {
    hardState: { term: 0 satisfies Term, vote: 0, commit: 0 satisfies LogIndex },
    snapshot: {
      index: 0,
      term: 0,
      config: { voters: [1], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
      data: new Uint8Array(0),
    },
    entries: [],
  } satisfies PersistentState,
};

const messageTypes = [
  "RequestVote",
  "RequestVoteResponse",
  "PreVote",
  "PreVoteResponse",
  "AppendEntries",
  "AppendEntriesResponse",
  "Heartbeat",
  "HeartbeatResponse",
  "InstallSnapshot",
  "InstallSnapshotResponse",
  "TimeoutNow",
  "ReadIndex",
  "ReadIndexResponse",
] as const;
type Listed = (typeof messageTypes)[number];
/** Neither a type that is missing here nor one too many compiles. */
const complete: [Message["type"], Listed] extends [Listed, Message["type"]] ? true : never = true;

/** Each message with the fields that the field's literature gives it, and none of our additions. */
const plain: readonly Message[] = [
  { type: "RequestVote", from: 2, to: 1, term: 1, lastIndex: 0, lastTerm: 0, transfer: false },
  { type: "RequestVoteResponse", from: 2, to: 1, term: 1, granted: true, elapsedMs: 0 },
  { type: "PreVote", from: 2, to: 1, term: 1, lastIndex: 0, lastTerm: 0 },
  { type: "PreVoteResponse", from: 2, to: 1, term: 1, granted: true },
  { type: "AppendEntries", from: 2, to: 1, term: 1, prevIndex: 0, prevTerm: 0, entries: [], commit: 0 },
  { type: "AppendEntriesResponse", from: 2, to: 1, term: 1, success: true, matchIndex: 0 },
  {
    type: "AppendEntriesResponse",
    from: 2,
    to: 1,
    term: 1,
    success: false,
    rejectedIndex: 0,
    hintIndex: 0,
    hintTerm: 0,
  },
  { type: "Heartbeat", from: 2, to: 1, term: 1, commit: 0, round: 0 },
  { type: "HeartbeatResponse", from: 2, to: 1, term: 1, round: 0 },
  {
    type: "InstallSnapshot",
    from: 2,
    to: 1,
    term: 1,
    snapshot: { index: 1, term: 1, config: votersOf(1, 2), data: new Uint8Array(0) },
  },
  { type: "InstallSnapshotResponse", from: 2, to: 1, term: 1, matchIndex: 0 },
  { type: "TimeoutNow", from: 2, to: 1, term: 1, lastIndex: 0, lastTerm: 0 },
  { type: "ReadIndex", from: 2, to: 1, term: 1, requestId: 1 },
  { type: "ReadIndexResponse", from: 2, to: 1, term: 1, requestId: 1, index: 0 },
];

test("the exported names", () => {
  const functions = [
    "createRaftNode",
    "committedIndex",
    "tallyVotes",
    "simpleChange",
    "enterJoint",
    "leaveJoint",
    "validateMessage",
    "emptyState",
  ] as const;
  const exported = new Map<string, unknown>(Object.entries(surface));
  for (const name of functions) assert.equal(typeof exported.get(name), "function", name);
  assert.ok(complete);
});

test("a node has the documented members, all of them functions", () => {
  const node: RaftNode = surface.createRaftNode(options);
  const members = [
    "tick",
    "step",
    "propose",
    "proposeConfChange",
    "readIndex",
    "transferLeadership",
    "campaign",
    "reportUnreachable",
    "reportSnapshot",
    "hasReady",
    "ready",
    "advance",
    "compact",
    "status",
  ] as const satisfies ReadonlyArray<keyof RaftNode>;
  for (const name of members) assert.equal(typeof node[name], "function", name);
});

test("a node takes every message in its plain form, and so does the border", () => {
  assert.deepEqual([...new Set(plain.map(({ type }) => type))], [...messageTypes]);
  for (const message of plain) {
    assert.deepEqual(surface.validateMessage(message), message);
    surface.createRaftNode(optionsFor(1, surface.emptyState(votersOf(1, 2, 3)), () => 0)).step(message, 0);
  }
});

test("a Ready has the documented fields", () => {
  const node = surface.createRaftNode(options);
  assert.equal(node.hasReady(), false);
  node.campaign(0 satisfies Millis);
  assert.equal(node.hasReady(), true);
  const ready: Ready = node.ready();
  assert.deepEqual(ready, {
    hardState: { term: 1, vote: 1, commit: 0 },
    entries: [],
    mustSync: true,
    messages: [],
    messagesAfterPersist: [],
    committedEntries: [],
    readStates: [],
  });
  node.advance(ready);
  const token: ReadToken = node.readIndex(0);
  node.advance(node.ready());
  const states: readonly ReadState[] = node.ready().readStates;
  assert.deepEqual(states, [{ token, index: 1 }]);
});

test("what proposals answer", () => {
  const net = new Network([1, 2, 3]);
  const data = new Uint8Array(1);
  const reasons = (result: ProposeResult) => (result.ok ? "ok" : result.reason);
  assert.equal(reasons(net.node(1).propose(data, net.now)), "not-leader");
  net.elect(1);
  assert.deepEqual(net.node(1).propose(data, net.now), { ok: true, term: 1, index: 2 });
  const learn = { transition: "auto", ops: [{ type: "addLearner", id: 4 }] } as const;
  assert.deepEqual(net.node(1).proposeConfChange(learn, net.now), { ok: true, term: 1, index: 3 });
  assert.equal(reasons(net.node(1).proposeConfChange(learn, net.now)), "busy");
  net.drop = (m) => m.type === "TimeoutNow";
  net.node(1).transferLeadership(2, net.now);
  assert.equal(reasons(net.node(1).propose(data, net.now)), "transferring");
});

test("status is a deep copy of plain data with the documented fields", () => {
  const net = new Network([1, 2, 3]);
  net.elect(1);
  const status: Status = net.status(1);
  const documented = {
    id: 1,
    role: "leader",
    term: 1,
    vote: 1,
    leader: 1,
    commit: 1,
    applied: 1,
    firstIndex: 1,
    lastIndex: 1,
    lastTerm: 1,
    config: { voters: [1, 2, 3], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false },
    progress: [1, 2, 3].map((id) => ({
      id,
      match: 1,
      next: 2,
      state: "replicate",
      paused: false,
      recentActive: true,
    })),
  };
  const { termCommitted, electedAtMs, electionElapsedMs, removedAt, ...rest } = status;
  assert.deepEqual(rest, documented);
  assert.deepEqual([termCommitted, electedAtMs, electionElapsedMs, removedAt], [true, net.now, 0, 0]);
  assert.deepEqual(JSON.parse(JSON.stringify(status)), status, "plain data");
  status.config.voters.push(9);
  (status.progress[0] as Status["progress"][number]).match = 9;
  status.progress.pop();
  status.term = 9;
  assert.deepEqual(net.status(1), { ...status, ...documented }, "the node is not what was handed out");
});

test("the pure functions take plain configurations and change none of their arguments", () => {
  const config: Configuration = {
    voters: [3, 1, 2],
    votersOutgoing: [],
    learners: [4],
    learnersNext: [],
    autoLeave: false,
  };
  const before = structuredClone(config);
  const acked = new Map([
    [1, 5],
    [2, 7],
  ]);
  const votes = new Map([
    [1, true],
    [2, true],
  ]);
  assert.equal(surface.committedIndex(config, acked), 5);
  assert.equal(surface.tallyVotes(config, votes), "won");
  assert.equal(surface.tallyVotes(config, new Map([[1, false]])), "pending");
  assert.deepEqual(surface.simpleChange(config, [{ type: "addVoter", id: 4 }]).voters, [1, 2, 3, 4]);
  const joint = surface.enterJoint(config, [{ type: "remove", id: 3 }], true);
  assert.deepEqual(surface.leaveJoint(joint).voters, [1, 2]);
  assert.deepEqual(config, before);
});

test("a driver that knows the documented surface only: crash, membership, snapshot, transfer", () => {
  const cluster = new NaiveCluster([1, 2, 3]);
  cluster.run(3000);
  cluster.propose("a");
  const first = cluster.leader();
  cluster.crash(first);
  cluster.run(4000);
  cluster.propose("b");
  cluster.start(first);
  cluster.run(1000);
  assert.deepEqual(cluster.values(first).slice(-2), ["a", "b"], "what it applied twice it was given twice");
  for (let i = 0; i < 5; i += 1) cluster.propose(`${i}`);
  cluster.compact(cluster.leader());
  cluster.start(4);
  cluster.change({ transition: "auto", ops: [{ type: "addLearner", id: 4 }] });
  cluster.run(1000);
  assert.ok(cluster.node(4).status().firstIndex > 1, "it started from the snapshot");
  const old = cluster.leader() === 1 ? 2 : 1;
  cluster.change({
    transition: "auto",
    ops: [
      { type: "addVoter", id: 4 },
      { type: "remove", id: old },
    ],
  });
  cluster.crash(old);
  cluster.node(cluster.leader()).transferLeadership(4, cluster.nowMs);
  cluster.run(500);
  assert.equal(cluster.leader(), 4);
  cluster.propose("last");
  assert.equal(cluster.values(4).at(-1), "last");
  assert.ok(!cluster.node(4).status().config.voters.includes(old));
});
