/** Leadership transfer (dissertation 3.10): catch the target up, refuse proposals meanwhile, then let it campaign. */
import { isVoter } from "./configuration.js";
import { campaign } from "./election.js";
import type { Progress } from "./progress.js";
import { appendEntry, broadcastAppend, replicateTo } from "./replication.js";
import type { MessageOf, NodeState } from "./state.js";
import type { NodeId } from "./types.js";

/** Starts a transfer; to a learner, an unknown node or itself it is ignored (R59), and so it is on a follower. */
export function transferLeadership(s: NodeState, to: NodeId): void {
  if (s.role !== "leader" || to === s.id || to === s.transferTarget || !isVoter(s.log.config, to)) return;
  const peer = s.peerById.get(to);
  if (peer === undefined) return;
  if (s.transferTarget !== 0) abortTransferTo(s, s.transferTarget);
  s.transferTarget = to;
  s.transferSent = false;
  s.transferDeadlineMs = s.now + s.options.electionTimeoutMs;
  if (peer.match === s.log.lastIndex) sendTimeoutNow(s, peer);
  else replicateTo(s, peer, false);
}

export function onTargetAdvanced(s: NodeState, peer: Progress): void {
  if (peer.id === s.transferTarget && !s.transferSent && peer.match === s.log.lastIndex) sendTimeoutNow(s, peer);
}

/** The target did not take over in time: serve again. */
export function abortOverdueTransfer(s: NodeState): void {
  if (s.transferTarget !== 0 && s.now >= s.transferDeadlineMs) abortTransferTo(s, s.transferTarget);
}

/** A TimeoutNow that is still on its way finds another end of the log and is dropped (R56). */
export function abortTransferTo(s: NodeState, target: NodeId): void {
  if (s.transferTarget !== target) return;
  const sent = s.transferSent;
  s.transferTarget = 0;
  s.transferSent = false;
  if (!sent || s.role !== "leader") return;
  appendEntry(s, { term: s.term, index: s.log.lastIndex + 1, type: "noop" });
  broadcastAppend(s);
}

/** A leader that was removed hands over to a voter that holds everything, rather than let a timeout pass (R27). */
export function nudgeSuccessor(s: NodeState): void {
  const { lastIndex, config } = s.log;
  const successor = s.peers.find((peer) => peer.match === lastIndex && isVoter(config, peer.id));
  if (successor !== undefined) sendTimeoutNow(s, successor);
}

function sendTimeoutNow(s: NodeState, peer: Progress): void {
  s.transferSent = true;
  const { lastIndex, lastTerm } = s.log;
  s.send({ type: "TimeoutNow", from: s.id, to: peer.id, term: s.term, lastIndex, lastTerm });
}

/** Valid only from the leader of exactly this term, and while the log ends where the leader saw it end (R56). */
export function onTimeoutNow(s: NodeState, m: MessageOf<"TimeoutNow">): void {
  if (s.role !== "follower" || m.from !== s.leader || !s.promotable()) return;
  if (m.lastIndex !== s.log.lastIndex || m.lastTerm !== s.log.lastTerm) return;
  campaign(s, true);
}
