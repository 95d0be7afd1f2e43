/**
 * Prometheus metrics of one node: `pg_replica_*` (base units, labels cluster and node) and Patroni's names beside them
 * (labels scope and name), so that dashboards and alerts made for Patroni keep working. What is not known is left out
 * of the answer rather than shown as 0.
 */
import { Gauge, Registry } from "prom-client";
import type { MemberView, NodeView, ServerState } from "../control/types.js";
import { isUnlocked, toBytes } from "./bodies.js";
import { isWritablePrimary, replicationState } from "./health.js";

interface Metric {
  readonly name: string;
  readonly help: string;
  /** null: not known, no sample. */
  readonly value: (view: NodeView) => number | null;
}

interface MemberMetric {
  readonly name: string;
  readonly help: string;
  readonly value: (member: MemberView, nowMs: number) => number | null;
}

const flag = (value: boolean): number => (value ? 1 : 0);
const seconds = (milliseconds: number | null): number | null => (milliseconds === null ? null : milliseconds / 1000);
/** PostgreSQL writes "2026-01-02 03:04:05.6+00", which is not quite what Date.parse must understand. */
const startTime = (view: NodeView): number | null => {
  const text = view.self.postmasterStartTime ?? "";
  const atMs = Date.parse(text.replace(" ", "T").replace(/([+-]\d\d)$/, "$1:00"));
  return Number.isNaN(atMs) ? null : atMs / 1000;
};
const isUp = (view: NodeView): boolean => view.self.role !== "stopped";
const ownWriteLsn = (view: NodeView): number | null =>
  view.self.role === "primary"
    ? toBytes(view.members.find((member) => member.id === view.self.id)?.lsn ?? view.self.flushLsn)
    : null;

const ownMetrics: readonly Metric[] = [
  { name: "up", help: "1 if the local PostgreSQL server answers.", value: (view) => flag(isUp(view)) },
  {
    name: "writable",
    help: "1 if ordinary clients may write here: the lease is live and open.",
    value: (view) => flag(isWritablePrimary(view)),
  },
  { name: "primary", help: "1 if this node is the primary.", value: (view) => flag(view.self.role === "primary") },
  { name: "standby", help: "1 if this node is a standby.", value: (view) => flag(view.self.role === "standby") },
  {
    name: "streaming",
    help: "1 if this standby receives WAL from the primary.",
    value: (view) => flag(view.self.role === "standby" && view.self.state === "streaming"),
  },
  {
    name: "lease_remaining_seconds",
    help: "Time until this node's lease runs out; no sample without a lease.",
    value: (view) => seconds(view.self.leaseRemainingMs),
  },
  { name: "lease_duration_seconds", help: "Duration of the primary's lease.", value: (view) => seconds(view.leaseMs) },
  { name: "timeline", help: "Timeline of the local server.", value: (view) => view.self.timeline },
  {
    name: "wal_receive_position_bytes",
    help: "Position up to which WAL has been received.",
    value: (view) => toBytes(view.self.receiveLsn),
  },
  {
    name: "wal_replay_position_bytes",
    help: "Position up to which WAL has been replayed.",
    value: (view) => toBytes(view.self.replayLsn),
  },
  {
    name: "wal_flush_position_bytes",
    help: "Position up to which WAL is on disk.",
    value: (view) => toBytes(view.self.flushLsn),
  },
  { name: "wal_write_position_bytes", help: "Position up to which the primary has written WAL.", value: ownWriteLsn },
  { name: "replay_paused", help: "1 if replay is paused.", value: (view) => flag(view.self.replayPaused) },
  { name: "lag_bytes", help: "WAL by which this node is behind the primary.", value: (view) => view.self.lagBytes },
  { name: "lag_seconds", help: "Age of the last replayed transaction.", value: (view) => view.self.lagSeconds },
  { name: "raft_term", help: "Raft term that this node knows.", value: (view) => view.self.term },
  {
    name: "raft_leader",
    help: "1 if this node leads the control plane.",
    value: (view) => flag(view.self.raftRole === "leader"),
  },
  { name: "raft_commit_index", help: "Index of the last committed entry.", value: (view) => view.commit },
  { name: "raft_applied_index", help: "Index of the last applied entry.", value: (view) => view.applied },
  {
    name: "quorum",
    help: "1 if a majority has confirmed what this node knows within a lease.",
    value: (view) => flag(view.quorum),
  },
  { name: "token_term", help: "Term of the fencing token in force.", value: (view) => view.token?.term ?? null },
  { name: "token_index", help: "Log index of the fencing token in force.", value: (view) => view.token?.index ?? null },
  {
    name: "failover_in_progress",
    help: "1 while a new primary is being chosen or promoted.",
    value: (view) => flag(view.phase !== "steady" && view.phase !== "empty"),
  },
  { name: "paused", help: "1 if automatic failover is paused.", value: (view) => flag(view.paused) },
  { name: "members", help: "Number of members of the cluster.", value: (view) => view.members.length },
  {
    name: "pending_restart",
    help: "1 if a setting waits for a restart of the server.",
    value: (view) => flag(view.self.pendingRestart),
  },
  {
    name: "loop_age_seconds",
    help: "Time since the agent's loop was last completed.",
    value: (view) => seconds(view.self.loopAgeMs),
  },
  { name: "postmaster_start_time_seconds", help: "When the local server was started (Unix time).", value: startTime },
];

const memberMetrics: readonly MemberMetric[] = [
  {
    name: "member_lag_bytes",
    help: "WAL by which a member is behind the primary.",
    value: (member) => member.lagBytes,
  },
  {
    name: "member_last_seen_timestamp_seconds",
    help: "When this node last heard of a member (Unix time).",
    value: (member, nowMs) => (member.lastSeenMs === null ? null : seconds(nowMs - member.lastSeenMs)),
  },
  {
    name: "member_voter",
    help: "1 if a member votes.",
    value: (member) => flag(member.raftRole === "voter" || member.raftRole === "leader"),
  },
];

/** Patroni's numbers for a server's state (patroni_postgres_state). */
const stateNumbers: Readonly<Record<ServerState, number>> = {
  starting: 8,
  running: 5,
  streaming: 5,
  "catching up": 5,
  "in recovery": 5,
  promoting: 5,
  stopping: 6,
  stopped: 12,
  rejoining: 12,
  cloning: 2,
  unreachable: 14,
};

const patroniMetrics: readonly Metric[] = [
  { name: "version", help: "pg_replica's version, as MMmmpp.", value: (view) => versionNumber(view.version) },
  { name: "postgres_running", help: "1 if PostgreSQL is running.", value: (view) => flag(isUp(view)) },
  { name: "postmaster_start_time", help: "Unix time of the server's start.", value: startTime },
  { name: "primary", help: "1 if this node is the leader.", value: (view) => flag(isWritablePrimary(view)) },
  { name: "standby_leader", help: "Always 0: there are no standby clusters.", value: () => 0 },
  { name: "replica", help: "1 if this node is a replica.", value: (view) => flag(view.self.role === "standby") },
  { name: "sync_standby", help: "1 if this node is a sync standby.", value: (view) => flag(ownSync(view) === "sync") },
  {
    name: "quorum_standby",
    help: "1 if this node is a quorum standby.",
    value: (view) => flag(ownSync(view) === "quorum"),
  },
  {
    name: "xlog_location",
    help: "Current location of the WAL, 0 on a replica.",
    value: (view) => ownWriteLsn(view) ?? 0,
  },
  {
    name: "xlog_received_location",
    help: "Location of the received WAL, 0 on the primary.",
    value: (view) => (view.self.role === "primary" ? 0 : toBytes(view.self.receiveLsn)),
  },
  {
    name: "xlog_replayed_location",
    help: "Location of the replayed WAL, 0 on the primary.",
    value: (view) => (view.self.role === "primary" ? 0 : toBytes(view.self.replayLsn)),
  },
  { name: "xlog_paused", help: "1 if replay is paused.", value: (view) => flag(view.self.replayPaused) },
  {
    name: "postgres_streaming",
    help: "1 if PostgreSQL is streaming.",
    value: (view) => flag(replicationState(view) === "streaming"),
  },
  {
    name: "postgres_in_archive_recovery",
    help: "1 if this replica is not streaming.",
    value: (view) => flag(replicationState(view) === "in archive recovery"),
  },
  { name: "postgres_server_version", help: "Version of PostgreSQL.", value: (view) => view.self.serverVersionNum },
  { name: "postgres_timeline", help: "Timeline of this node.", value: (view) => view.self.timeline },
  { name: "postgres_state", help: "State of PostgreSQL.", value: (view) => stateNumbers[view.self.state] },
  { name: "cluster_unlocked", help: "1 if the cluster has no leader.", value: (view) => flag(isUnlocked(view)) },
  {
    name: "pending_restart",
    help: "1 if the server needs a restart.",
    value: (view) => flag(view.self.pendingRestart),
  },
  { name: "is_paused", help: "1 if automatic failover is off.", value: (view) => flag(view.paused) },
  {
    name: "failover_priority",
    help: "Failover priority of this node; 0: never promoted.",
    value: (view) => (view.self.tags.nofailover ? 0 : view.self.tags.failoverPriority),
  },
];

function ownSync(view: NodeView): MemberView["syncState"] {
  return view.members.find((member) => member.id === view.self.id)?.syncState ?? null;
}

/** "0.1.0" -> 100, as Patroni numbers its versions; a build without a version has none. */
function versionNumber(version: string): number | null {
  const match = /^(\d+)\.(\d+)\.(\d+)/.exec(version);
  return match === null ? null : Number(match[1]) * 10_000 + Number(match[2]) * 100 + Number(match[3]);
}

export const metricsContentType = Registry.PROMETHEUS_CONTENT_TYPE;

/**
 * The text of /metrics. Made anew for each scrape: a value that is no longer known leaves no stale sample behind.
 * `nowMs`: the wall clock, which turns ages into times.
 */
export function renderMetrics(view: NodeView, nowMs: number = Date.now()): Promise<string> {
  const registry = new Registry();
  const own = { cluster: view.clusterId ?? "", node: view.self.name };
  const patroni = { scope: view.clusterId ?? "", name: view.self.name };
  addInfo(registry, view, own);
  for (const metric of ownMetrics) addSample(registry, "pg_replica_", metric, view, own);
  for (const metric of memberMetrics) addMemberSamples(registry, metric, view, own, nowMs);
  for (const metric of patroniMetrics) addSample(registry, "patroni_", metric, view, patroni);
  return registry.metrics();
}

function addInfo(registry: Registry, view: NodeView, labels: Record<string, string>): void {
  const all = { ...labels, version: view.version, server_version: view.self.serverVersion ?? "" };
  gauge(registry, "pg_replica_info", "Versions of this node; always 1.", Object.keys(all)).set(all, 1);
}

function addSample(
  registry: Registry,
  prefix: string,
  metric: Metric,
  view: NodeView,
  labels: Record<string, string>,
): void {
  const value = metric.value(view);
  if (value !== null) gauge(registry, prefix + metric.name, metric.help, Object.keys(labels)).set(labels, value);
}

function addMemberSamples(
  registry: Registry,
  metric: MemberMetric,
  view: NodeView,
  labels: Record<string, string>,
  nowMs: number,
): void {
  const target = gauge(registry, `pg_replica_${metric.name}`, metric.help, [...Object.keys(labels), "member"]);
  for (const member of view.members) {
    const value = metric.value(member, nowMs);
    if (value !== null) target.set({ ...labels, member: member.name }, value);
  }
}

function gauge(registry: Registry, name: string, help: string, labelNames: string[]): Gauge {
  return new Gauge({ name, help, labelNames, registers: [registry] });
}
