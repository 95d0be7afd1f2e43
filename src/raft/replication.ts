/** Log replication: appends, their answers, heartbeats and the commit rule (paper 5.3, 5.4.2). */
import { freezeEntry, payloadBytes } from "./entry.js";
import { invariant } from "./errors.js";
import { afterCommit, afterConfigAppended, forgetDeparted } from "./membership.js";
import { holdingsOf, noteHoldings } from "./memory.js";
import type { Progress } from "./progress.js";
import { committedIndex } from "./quorum.js";
import { onRoundAcked, releaseReads } from "./read-index.js";
import { sendSnapshot } from "./snapshot.js";
import type { MessageOf, NodeState } from "./state.js";
import { onTargetAdvanced } from "./transfer.js";
import type { Entry, NodeId } from "./types.js";

// ---------------------------------------------------------------------------------------------------------- leader

/** Appends to the leader's own log; the caller broadcasts. A configuration is in force from here on (R33). */
export function appendEntry(s: NodeState, entry: Entry): void {
  invariant(s.role === "leader" && entry.term === s.term, "only a leader appends, in its own term (R29)");
  const frozen = freezeEntry(entry);
  s.log.append(frozen);
  s.uncommittedBytes += payloadBytes(frozen);
  if (frozen.type === "config") afterConfigAppended(s);
}

export function broadcastAppend(s: NodeState): void {
  for (const peer of s.peers) replicateTo(s, peer, false);
}

/**
 * Sends what the follower lacks, as far as its window goes. With `evenEmpty` at least one message goes out (unless it
 * is paused): it carries a new commit index, or it finds out whether what is in flight was lost (R16).
 */
export function replicateTo(s: NodeState, peer: Progress, evenEmpty: boolean): void {
  let sendEmpty = evenEmpty;
  while (sendAppend(s, peer, sendEmpty)) {
    sendEmpty = false;
    if (peer.state !== "replicate") return;
  }
}

function sendAppend(s: NodeState, peer: Progress, evenEmpty: boolean): boolean {
  if (peer.state === "snapshot" || (peer.state === "probe" && peer.probePaused)) return false;
  const prevIndex = peer.next - 1;
  const prevTerm = s.log.term(prevIndex);
  if (prevTerm === undefined) {
    sendSnapshot(s, peer);
    return false;
  }
  const entries = peer.windowFull ? [] : s.log.slice(peer.next, s.options.maxBytesPerAppend);
  if (entries.length === 0 && !evenEmpty) return false;
  const { commit } = s.log;
  s.send({ type: "AppendEntries", from: s.id, to: peer.id, term: s.term, prevIndex, prevTerm, entries, commit });
  peer.sentAppend(entries.length, Math.min(commit, prevIndex + entries.length));
  return true;
}

/** Heartbeats carry no more commit index than the follower is known to match (R13), and the newest read round. */
export function broadcastHeartbeat(s: NodeState): void {
  s.heartbeatDeadlineMs = s.now + s.options.heartbeatIntervalMs;
  s.heartbeatQueued = true;
  const holdings = holdingsOf(s);
  for (const peer of s.peers) {
    s.send({
      type: "Heartbeat",
      from: s.id,
      to: peer.id,
      term: s.term,
      commit: Math.min(peer.match, s.log.commit),
      round: s.readSequence,
      reachedTerm: s.remembered.get(peer.id)?.term ?? 0,
      heldIndex: peer.match,
      holdings,
    });
  }
}

export function onAppendResponse(s: NodeState, m: MessageOf<"AppendEntriesResponse">): void {
  const peer = answeringPeer(s, m.from);
  if (peer === undefined) return;
  if (m.success) {
    acknowledge(s, peer, m.matchIndex);
    return;
  }
  // With its term known, one probe per term of either log is enough (R15).
  const probeAt = m.hintTerm > 0 ? s.log.conflictByTerm(m.hintIndex, m.hintTerm) : m.hintIndex;
  if (peer.reject(m.rejectedIndex, probeAt)) replicateTo(s, peer, true);
}

export function onHeartbeatResponse(s: NodeState, m: MessageOf<"HeartbeatResponse">): void {
  const peer = answeringPeer(s, m.from);
  if (peer === undefined) return;
  peer.probePaused = false;
  // A snapshot that nobody answered was lost: try again, or the follower would wait for ever.
  if (peer.state === "snapshot" && s.now - peer.snapshotSentAtMs >= s.options.electionTimeoutMs) peer.snapshotFailed();
  if (peer.match < s.log.lastIndex || peer.state === "probe") replicateTo(s, peer, true);
  onRoundAcked(s, peer, m.round);
}

/** A follower's log is durable and equal to ours up to `index`. */
export function acknowledge(s: NodeState, peer: Progress, index: number): void {
  if (index > s.log.lastIndex) return;
  const fresh = peer.acknowledge(index);
  if (peer.state === "replicate") peer.freeInflight();
  else if (peer.state === "probe" ? peer.match === index : peer.match + 1 >= s.log.firstIndex) peer.becomeReplicate();
  if (!(fresh && advanceCommit(s)) && s.role === "leader") replicateTo(s, peer, fresh && lacksCommit(s, peer));
  if (s.role !== "leader") return;
  forgetDeparted(s, peer);
  onTargetAdvanced(s, peer);
}

/**
 * An empty append would tell the follower of more commits. One ends at what was sent before it: with a full window a
 * commit beyond that can not be told, and each answer would bring forth another empty append.
 */
function lacksCommit(s: NodeState, peer: Progress): boolean {
  return peer.sentCommit < Math.min(s.log.commit, peer.next - 1);
}

/**
 * Commits what a majority holds durably, this node included only up to what its own storage holds (R4); counted only
 * at an entry of the own term, older ones follow (R9, paper figure 8). Followers are told at once: they act on it.
 */
export function advanceCommit(s: NodeState): boolean {
  const { log } = s;
  const before = log.commit;
  const index = committedIndex(log.config, matchOf(s));
  if (index <= before || log.term(index) !== s.term) return false;
  for (const entry of log.range(before, index)) s.uncommittedBytes -= payloadBytes(entry);
  log.commitTo(index);
  for (const peer of s.peers) replicateTo(s, peer, true);
  if (before < s.termStartIndex) releaseReads(s);
  afterCommit(s);
  return true;
}

/** Reused: the one being counted is always the one passed in last. */
const matches = {
  state: null as NodeState | null,
  get(id: NodeId): number | undefined {
    const s = this.state as NodeState;
    return id === s.id ? s.log.stable : s.peerById.get(id)?.match;
  },
};

function matchOf(s: NodeState): typeof matches {
  matches.state = s;
  return matches;
}

const contacts = {
  state: null as NodeState | null,
  get(id: NodeId): number | undefined {
    const s = this.state as NodeState;
    return id === s.id ? s.now : s.peerById.get(id)?.contactMs;
  },
};

/** The latest moment since which a majority has answered (R23). */
export function quorumContactMs(s: NodeState): number {
  contacts.state = s;
  return committedIndex(s.log.config, contacts);
}

/** The progress of a peer whose response of this term came in; undefined when it is none of ours (R60). */
export function answeringPeer(s: NodeState, from: NodeId): Progress | undefined {
  if (s.role !== "leader") return undefined;
  const peer = s.peerById.get(from);
  if (peer !== undefined) peer.contactMs = s.now;
  return peer;
}

// -------------------------------------------------------------------------------------------------------- follower

export function onAppendEntries(s: NodeState, m: MessageOf<"AppendEntries">): void {
  const { log } = s;
  if (m.prevIndex < log.commit) {
    acknowledgeTo(s, m.from, log.commit);
    return;
  }
  if (log.term(m.prevIndex) !== m.prevTerm) {
    rejectAppend(s, m);
    return;
  }
  log.appendMatching(m.entries);
  // Only what this very message proved equal may be committed: beyond it may stand another leader's tail (R13).
  const matched = m.prevIndex + m.entries.length;
  log.commitTo(Math.min(m.commit, matched));
  acknowledgeTo(s, m.from, matched);
}

function acknowledgeTo(s: NodeState, to: NodeId, matchIndex: number): void {
  s.sendAfterPersist({ type: "AppendEntriesResponse", from: s.id, to, term: s.term, success: true, matchIndex });
}

/** The hint is the highest index at which the two logs may agree, judged by terms (R15). */
function rejectAppend(s: NodeState, m: MessageOf<"AppendEntries">): void {
  const hintIndex = s.log.conflictByTerm(m.prevIndex, m.prevTerm);
  s.sendAfterPersist({
    type: "AppendEntriesResponse",
    from: s.id,
    to: m.from,
    term: s.term,
    success: false,
    rejectedIndex: m.prevIndex,
    hintIndex,
    hintTerm: s.log.term(hintIndex) ?? 0,
  });
}

/** To a leader of an older term: it steps down on our term. Silence would leave both waiting for ever (R22). */
export function answerStaleLeader(s: NodeState, to: NodeId): void {
  s.sendAfterPersist({
    type: "AppendEntriesResponse",
    from: s.id,
    to,
    term: s.term,
    success: false,
    rejectedIndex: 0,
    hintIndex: 0,
    hintTerm: 0,
  });
}

export function onHeartbeat(s: NodeState, m: MessageOf<"Heartbeat">): void {
  if (m.holdings !== undefined) noteHoldings(s, m.holdings);
  s.log.commitTo(m.commit);
  const response: MessageOf<"HeartbeatResponse"> = {
    type: "HeartbeatResponse",
    from: s.id,
    to: m.from,
    term: s.term,
    round: m.round,
  };
  // Nothing in it needs the disk but the term it speaks for.
  if (s.term === s.emitted.term) s.send(response);
  else s.sendAfterPersist(response);
}

/** A message of the leader of this term is about to be acknowledged: it lives, and our promise starts anew. */
export function noteLeaderContact(s: NodeState, from: NodeId): void {
  invariant(s.leader === 0 || s.leader === from, `nodes ${s.leader} and ${from} both lead in term ${s.term}`);
  s.leader = from;
  s.leaderContactMs = s.now;
  s.removedAt = 0;
  s.lastAckMs = s.now;
  s.stickinessWaived = false;
  s.shortTimersLeft = 0;
  s.electionDeadlineMs = s.now + s.electionTimeoutMs;
}
