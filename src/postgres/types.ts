/** What the agent needs of its local PostgreSQL server. One implementation: `local-server.ts`. */
import type { Lsn, Token } from "../control/types.js";

/** One look at the local server. `reachable` false: the rest is null. */
export interface ServerObservation {
  readonly reachable: boolean;
  /** Why not, in PostgreSQL's or the system's words. */
  readonly why: string | null;
  readonly inRecovery: boolean | null;
  readonly timeline: number | null;
  readonly replayLsn: Lsn | null;
  readonly receiveLsn: Lsn | null;
  /** Primary: pg_current_wal_lsn(). */
  readonly writeLsn: Lsn | null;
  readonly flushLsn: Lsn | null;
  readonly replayPaused: boolean;
  readonly lagSeconds: number | null;
  readonly receiver: { readonly status: string; readonly latestEndLsn: Lsn | null } | null;
  /** In recovery, no receiver, and the startup process has parked itself at the end of the WAL: a positive signal. */
  readonly replayDone: boolean;
  /** As this server has them in force; null when unreachable. May hold a password: never log it. */
  readonly primaryConninfo: string | null;
  readonly primarySlotName: string | null;
  /** Row of pg_replica.token; null when the extension is not there yet. */
  readonly markerToken: Token | null;
  readonly pendingRestart: boolean;
  readonly postmasterStartTime: string | null;
  /** Connected standbys on a primary: application_name to state. */
  readonly standbys: ReadonlyArray<{
    readonly applicationName: string;
    readonly state: string;
    readonly replayLsn: Lsn | null;
    readonly syncState: string;
  }>;
}

export interface FollowTarget {
  readonly token: Token;
  /** The primary's advertised connection string. */
  readonly dsn: string;
  /** application_name and slot carry the Raft id, so that a wiped node never acknowledges as its old self. */
  readonly applicationName: string;
  readonly slotName: string;
}

export interface PledgeResult {
  readonly lsn: Lsn;
  readonly timeline: number;
  readonly markerToken: Token | null;
  readonly lastPrimaryLsn: Lsn | null;
}

export interface LocalServer {
  observe(): Promise<ServerObservation>;
  /**
   * Ends streaming for good and proves it: clears primary_conninfo and restore_command durably,
   * reload, SIGTERM to the receiver, waits for the startup process's own acknowledgement and for replay to be done.
   * With `waitLsn`, first waits (up to `waitMs`) until that position is replayed.
   * @throws ServerError with what was missing when `deadlineMs` passes.
   */
  pledge(options: {
    readonly waitLsn: Lsn | null;
    readonly waitMs: number;
    readonly deadlineMs: number;
    /** Resolves when the pledge is on disk: nothing is ended before. */
    readonly recorded?: Promise<void>;
  }): Promise<PledgeResult>;
  /**
   * Repeats pg_promote(false) every 20 ms until out of recovery; gives the new timeline and where its history leaves
   * `parentTimeline`, that of the last marker here (null: not known, then where it began).
   */
  promote(
    deadlineMs: number,
    parentTimeline?: number | null,
  ): Promise<{ readonly timeline: number; readonly forkLsn: Lsn }>;
  /** Points the standby at `target`; idempotent. */
  follow(target: FollowTarget): Promise<void>;
  /** In a marker session: CREATE EXTENSION if missing, upsert the token row, transactional logical message. */
  writeMarker(marker: {
    readonly token: Token;
    readonly parent: Token | null;
    readonly node: string;
    readonly markerKey: string;
  }): Promise<Lsn>;
  /** Member slots: create missing, advance to what members confirmed, drop those of former members and lost ones. */
  maintainSlots(wanted: ReadonlyArray<{ readonly slotName: string; readonly confirmedLsn: Lsn | null }>): Promise<void>;
  /** A committing probe (synchronous_commit = local) on its own connection. Resolves when the commit is durable. */
  probeCommit(markerKey: string): Promise<void>;
  checkpoint(): Promise<void>;
  /** Ends every other client backend that is in, or could start, a write transaction; returns how many. */
  terminateClients(): Promise<number>;
  close(): Promise<void>;
}

/** Read straight from global/pg_control; works while the server is down. */
export interface ControlFile {
  readonly systemIdentifier: string;
  readonly state:
    | "starting up"
    | "shut down"
    | "shut down in recovery"
    | "shutting down"
    | "in crash recovery"
    | "in archive recovery"
    | "in production";
  readonly checkpointLsn: Lsn;
  readonly timeline: number;
  readonly redoLsn: Lsn;
  readonly dataChecksums: boolean;
}

/** Written (fsynced) by the agent before it stops the server; read by `pg_replica prepare`. `rejoin.json`. */
export interface RejoinIntent {
  readonly format: 1;
  readonly token: string;
  readonly source: { readonly node: string; readonly dsn: string };
  /** Other members, for when the cluster has failed over meanwhile and `source` is no primary any more. */
  readonly candidates?: ReadonlyArray<{ readonly node: string; readonly dsn: string }>;
  readonly method: "rewind" | "rebuild";
  readonly why: string;
  /** From the source: the timeline its checkpoint must be on before a rewind is trusted. */
  readonly timeline: number;
  readonly systemIdentifier: string;
}
