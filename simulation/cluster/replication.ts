/** Streaming between modelled servers: sessions, shipping, acknowledgements, and who waits for whom. */
import { memberById } from "../../src/control/membership.js";
import type { SyncList } from "../../src/control/types.js";
import type { NodeId } from "../../src/raft/types.js";
import { Violation } from "../violation.js";
import type { Cluster } from "./cluster.js";
import type { Server } from "./server.js";
import { acceptsStart, branchAt, commonEnd } from "./wal.js";

/** A walsender and its receiver. */
export interface Session {
  readonly upstream: Server;
  readonly standby: Server;
  sent: number;
  /** Flushed at the standby, as the walsender knows. */
  flushed: number;
  /** The walsender's own copy of the list, and which setting of it that was. */
  list: SyncList | null;
  listGeneration: number;
  inFlight: boolean;
  alive: boolean;
}

/** @returns false when there is nobody to stream from; it is tried again. */
export function connect(cluster: Cluster, standby: Server): boolean {
  const upstream = cluster.servers[standby.conninfo];
  if (upstream === undefined || upstream === standby || !upstream.reachable) return false;
  if (upstream.phase === "recovery" && !upstream.hasSlots) return false;
  if (!cluster.dataLinked(upstream.id, standby.id) || !cluster.dataLinked(standby.id, upstream.id)) return false;
  // Who was removed has no slot any more; nobody looks after its WAL.
  if (memberById(cluster.truth, standby.id) === undefined) return false;
  // History files come over before the start is refused.
  const timeline = branchAt(standby.branch, standby.written).timeline;
  const accepted = acceptsStart(upstream.branch, upstream.flushed, timeline, standby.written);
  standby.newestTimeline = Math.max(standby.newestTimeline, branchAt(upstream.branch, upstream.flushed).timeline);
  if (!accepted) return false;
  if (standby.written > commonEnd(standby.branch, upstream.branch)) {
    throw new Violation(
      "corrupt",
      `node ${standby.id} streams from node ${upstream.id} on timeline ${timeline} at ${standby.written}, but its WAL is ` +
        `no prefix of that server's: they part at ${commonEnd(standby.branch, upstream.branch)}`,
    );
  }
  if (upstream.phase === "recovery") cluster.marks.cascadeFromStandby++;
  const session: Session = {
    upstream,
    standby,
    sent: standby.written,
    flushed: standby.flushed,
    list: upstream.listOnDisk,
    listGeneration: upstream.listGeneration,
    inFlight: false,
    alive: true,
  };
  standby.upstream = session;
  upstream.downstreams.set(standby.id, session);
  ship(cluster, upstream);
  cluster.later(upstream.id, cluster.delay(cluster.knobs.shipMeanMs), "first reply", () => acknowledged(session));
  return true;
}

/** Sends what is flushed here and not on its way yet. */
export function ship(cluster: Cluster, upstream: Server): void {
  for (const session of upstream.downstreams.values()) {
    if (session.inFlight || session.sent >= upstream.flushed) continue;
    const { standby } = session;
    if (!cluster.dataLinked(upstream.id, standby.id)) {
      endSession(cluster, session);
      continue;
    }
    const { branch } = upstream;
    const flushed = Math.min(upstream.flushed, session.sent + cluster.knobs.shipRecords);
    session.inFlight = true;
    session.sent = flushed;
    cluster.later(standby.id, cluster.delay(cluster.knobs.shipMeanMs), "WAL", () => {
      session.inFlight = false;
      if (!session.alive) return;
      standby.receive(branch, flushed, () => reply(cluster, session));
      ship(cluster, upstream);
    });
  }
}

function reply(cluster: Cluster, session: Session): void {
  const { upstream, standby } = session;
  if (!session.alive) return;
  if (!cluster.dataLinked(standby.id, upstream.id)) {
    endSession(cluster, session);
    return;
  }
  const { flushed } = standby;
  cluster.later(upstream.id, cluster.delay(cluster.knobs.shipMeanMs), "reply", () => {
    if (!session.alive || flushed <= session.flushed) return;
    session.flushed = flushed;
    acknowledged(session);
  });
}

/** The walsender wakes those whose position is now on enough standbys, by its own copy of the list. */
function acknowledged(session: Session): void {
  const { upstream, standby, list } = session;
  if (!session.alive || list === null || !list.members.includes(standby.id)) return;
  if (upstream.phase !== "primary" && upstream.phase !== "stopping") return;
  const position = confirmedBy(upstream, list);
  if (position !== null) upstream.release(position);
}

/** What `list.acks` of `list.members` have flushed; null: there are not that many. */
export function confirmedBy(upstream: Server, list: SyncList): number | null {
  if (list.acks === 0) return upstream.flushed;
  const positions: number[] = [];
  for (const [id, session] of upstream.downstreams) if (list.members.includes(id)) positions.push(session.flushed);
  if (positions.length < list.acks) return null;
  positions.sort((a, b) => b - a);
  return positions[list.acks - 1] as number;
}

/** A waiter that came after the last reply is not forgotten: any walsender of the list looks again. */
export function releaseWaiters(upstream: Server): void {
  for (const [id, { list }] of upstream.downstreams) {
    if (list === null || !list.members.includes(id)) continue;
    const position = confirmedBy(upstream, list);
    if (position !== null) upstream.release(position);
    if (upstream.waiters.length === 0) return;
  }
}

export function endSession(cluster: Cluster, session: Session): void {
  if (!session.alive) return;
  session.alive = false;
  const { upstream, standby } = session;
  upstream.downstreams.delete(standby.id);
  standby.upstream = null;
  standby.receiverEnded();
  if (standby.phase === "recovery") standby.reconnect(cluster.knobs.reconnectMs);
}

/** Sets the list on disk and reloads: the checkpointer and each walsender take it up at a moment of their own. */
export function setList(cluster: Cluster, server: Server, list: SyncList): void {
  server.listOnDisk = list.acks === 0 ? null : list;
  const generation = ++server.listGeneration;
  const taken = server.listOnDisk;
  server.later(cluster.delay(cluster.knobs.reloadMeanMs), "checkpointer reloads", () => {
    if (server.checkpointerGeneration >= generation) return;
    server.checkpointerGeneration = generation;
    server.waitsForStandbys = taken !== null;
    // An empty list lets everybody go who waits.
    if (taken === null) server.release(Number.POSITIVE_INFINITY);
  });
  for (const session of server.downstreams.values()) {
    server.later(cluster.delay(cluster.knobs.reloadMeanMs), "walsender reloads", () => {
      if (!session.alive || session.listGeneration >= generation) return;
      session.listGeneration = generation;
      session.list = taken;
      acknowledged(session);
    });
  }
}

export function listInForce(server: Server): boolean {
  if (server.checkpointerGeneration < server.listGeneration) return false;
  for (const session of server.downstreams.values()) if (session.listGeneration < server.listGeneration) return false;
  return true;
}

/** Whoever can be a source of a rejoin now: a primary that is reached over the data network. */
export function rejoinSource(cluster: Cluster, standby: Server, wanted: NodeId): Server | null {
  const first = cluster.servers[wanted];
  const all = first === undefined ? cluster.servers : [first, ...cluster.servers];
  for (const server of all) {
    if (server === undefined || server === standby || server.phase !== "primary") continue;
    if (cluster.dataLinked(server.id, standby.id) && cluster.dataLinked(standby.id, server.id)) return server;
  }
  return null;
}
