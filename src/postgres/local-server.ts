/** The executor for the running local server: every statement that the agent sends to its own PostgreSQL. */
import type { Lsn } from "../control/types.js";
import { follow } from "./follow.js";
import { writeMarker } from "./marker.js";
import { observe } from "./observe.js";
import { pledge } from "./pledge.js";
import { promote } from "./promotion.js";
import { ReplayTimeline } from "./replay-timeline.js";
import { Session, type SessionOptions } from "./session.js";
import { maintainSlots } from "./slots.js";
import type { LocalServer, PledgeResult } from "./types.js";

export interface LocalServerOptions {
  readonly socketDirectory: string;
  readonly port: number;
  /** The advertised connection string: user, password and database come from it (OS user, `postgres`). */
  readonly dsn: string;
  readonly markerKey: string;
  readonly bindir: string;
  readonly pgdata: string;
  readonly log: (level: "debug" | "info" | "warning" | "error", message: string) => void;
  readonly deadlines?: Partial<Deadlines>;
}

/** How long one answer may take before its connection is given up. */
export interface Deadlines {
  readonly connectMs: number;
  readonly queryMs: number;
  /** Longer than any lease: how long is too long is the lease's decision, not the connection's. */
  readonly probeMs: number;
  readonly checkpointMs: number;
}

const defaultDeadlines: Deadlines = { connectMs: 2000, queryMs: 3000, probeMs: 10_000, checkpointMs: 300_000 };

/** Three sessions: superusers have three connections in reserve when a server is full. None is opened before its use. */
export function createLocalServer(options: LocalServerOptions): LocalServer {
  const deadlines = { ...defaultDeadlines, ...options.deadlines };
  const open = (purpose: string, more: Partial<SessionOptions> = {}) =>
    new Session({
      purpose,
      socketDirectory: options.socketDirectory,
      port: options.port,
      dsn: options.dsn,
      markerKey: options.markerKey,
      connectDeadlineMs: deadlines.connectMs,
      queryDeadlineMs: deadlines.queryMs,
      ...more,
    });
  const commands = open("commands");
  const control = open("pledge, promotion and marker");
  const openTimeline = () => open("timeline", { markerKey: "", replication: true });
  const timeline = new ReplayTimeline(openTimeline);
  let probe: { readonly key: string; readonly session: Session } | null = null;
  let generation = 0;
  let closed = false;

  const probeSession = (key: string): Session => {
    if (probe === null || probe.key !== key) {
      probe?.session.close();
      const settings = { synchronous_commit: "local" };
      probe = { key, session: open("commit probe", { markerKey: key, queryDeadlineMs: deadlines.probeMs, settings }) };
      if (closed) probe.session.close();
    }
    return probe.session;
  };
  const ownPids = (): number[] =>
    [commands.backendPid, control.backendPid, probe?.session.backendPid ?? null].filter((pid) => pid !== null);
  const nextGeneration = (atLeast: number): number => {
    generation = Math.max(generation + 1, atLeast);
    return generation;
  };

  return {
    observe: () => observe(commands, timeline),
    pledge: (request): Promise<PledgeResult> =>
      pledge(
        // Not the session of the looks: one that is under way would have to end first. The promotion finds it open.
        { session: control, timeline, ownPids, nextGeneration, log: options.log },
        request,
      ),
    promote: (deadlineMs, parentTimeline) => promote(control, deadlineMs, parentTimeline),
    follow: (target) => follow(commands, target),
    writeMarker: async (marker): Promise<Lsn> => {
      if (marker.markerKey !== options.markerKey) {
        const once = open("marker", { markerKey: marker.markerKey });
        return writeMarker(once, marker).finally(() => once.close());
      }
      return writeMarker(control, marker);
    },
    maintainSlots: (wanted) => maintainSlots(control, wanted, options.log),
    probeCommit: async (markerKey) => {
      await probeSession(markerKey).query("SELECT pg_logical_emit_message(true, 'pg_replica.probe', '')");
    },
    checkpoint: async () => {
      await control.query("CHECKPOINT", [], deadlines.checkpointMs);
    },
    terminateClients: () => terminateClients(commands, ownPids),
    close: async () => {
      closed = true;
      for (const session of [commands, control, probe?.session]) session?.close();
    },
  };
}

async function terminateClients(session: Session, ownPids: () => readonly number[]): Promise<number> {
  await session.warm();
  const ended = await session.query<{ pid: number }>(
    `SELECT a.pid FROM pg_stat_activity a
      WHERE a.backend_type = 'client backend' AND a.pid <> ALL ($1::int[]) AND pg_terminate_backend(a.pid)`,
    [ownPids()],
  );
  return ended.length;
}
