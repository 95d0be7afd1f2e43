/** What the core hands out and takes back: one Ready at a time, so that one write batch is in flight (R7). */
import { countSelfVote } from "./election.js";
import { invariant } from "./errors.js";
import { advanceCommit, broadcastAppend } from "./replication.js";
import type { NodeState } from "./state.js";
import type { Entry, HardState, Ready } from "./types.js";

export function hasReady(s: NodeState): boolean {
  if (s.inFlight !== null) return false;
  const { log } = s;
  return (
    s.messages.length > 0 ||
    s.messagesAfterPersist.length > 0 ||
    log.stable < log.lastIndex ||
    log.applied < log.commit ||
    log.unstableSnapshot !== null ||
    s.readStates.length > 0 ||
    hardStateChanged(s)
  );
}

export function takeReady(s: NodeState): Ready {
  invariant(s.inFlight === null, "the previous Ready was not advanced yet");
  const { log, emitted } = s;
  sendDueAppends(s);
  const snapshot = log.unstableSnapshot;
  const entries = log.range(log.stable, log.lastIndex);
  const applied = snapshot === null ? log.applied : Math.max(log.applied, snapshot.index);
  const voteChanged = s.term !== emitted.term || s.vote !== emitted.vote;
  // Term and vote are one record with what they enable (R2, R3); a commit index alone needs no sync (R8).
  const hardState: HardState | null = hardStateChanged(s) ? { term: s.term, vote: s.vote, commit: log.commit } : null;
  // Assigned rather than spread: a Ready is made for every event.
  const ready: { -readonly [Field in keyof Ready]: Ready[Field] } = {
    entries,
    mustSync: voteChanged || entries.length > 0 || snapshot !== null,
    messages: s.messages,
    messagesAfterPersist: s.messagesAfterPersist,
    committedEntries: log.range(applied, log.commit),
    readStates: s.readStates,
  };
  if (hardState !== null) ready.hardState = hardState;
  if (snapshot !== null) ready.snapshot = snapshot;
  if (hardState !== null) s.emitted = hardState;
  s.messages = [];
  s.messagesAfterPersist = [];
  s.readStates = [];
  s.heartbeatQueued = false;
  s.inFlightSinceMs = s.now;
  const last: Entry | undefined = entries[entries.length - 1];
  s.inFlight = {
    ready,
    lastIndex: last?.index ?? 0,
    lastTerm: last?.term ?? 0,
    snapshot,
    appliedTo: Math.max(applied, log.commit),
    selfVoteTerm: s.selfVotePending ? s.term : 0,
  };
  return ready;
}

/** Messages leave with a Ready only: nothing is later for having waited for it, and many proposals make one append. */
function sendDueAppends(s: NodeState): void {
  const due = s.appendsDue && s.role === "leader";
  s.appendsDue = false;
  if (due) broadcastAppend(s);
}

export function advance(s: NodeState, ready: Ready): void {
  const flight = s.inFlight;
  invariant(flight !== null && flight.ready === ready, "advance takes the Ready that was handed out last, once");
  s.inFlight = null;
  if (flight.snapshot !== null) s.log.markSnapshotStable(flight.snapshot);
  if (flight.lastIndex > 0) s.log.markStable(flight.lastIndex, flight.lastTerm);
  s.log.markApplied(flight.appliedTo);
  if (flight.selfVoteTerm !== 0 && flight.selfVoteTerm === s.term && s.selfVotePending) countSelfVote(s);
  if (s.role === "leader") advanceCommit(s);
}

function hardStateChanged(s: NodeState): boolean {
  const { emitted } = s;
  return s.term !== emitted.term || s.vote !== emitted.vote || s.log.commit !== emitted.commit;
}
