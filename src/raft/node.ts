/** One Raft node: the surface of the core. Dispatches every input to the file that knows the rule. */
import {
  electionTimeout,
  inRestartGrace,
  isSticky,
  onPreVote,
  onPreVoteResponse,
  onRequestVote,
  onRequestVoteResponse,
  onToldRemoved,
  preCampaign,
  tellIfRemoved,
} from "./election.js";
import { RaftOptionsError } from "./errors.js";
import { forgetOverdueDepartures, proposeConfChange } from "./membership.js";
import { checkOwnDisk, noteDurableTerm } from "./memory.js";
import { onReadIndex, onReadIndexResponse, readIndex } from "./read-index.js";
import { advance, hasReady, takeReady } from "./ready.js";
import {
  answerStaleLeader,
  appendEntry,
  broadcastHeartbeat,
  noteLeaderContact,
  onAppendEntries,
  onAppendResponse,
  onHeartbeat,
  onHeartbeatResponse,
  quorumContactMs,
} from "./replication.js";
import { becomeFollower } from "./roles.js";
import { onInstallSnapshot, onInstallSnapshotResponse, reportSnapshot } from "./snapshot.js";
import { type MessageOf, NodeState } from "./state.js";
import { statusOf } from "./status.js";
import { abortOverdueTransfer, onTimeoutNow, transferLeadership } from "./transfer.js";
import type {
  ConfChange,
  LogIndex,
  Message,
  Millis,
  NodeId,
  ProposeResult,
  RaftNode,
  RaftOptions,
  ReadToken,
  Ready,
  Snapshot,
  Status,
} from "./types.js";

/** A peer's term may run ahead of ours by this much; beyond, it is poison that would use up the terms (R53). */
const maxTermLead = 2 ** 32;

/**
 * Builds a node from what storage held at start. It comes up as a follower and trusts nothing volatile (R52).
 *
 * @throws RaftOptionsError on options that no node can run with.
 * @throws RaftInvariantError when the persistent state contradicts itself.
 */
export function createRaftNode(options: RaftOptions): RaftNode {
  checkOptions(options);
  return new Node(new NodeState({ ...options }));
}

/** For the simulator, which looks at every node after every event: what `status()` would copy. Not to be changed. */
export function peek(node: RaftNode): Readonly<NodeState> | null {
  return node instanceof Node ? node.peek() : null;
}

class Node implements RaftNode {
  readonly #s: NodeState;

  constructor(state: NodeState) {
    this.#s = state;
  }

  tick(now: Millis): void {
    const s = this.#s;
    s.observe(now);
    if (s.role === "leader") tickLeader(s);
    else if (now >= s.electionDeadlineMs) electionTimeout(s);
  }

  step(message: Message, now: Millis): void {
    this.#s.observe(now);
    receive(this.#s, message);
  }

  propose(data: Uint8Array, now: Millis): ProposeResult {
    const s = this.#s;
    s.observe(now);
    const refusal = proposalRefusal(s);
    if (refusal !== null) return refusal;
    const bytes = s.uncommittedBytes + data.length;
    if (s.uncommittedBytes > 0 && bytes > s.options.maxUncommittedBytes) {
      const message = `${bytes} bytes would be uncommitted, ${s.options.maxUncommittedBytes} are allowed: try again later`;
      return { ok: false, reason: "busy", message };
    }
    const index = s.log.lastIndex + 1;
    appendEntry(s, { term: s.term, index, type: "data", data: new Uint8Array(data) });
    s.appendsDue = true;
    return { ok: true, term: s.term, index };
  }

  proposeConfChange(change: ConfChange, now: Millis): ProposeResult {
    this.#s.observe(now);
    return proposalRefusal(this.#s) ?? proposeConfChange(this.#s, change);
  }

  readIndex(now: Millis): ReadToken {
    this.#s.observe(now);
    return readIndex(this.#s);
  }

  transferLeadership(to: NodeId, now: Millis): void {
    this.#s.observe(now);
    transferLeadership(this.#s, to);
  }

  campaign(now: Millis): void {
    this.#s.observe(now);
    if (this.#s.role !== "leader" && this.#s.promotable()) preCampaign(this.#s);
  }

  reportUnreachable(peer: NodeId): void {
    const s = this.#s;
    if (s.role === "leader") {
      const progress = s.peerById.get(peer);
      if (progress?.state === "replicate") progress.becomeProbe();
      return;
    }
    if (s.leader === 0 || s.leader !== peer || s.stickinessWaived) return;
    const deadline = s.electionDeadlineMs;
    // Three short timers, in case the first campaigns collide.
    s.shortTimersLeft = 3;
    s.stickinessWaived = true;
    s.drawElectionTimer();
    s.electionDeadlineMs = Math.min(s.electionDeadlineMs, deadline);
  }

  reportSnapshot(peer: NodeId, outcome: "installed" | "failed"): void {
    reportSnapshot(this.#s, peer, outcome);
  }

  hasReady(): boolean {
    return hasReady(this.#s);
  }

  ready(): Ready {
    return takeReady(this.#s);
  }

  advance(ready: Ready): void {
    advance(this.#s, ready);
  }

  compact(upTo: LogIndex, data?: Uint8Array): Snapshot {
    return this.#s.log.compact(upTo, data === undefined ? new Uint8Array(0) : new Uint8Array(data));
  }

  status(): Status {
    return statusOf(this.#s);
  }

  peek(): Readonly<NodeState> {
    return this.#s;
  }
}

function tickLeader(s: NodeState): void {
  // Without a majority that answers, another leader may be in office: stop taking proposals (R23).
  if (s.now - quorumContactMs(s) >= s.options.electionTimeoutMs) {
    becomeFollower(s, s.term, 0);
    return;
  }
  // Nothing leaves while a Ready is not done with: a disk that stalls has silenced this leader already (R28).
  if (s.inFlight !== null && s.now - s.inFlightSinceMs >= s.options.electionTimeoutMs) {
    becomeFollower(s, s.term, 0);
    return;
  }
  abortOverdueTransfer(s);
  forgetOverdueDepartures(s);
  if (s.now >= s.heartbeatDeadlineMs && !s.heartbeatQueued) broadcastHeartbeat(s);
}

function proposalRefusal(s: NodeState): ProposeResult | null {
  if (s.role !== "leader") {
    const whom = s.leader === 0 ? "no leader is known" : `node ${s.leader} leads`;
    return { ok: false, reason: "not-leader", message: `this node does not lead in term ${s.term}: ${whom}` };
  }
  if (s.transferTarget === 0) return null;
  const message = `leadership is being transferred to node ${s.transferTarget}`;
  return { ok: false, reason: "transferring", message };
}

/** Terms first, then the message itself. */
function receive(s: NodeState, m: Message): void {
  if (m.to !== s.id || m.from === s.id || m.term > s.term + maxTermLead) return;
  checkOwnDisk(s, m);
  noteDurableTerm(s, m);
  if ((m.type === "PreVote" || m.type === "RequestVote") && ignoresVoteRequest(s, m)) {
    tellIfRemoved(s, m);
    return;
  }
  if ((m.type === "PreVoteResponse" || m.type === "RequestVoteResponse") && m.removedAt !== undefined) {
    onToldRemoved(s, m.removedAt);
  }
  if (m.term > s.term && !isHypothetical(m)) becomeFollower(s, m.term, isFromLeader(m) ? m.from : 0);
  if (m.term < s.term) answerStale(s, m);
  else dispatch(s, m);
}

function ignoresVoteRequest(s: NodeState, m: MessageOf<"PreVote"> | MessageOf<"RequestVote">): boolean {
  if (m.type === "RequestVote" && m.transfer) return false;
  return inRestartGrace(s) || (m.term > s.term && isSticky(s));
}

/** The term of a pre-vote, and of the answer that grants it, is one that nobody is in yet (R6). */
function isHypothetical(m: Message): boolean {
  return m.type === "PreVote" || (m.type === "PreVoteResponse" && m.granted);
}

function isFromLeader(m: Message): boolean {
  return m.type === "AppendEntries" || m.type === "Heartbeat" || m.type === "InstallSnapshot";
}

function answerStale(s: NodeState, m: Message): void {
  if (isFromLeader(m)) answerStaleLeader(s, m.from);
  else if (m.type === "PreVote") onPreVote(s, m);
  else if (m.type === "RequestVote") onRequestVote(s, m);
}

function dispatch(s: NodeState, m: Message): void {
  switch (m.type) {
    case "AppendEntries":
      followLeader(s, m.from);
      onAppendEntries(s, m);
      return;
    case "AppendEntriesResponse":
      onAppendResponse(s, m);
      return;
    case "Heartbeat":
      followLeader(s, m.from);
      onHeartbeat(s, m);
      return;
    case "HeartbeatResponse":
      onHeartbeatResponse(s, m);
      return;
    case "InstallSnapshot":
      followLeader(s, m.from);
      onInstallSnapshot(s, m);
      return;
    case "InstallSnapshotResponse":
      onInstallSnapshotResponse(s, m);
      return;
    case "RequestVote":
      onRequestVote(s, m);
      return;
    case "RequestVoteResponse":
      onRequestVoteResponse(s, m);
      return;
    case "PreVote":
      onPreVote(s, m);
      return;
    case "PreVoteResponse":
      onPreVoteResponse(s, m);
      return;
    case "TimeoutNow":
      onTimeoutNow(s, m);
      return;
    case "ReadIndex":
      onReadIndex(s, m);
      return;
    case "ReadIndexResponse":
      onReadIndexResponse(s, m);
      return;
    default:
      m satisfies never;
  }
}

/** A message of this term's leader: whoever is not following it yet does so now. */
function followLeader(s: NodeState, from: NodeId): void {
  if (s.role !== "follower" && s.role !== "leader") becomeFollower(s, s.term, from);
  noteLeaderContact(s, from);
}

function checkOptions(options: RaftOptions): void {
  const { id, electionTimeoutMs, heartbeatIntervalMs, maxInflightAppends } = options;
  if (!Number.isSafeInteger(id) || id < 1) throw new RaftOptionsError(`id ${id} is not a safe integer >= 1`);
  if (!(heartbeatIntervalMs > 0 && heartbeatIntervalMs < electionTimeoutMs)) {
    throw new RaftOptionsError(
      `heartbeatIntervalMs ${heartbeatIntervalMs} must be positive and less than electionTimeoutMs ${electionTimeoutMs}`,
    );
  }
  if (!Number.isSafeInteger(maxInflightAppends) || maxInflightAppends < 1) {
    throw new RaftOptionsError(`maxInflightAppends ${maxInflightAppends} must be an integer >= 1`);
  }
}
