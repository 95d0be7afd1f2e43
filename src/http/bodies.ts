/** The JSON bodies, in Patroni's shape: /patroni (also the body of every health check), /cluster, /history. */
import { formatToken, lsnDifference } from "../control/index.js";
import type { Lsn, MemberView, NodeView, ServerState } from "../control/types.js";
import { isWritablePrimary, patroniTags, replicationState } from "./health.js";

/** What one node says about itself. `token` is the fencing token of the promotion that it last saw. */
export function nodeBody(view: NodeView): Record<string, unknown> {
  const { self } = view;
  const state = replicationState(view);
  return {
    state: patroniState(self.state),
    role: patroniRole(self.role),
    server_version: self.serverVersionNum,
    postmaster_start_time: self.postmasterStartTime,
    timeline: self.timeline,
    xlog: xlog(view),
    ...(state === null ? {} : { replication_state: state }),
    tags: patroniTags(self.tags),
    ...(self.pendingRestart ? { pending_restart: true } : {}),
    ...(view.paused ? { pause: true } : {}),
    cluster_unlocked: isUnlocked(view),
    database_system_identifier: view.systemIdentifier,
    token: self.token === null ? null : formatToken(self.token),
    writable: isWritablePrimary(view),
    lease_remaining_ms: self.leaseRemainingMs,
    raft: { role: self.raftRole, term: self.term, leader: view.leader, quorum: view.quorum },
    patroni: { version: view.version, scope: view.clusterId, name: self.name },
  };
}

function xlog(view: NodeView): Record<string, unknown> {
  const { self } = view;
  if (self.role === "primary") {
    const own = view.members.find((member) => member.id === self.id);
    return { location: toBytes(own?.lsn ?? self.flushLsn) };
  }
  return {
    received_location: toBytes(self.receiveLsn),
    replayed_location: toBytes(self.replayLsn),
    paused: self.replayPaused,
  };
}

/** Nobody is known to hold the lease. */
export function isUnlocked(view: NodeView): boolean {
  return view.primary === null || view.phase === "recruit" || !view.quorum;
}

/** `nowMs`: the wall clock, which turns ages into times. */
export function clusterBody(view: NodeView, nowMs: number = Date.now()): Record<string, unknown> {
  return {
    members: view.members.map((member) => clusterMember(member, view, nowMs)),
    scope: view.clusterId,
    ...(view.paused ? { pause: true } : {}),
  };
}

function clusterMember(member: MemberView, view: NodeView, nowMs: number): Record<string, unknown> {
  const leader = member.role === "primary";
  const seen = member.lsn !== null;
  return {
    name: member.name,
    role: leader ? "leader" : memberRole(member),
    state: patroniState(member.state),
    ...(member.apiUrl === null ? {} : { api_url: member.apiUrl }),
    host: member.host,
    port: member.port,
    ...(member.timeline === null ? {} : { timeline: member.timeline }),
    ...(seen ? { lsn: member.lsn } : {}),
    // Patroni writes "unknown" for a member whose position nobody has heard of.
    ...(leader ? {} : { lag: member.lagBytes ?? "unknown" }),
    ...(member.pendingRestart ? { pending_restart: true } : {}),
    tags: patroniTags(member.tags),
    raft_role: member.raftRole,
    last_seen: member.lastSeenMs === null ? null : new Date(nowMs - member.lastSeenMs).toISOString(),
    ...(leader && view.token !== null ? { token: formatToken(view.token) } : {}),
  };
}

function memberRole(member: MemberView): string {
  if (member.role === "witness") return "witness";
  if (member.syncState === "sync") return "sync_standby";
  return member.syncState === "quorum" ? "quorum_standby" : "replica";
}

/** Rows [timeline, LSN, reason, time, new leader]; this release keeps no timeline and LSN beside the entries: null. */
export function historyBody(view: NodeView): ReadonlyArray<readonly unknown[]> {
  return view.history
    .filter((entry) => entry.kind === "opened")
    .map((entry) => [null, null, entry.text, new Date(entry.atMs).toISOString(), entry.node]);
}

function patroniRole(role: NodeView["self"]["role"]): string {
  switch (role) {
    case "primary":
      return "primary";
    case "standby":
    case "promoting":
      return "replica";
    case "stopped":
      return "uninitialized";
  }
}

/** Patroni's words for the states that it knows too. */
export function patroniState(state: ServerState): string {
  switch (state) {
    case "in recovery":
      return "in archive recovery";
    case "catching up":
    case "promoting":
      return "running";
    case "cloning":
      return "creating replica";
    default:
      return state;
  }
}

/** A WAL position as the number of bytes since the beginning, as Patroni gives it. */
export function toBytes(lsn: Lsn | null | undefined): number | null {
  return lsn === null || lsn === undefined ? null : lsnDifference(lsn, "0/0");
}
