/** Snapshots for followers whose entries are compacted away (paper 7, R41 to R45). */
import type { Progress } from "./progress.js";
import { acknowledge, answeringPeer, replicateTo } from "./replication.js";
import type { MessageOf, NodeState } from "./state.js";
import type { NodeId } from "./types.js";

export function sendSnapshot(s: NodeState, peer: Progress): void {
  const { snapshot } = s.log;
  s.send({ type: "InstallSnapshot", from: s.id, to: peer.id, term: s.term, snapshot });
  peer.sentSnapshot(snapshot.index, s.now);
}

export function onInstallSnapshot(s: NodeState, m: MessageOf<"InstallSnapshot">): void {
  const { log } = s;
  const { snapshot } = m;
  if (snapshot.index > log.commit) {
    // An entry that is here already proves everything before it: no need to throw the log away.
    if (log.term(snapshot.index) === snapshot.term) log.commitTo(snapshot.index);
    else log.restore(snapshot);
  }
  s.sendAfterPersist({
    type: "InstallSnapshotResponse",
    from: s.id,
    to: m.from,
    term: s.term,
    matchIndex: log.commit,
  });
}

export function onInstallSnapshotResponse(s: NodeState, m: MessageOf<"InstallSnapshotResponse">): void {
  const peer = answeringPeer(s, m.from);
  if (peer !== undefined) acknowledge(s, peer, m.matchIndex);
}

/** What the transport knows of a snapshot on its way; the follower's own answer says more and may come first. */
export function reportSnapshot(s: NodeState, id: NodeId, outcome: "installed" | "failed"): void {
  const peer = s.peerById.get(id);
  if (s.role !== "leader" || peer === undefined || peer.state !== "snapshot") return;
  if (outcome === "installed") {
    peer.becomeProbe();
    replicateTo(s, peer, true);
    return;
  }
  peer.snapshotFailed();
  // Not at once again: the next heartbeat response shows that the follower can be reached.
  peer.probePaused = true;
}
