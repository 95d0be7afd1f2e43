/**
 * The health checks: which node answers 200 to which path. Paths, parameters and codes are Patroni's, so that load
 * balancers and monitoring that are configured for it keep working.
 */
import { lsnDifference } from "../control/index.js";
import type { NodeView, ServerState } from "../control/types.js";
import type { HealthQuery } from "./query.js";

export type HealthCheck = (view: NodeView, query: HealthQuery) => boolean;

/** The server answers queries in these states. */
const upStates: ReadonlySet<ServerState> = new Set(["running", "streaming", "catching up", "in recovery", "promoting"]);

/** Up and not on its way to another role. */
const replicaStates: ReadonlySet<ServerState> = new Set(["running", "streaming", "catching up", "in recovery"]);

/**
 * Ordinary clients may write here now: the lease is live, which a quorum confirmed within the lease time, and the
 * promotion is open (its marker is in the WAL). A leader election alone does not end that, so it does not end the 200.
 */
export function isWritablePrimary(view: NodeView): boolean {
  const { self } = view;
  return self.role === "primary" && self.writable && (self.leaseRemainingMs ?? 0) > 0;
}

/** The words of Patroni for how a standby gets its WAL. */
export function replicationState(view: NodeView): HealthQuery["replicationState"] {
  if (view.self.role !== "standby") return null;
  if (view.self.state === "streaming") return "streaming";
  return replicaStates.has(view.self.state) ? "in archive recovery" : null;
}

export function isReplica(view: NodeView, query: HealthQuery): boolean {
  const { self } = view;
  if (self.role !== "standby" || !replicaStates.has(self.state)) return false;
  if (query.replicationState !== null && replicationState(view) !== query.replicationState) return false;
  return withinLag(view, query);
}

/** Not knowing how far behind the replica is counts as too far. */
function withinLag(view: NodeView, query: HealthQuery): boolean {
  if (query.lagBytes === null) return true;
  return view.self.lagBytes !== null && view.self.lagBytes <= query.lagBytes;
}

function isBalancedReplica(view: NodeView, query: HealthQuery): boolean {
  return isReplica(view, query) && !view.self.tags.noloadbalance;
}

function isSynchronous(view: NodeView): boolean {
  const own = view.members.find((member) => member.id === view.self.id);
  return own?.syncState === "sync" || own?.syncState === "quorum";
}

/** The agent's loop is late: over one lease on the primary, over two elsewhere. */
export function isAlive(view: NodeView): boolean {
  const limitMs = view.self.role === "primary" ? view.leaseMs : 2 * view.leaseMs;
  return view.leaseMs === 0 || view.self.loopAgeMs <= limitMs;
}

const primary: HealthCheck = isWritablePrimary;
const asynchronous: HealthCheck = (view, query) => isBalancedReplica(view, query) && !isSynchronous(view);

export const healthChecks: Readonly<Record<string, HealthCheck>> = {
  "/": primary,
  "/primary": primary,
  "/read-write": primary,
  "/leader": primary,
  "/replica": isBalancedReplica,
  "/read-only": (view, query) => isWritablePrimary(view) || isBalancedReplica(view, query),
  "/async": asynchronous,
  "/asynchronous": asynchronous,
  "/health": (view) => upStates.has(view.self.state) && view.self.role !== "stopped",
  "/liveness": isAlive,
  "/readiness": (view, query) => isWritablePrimary(view) || isReady(view, query),
};

function isReady(view: NodeView, query: HealthQuery): boolean {
  if (query.lagBytes === null || query.mode !== "write") return isReplica(view, query);
  // What has arrived counts, not what is applied: the lag less what waits to be replayed.
  return isReplica(view, { ...query, lagBytes: query.lagBytes + unappliedBytes(view) });
}

function unappliedBytes(view: NodeView): number {
  const { receiveLsn, replayLsn } = view.self;
  if (receiveLsn === null || replayLsn === null) return 0;
  return Math.max(0, lsnDifference(receiveLsn, replayLsn));
}

/** A tag that the node does not have never matches (Patroni's rule). */
export function tagsMatch(view: NodeView, wanted: HealthQuery["tags"]): boolean {
  const tags = patroniTags(view.self.tags);
  return wanted.every(({ name, value }) => Object.hasOwn(tags, name) && String(tags[name]) === value);
}

/** Tags by the names that operators write. */
export function patroniTags(tags: NodeView["self"]["tags"]): Record<string, boolean | number> {
  return {
    nofailover: tags.nofailover,
    failover_priority: tags.failoverPriority,
    nosync: tags.nosync,
    noloadbalance: tags.noloadbalance,
  };
}
