/** Membership changes while leading (dissertation chapter 4): who is replicated to, what may be proposed, who leaves. */
import { changedConfiguration, isJoint, isLearner, isVoter, leaveJoint, membersOf } from "./configuration.js";
import { ConfigurationChangeError } from "./errors.js";
import { forgetStrangers } from "./memory.js";
import { Progress } from "./progress.js";
import { advanceCommit, appendEntry, broadcastAppend } from "./replication.js";
import { becomeFollower } from "./roles.js";
import type { NodeState } from "./state.js";
import { abortTransferTo, nudgeSuccessor } from "./transfer.js";
import type { ConfChange, Configuration, ProposeResult } from "./types.js";

/** A removed node is sent the log for this many election timeouts more, so that it learns of its removal (R38). */
const departureElectionTimeouts = 10;

export function proposeConfChange(s: NodeState, change: ConfChange): ProposeResult {
  const { log } = s;
  if (log.configIndex > log.commit) {
    return refuse("busy", `the configuration at index ${log.configIndex} is not committed yet: one change at a time`);
  }
  if (!s.termCommitted()) return refuse("busy", "the leader has not committed an entry of its own term yet (R31)");
  let config: Configuration;
  try {
    config = changedConfiguration(log.config, change);
  } catch (error) {
    if (error instanceof ConfigurationChangeError) return refuse("invalid", error.message);
    throw error;
  }
  const behind = learnerNotCaughtUp(s, config);
  if (behind !== null) return refuse("busy", behind);
  const index = log.lastIndex + 1;
  appendEntry(s, { term: s.term, index, type: "config", config });
  broadcastAppend(s);
  return { ok: true, term: s.term, index };
}

/** A learner votes only once it holds what is committed: else the cluster would wait for it at the next fault (R37). */
function learnerNotCaughtUp(s: NodeState, config: Configuration): string | null {
  for (const id of config.voters) {
    if (!isLearner(s.log.config, id)) continue;
    const peer = s.peerById.get(id);
    if (peer === undefined) continue;
    const silent = s.now - peer.contactMs >= s.options.electionTimeoutMs;
    if (silent) return `learner ${id} does not answer: it cannot become a voter now`;
    if (peer.state !== "replicate" || peer.match < s.log.commit) {
      return `learner ${id} holds the log up to ${peer.match}, ${s.log.commit} is committed: wait until it has caught up`;
    }
  }
  return null;
}

function refuse(reason: "busy" | "invalid", message: string): ProposeResult {
  return { ok: false, reason, message };
}

/** Makes the set of peers that of the configuration in force; ids ascending (R63). */
export function rebuildPeers(s: NodeState): void {
  const members = membersOf(s.log.config);
  for (const id of members) {
    if (id === s.id) continue;
    const known = s.peerById.get(id);
    if (known !== undefined) known.departingIndex = 0;
    // A new peer counts as just heard from, or the leader would depose itself at once (R23).
    else s.peerById.set(id, new Progress(id, s.log.lastIndex + 1, s.options.maxInflightAppends, s.now));
  }
  for (const peer of s.peerById.values()) {
    if (members.includes(peer.id) || peer.departingIndex !== 0) continue;
    peer.departingIndex = s.log.configIndex;
    peer.departUntilMs = s.now + departureElectionTimeouts * s.options.electionTimeoutMs;
  }
  s.peers = [...s.peerById.values()].sort((a, b) => a.id - b.id);
  forgetStrangers(s);
}

/** Lets go of a removed peer that has been sent the commit of its removal, or that took too long. */
export function forgetDeparted(s: NodeState, peer: Progress): void {
  if (peer.departingIndex === 0) return;
  const knows = peer.match >= peer.departingIndex && peer.sentCommit >= peer.departingIndex;
  if (!knows && s.now < peer.departUntilMs) return;
  s.peerById.delete(peer.id);
  s.peers = s.peers.filter((other) => other !== peer);
}

export function forgetOverdueDepartures(s: NodeState): void {
  for (const peer of s.peers) if (peer.departingIndex !== 0 && s.now >= peer.departUntilMs) forgetDeparted(s, peer);
}

/** The leader appended a configuration: it counts from now on. */
export function afterConfigAppended(s: NodeState): void {
  rebuildPeers(s);
  if (s.transferTarget !== 0 && !isVoter(s.log.config, s.transferTarget)) abortTransferTo(s, s.transferTarget);
}

/** The leader's commit index moved: leave a joint configuration, or the office when the change removed this node. */
export function afterCommit(s: NodeState): void {
  const { log } = s;
  if (!s.termCommitted() || log.configIndex > log.commit) return;
  if (isJoint(log.config) && log.config.autoLeave) {
    const config = leaveJoint(log.config);
    appendEntry(s, { term: s.term, index: log.lastIndex + 1, type: "config", config });
    broadcastAppend(s);
    // A smaller quorum may be complete already.
    advanceCommit(s);
    return;
  }
  if (!isVoter(log.config, s.id)) {
    nudgeSuccessor(s);
    becomeFollower(s, s.term, 0);
  }
}
