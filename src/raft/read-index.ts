/**
 * Linearizable reads and lease confirmations by a quorum round (dissertation 6.4).
 *
 * The token (term, sequence) is made here and used once; heartbeats carry the newest sequence as their round, and an
 * answer to a round confirms all older ones. A follower forwards, under a number that even its own earlier life cannot
 * have used, and tells its caller through a token with a negative sequence.
 */
import type { Progress } from "./progress.js";
import { committedIndex } from "./quorum.js";
import { broadcastHeartbeat } from "./replication.js";
import type { MessageOf, NodeState, PendingRead } from "./state.js";
import type { NodeId, ReadToken } from "./types.js";

/** Requests that a follower remembers; the oldest, whose answers were lost, go first. */
const maxForwardedReads = 4096;
const requestIdSpan = 2 ** 51;

export function readIndex(s: NodeState): ReadToken {
  if (s.role === "leader") return { term: s.term, sequence: startRound(s, 0, 0) };
  if (s.nextRequestId === 0) s.nextRequestId = 1 + Math.floor(s.options.random() * requestIdSpan);
  const requestId = s.nextRequestId;
  s.nextRequestId += 1;
  if (s.leader !== 0) {
    s.forwardedReads.add(requestId);
    if (s.forwardedReads.size > maxForwardedReads) {
      for (const oldest of s.forwardedReads) {
        s.forwardedReads.delete(oldest);
        break;
      }
    }
    s.send({ type: "ReadIndex", from: s.id, to: s.leader, term: s.term, requestId });
  }
  return { term: s.term, sequence: -requestId };
}

export function onReadIndex(s: NodeState, m: MessageOf<"ReadIndex">): void {
  if (s.role === "leader" && s.peerById.has(m.from)) startRound(s, m.from, m.requestId);
}

export function onReadIndexResponse(s: NodeState, m: MessageOf<"ReadIndexResponse">): void {
  if (m.from !== s.leader || !s.forwardedReads.delete(m.requestId)) return;
  s.readStates.push({ token: { term: s.term, sequence: -m.requestId }, index: m.index });
}

/** Every request has a round of its own, started after it came in: an older round proves nothing about it (R54). */
function startRound(s: NodeState, from: NodeId, requestId: number): number {
  s.readSequence += 1;
  const index = s.termCommitted() ? s.log.commit : 0;
  s.pendingReads.push({ sequence: s.readSequence, from, requestId, index });
  broadcastHeartbeat(s);
  completeReads(s);
  return s.readSequence;
}

export function onRoundAcked(s: NodeState, peer: Progress, round: number): void {
  if (round > s.readSequence || round <= peer.ackedRound) return;
  peer.ackedRound = round;
  completeReads(s);
}

/** The term's first commit: only now is it known what was committed before (R54). */
export function releaseReads(s: NodeState): void {
  for (const read of s.pendingReads) if (read.index === 0) read.index = s.log.commit;
  completeReads(s);
}

const rounds = {
  state: null as NodeState | null,
  get(id: NodeId): number | undefined {
    const s = this.state as NodeState;
    return id === s.id ? s.readSequence : s.peerById.get(id)?.ackedRound;
  },
};

function completeReads(s: NodeState): void {
  if (s.pendingReads.length === 0) return;
  rounds.state = s;
  const confirmed = committedIndex(s.log.config, rounds);
  let done = 0;
  for (const read of s.pendingReads) {
    if (read.sequence > confirmed || read.index === 0) break;
    answerRead(s, read);
    done += 1;
  }
  if (done > 0) s.pendingReads.splice(0, done);
}

function answerRead(s: NodeState, read: PendingRead): void {
  const { sequence, from, requestId, index } = read;
  if (from === 0) s.readStates.push({ token: { term: s.term, sequence }, index });
  else s.send({ type: "ReadIndexResponse", from: s.id, to: from, term: s.term, requestId, index });
}
