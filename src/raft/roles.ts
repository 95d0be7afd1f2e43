/** The transitions between roles; every other file changes role and term through these. */
import { invariant } from "./errors.js";
import { rebuildPeers } from "./membership.js";
import { holdingsOf, noteHoldings } from "./memory.js";
import { appendEntry, broadcastAppend } from "./replication.js";
import type { NodeState } from "./state.js";
import type { NodeId, Term } from "./types.js";

/** Follows `leader` (0: unknown) in `term`; a higher term clears the vote in the same durable record (R2). */
export function becomeFollower(s: NodeState, term: Term, leader: NodeId | 0): void {
  invariant(term >= s.term, `the term would go back from ${s.term} to ${term}`);
  // A leader has acknowledged itself until this moment: its own promise outlives its role (R57).
  if (s.role === "leader") {
    s.lastAckMs = s.now;
    noteHoldings(s, holdingsOf(s));
  }
  if (term > s.term) {
    s.term = term;
    s.vote = 0;
  }
  s.role = "follower";
  s.leader = leader;
  leaveVolatileState(s);
  s.drawElectionTimer();
}

/** Asks whether an election could be won, and changes nothing that others could notice (R20, dissertation 9.6). */
export function becomePreCandidate(s: NodeState): void {
  invariant(s.role !== "leader", "a leader does not campaign");
  s.role = "preCandidate";
  // Without this, two followers of a dead leader refuse each other for ever (R21).
  s.leader = 0;
  leaveVolatileState(s);
  s.votes.set(s.id, true);
  s.drawElectionTimer();
}

export function becomeCandidate(s: NodeState): void {
  invariant(s.role !== "leader", "a leader does not campaign");
  invariant(Number.isSafeInteger(s.term + 1), "the terms are used up");
  s.role = "candidate";
  s.term += 1;
  s.vote = s.id;
  s.leader = 0;
  leaveVolatileState(s);
  s.selfVotePending = true;
  s.drawElectionTimer();
}

export function becomeLeader(s: NodeState): void {
  invariant(s.role === "candidate", `a ${s.role} cannot become leader`);
  s.electionElapsedMs = Math.min(s.grantedElapsedMs, s.elapsedSinceAck());
  s.electedAtMs = s.now;
  leaveVolatileState(s);
  s.shortTimersLeft = 0;
  s.stickinessWaived = false;
  // What is known about the followers is in place before the role changes and before the no-op exists (R10).
  rebuildPeers(s);
  for (const entry of s.log.range(s.log.commit, s.log.lastIndex)) {
    if (entry.type === "data") s.uncommittedBytes += entry.data.length;
  }
  s.termStartIndex = s.log.lastIndex + 1;
  s.heartbeatDeadlineMs = s.now + s.options.heartbeatIntervalMs;
  s.role = "leader";
  s.leader = s.id;
  appendEntry(s, { term: s.term, index: s.termStartIndex, type: "noop" });
  broadcastAppend(s);
}

/** Nothing of an earlier role or term is carried over. */
function leaveVolatileState(s: NodeState): void {
  s.votes.clear();
  s.selfVotePending = false;
  s.grantedElapsedMs = Number.MAX_SAFE_INTEGER;
  s.stickinessWaived = false;
  s.peers = [];
  s.peerById.clear();
  s.termStartIndex = 0;
  s.uncommittedBytes = 0;
  s.transferTarget = 0;
  s.transferSent = false;
  s.pendingReads = [];
  s.forwardedReads.clear();
}
