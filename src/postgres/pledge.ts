/** Ends streaming for good, proves it, and reports the position that results. */
import type { Lsn } from "../control/types.js";
import { alterSystem, reload, resetSystem } from "./configure.js";
import { Deadline, sleep } from "./deadline.js";
import { ServerError } from "./errors.js";
import { parkedWaitEvent } from "./observe.js";
import {
  describeMissing,
  nextPledgeStage,
  type PledgeLook,
  type PledgeRules,
  type PledgeStage,
} from "./pledge-proof.js";
import { newestTimelineSql, type ReplayTimeline, type TimelineHint } from "./replay-timeline.js";
import type { Row, Session } from "./session.js";
import type { PledgeResult } from "./types.js";

export interface PledgeContext {
  readonly session: Session;
  readonly timeline: ReplayTimeline;
  readonly ownPids: () => readonly number[];
  /** Greater than every generation that this agent has used on this server. */
  readonly nextGeneration: (atLeast: number) => number;
  readonly log: (level: "debug" | "info" | "warning" | "error", message: string) => void;
}

export interface PledgeOptions {
  readonly waitLsn: Lsn | null;
  readonly waitMs: number;
  readonly deadlineMs: number;
  /**
   * Resolves when the pledge is on disk. Nothing is ended before; meanwhile the server is looked at, and its configuration
   * is written, which nobody reads without a reload.
   */
  readonly recorded?: Promise<void>;
}

/** How long the startup process may take before readers that could block it are ended. */
const patienceMs = 200;
const pollMs = 2;

interface StartRow extends Row {
  in_recovery: boolean;
  latest_end_lsn: string | null;
  loaded: boolean;
  has_function: boolean;
  generation: number;
  apply_delay: string;
  apply_delay_ms: number;
  apply_delay_in_auto: string | null;
  retry_sleep_ms: number;
  restore_command_set: boolean;
  started_at: string;
  newest_timeline: number;
}

const startSql = `
SELECT pg_is_in_recovery() AS in_recovery,
  (SELECT w.latest_end_lsn::text FROM pg_stat_wal_receiver w) AS latest_end_lsn,
  'pg_replica' = ANY (regexp_split_to_array(current_setting('shared_preload_libraries'), '[\\s,"]+')) AS loaded,
  to_regprocedure('pg_replica.startup_generation()') IS NOT NULL AS has_function,
  coalesce(nullif(current_setting('pg_replica.reload_generation', true), ''), '0')::int AS generation,
  current_setting('recovery_min_apply_delay') AS apply_delay,
  (extract(epoch FROM current_setting('recovery_min_apply_delay')::interval) * 1000)::int AS apply_delay_ms,
  (SELECT f.setting FROM pg_file_settings f WHERE f.name = 'recovery_min_apply_delay'
    AND f.sourcefile LIKE '%/postgresql.auto.conf' ORDER BY f.seqno DESC LIMIT 1) AS apply_delay_in_auto,
  (extract(epoch FROM current_setting('wal_retrieve_retry_interval')::interval) * 1000)::int AS retry_sleep_ms,
  current_setting('restore_command') <> '' OR EXISTS (SELECT FROM pg_file_settings f
    WHERE f.name = 'restore_command' AND f.setting <> '') AS restore_command_set,
  pg_postmaster_start_time()::text AS started_at, ${newestTimelineSql} AS newest_timeline`;

interface LookRow extends Row {
  in_recovery: boolean;
  generation: number | null;
  cleared: boolean;
  receiver_pid: number | null;
  wait_event: string | null;
  replayed_all: boolean;
  paused: boolean;
  latest_end_lsn: string | null;
}

const lookSql = (acknowledged: boolean) => `
SELECT pg_is_in_recovery() AS in_recovery,
  ${acknowledged ? "pg_replica.startup_generation()" : "NULL::int"} AS generation,
  current_setting('primary_conninfo') = '' AND current_setting('restore_command') = '' AS cleared,
  a.receiver_pid, a.wait_event,
  coalesce(pg_last_wal_replay_lsn() >= pg_last_wal_receive_lsn(), pg_last_wal_receive_lsn() IS NULL) AS replayed_all,
  CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS paused,
  (SELECT w.latest_end_lsn::text FROM pg_stat_wal_receiver w) AS latest_end_lsn
FROM (SELECT max(s.pid) FILTER (WHERE s.backend_type = 'walreceiver') AS receiver_pid,
    max(s.wait_event) FILTER (WHERE s.backend_type = 'startup') AS wait_event
  FROM pg_stat_get_activity(NULL) s) a`;

export async function pledge(context: PledgeContext, options: PledgeOptions): Promise<PledgeResult> {
  if (options.waitLsn !== null) await waitForReplay(context.session, options.waitLsn, options.waitMs);
  const start = await readStart(context.session);
  if (!canAcknowledge(start)) {
    const why = start.loaded ? "the extension is not created yet" : "the library pg_replica is not loaded";
    context.log("warning", `pledging without the startup process's own acknowledgement: ${why}`);
  }
  const timelineSession = context.timeline.open();
  if (context.timeline.known(hintOf(start)) === null) {
    // Connects while the proof is under way; its error, if any, comes out at the read.
    timelineSession.warm().catch(() => undefined);
  }
  try {
    const run = new PledgeRun(context, start, options.deadlineMs);
    await run.configure();
    await options.recorded;
    await run.end();
    await run.prove();
    await run.restoreApplyDelay();
    const { newest, ...position } = await readPosition(context.session, start.has_function);
    const hint = { ...hintOf(start), newest };
    const timeline = context.timeline.known(hint) ?? (await context.timeline.ask(timelineSession, hint));
    return { timeline, ...position, lastPrimaryLsn: run.lastPrimaryLsn };
  } finally {
    timelineSession.close();
  }
}

function hintOf(start: StartRow): TimelineHint {
  return { startedAt: start.started_at, newest: start.newest_timeline, more: null };
}

/** The function comes with the data (a clone has it), what it reads with the library. */
function canAcknowledge(start: StartRow): boolean {
  return start.loaded && start.has_function;
}

async function waitForReplay(session: Session, lsn: Lsn, waitMs: number): Promise<void> {
  const deadline = new Deadline(waitMs);
  for (;;) {
    const [row] = await session.query<{ done: boolean }>(
      "SELECT NOT pg_is_in_recovery() OR coalesce(pg_last_wal_replay_lsn() >= $1::pg_lsn, false) AS done",
      [lsn],
    );
    // Past the limit the pledge goes on with what there is: the leader compares positions anyway.
    if (row?.done === true || deadline.passed) return;
    await sleep(pollMs);
  }
}

async function readStart(session: Session): Promise<StartRow> {
  const [row] = await session.query<StartRow>(startSql);
  if (row === undefined || !row.in_recovery) {
    throw new ServerError("SERVER_STATE", "the server is not in recovery: only a standby can pledge");
  }
  return row;
}

class PledgeRun {
  readonly #context: PledgeContext;
  readonly #start: StartRow;
  readonly #deadline: Deadline;
  readonly #rules: PledgeRules;
  readonly #startedMs = performance.now();
  #readersEndedMs = 0;
  lastPrimaryLsn: Lsn | null;

  constructor(context: PledgeContext, start: StartRow, deadlineMs: number) {
    this.#context = context;
    this.#start = start;
    this.#deadline = new Deadline(deadlineMs);
    this.lastPrimaryLsn = start.latest_end_lsn;
    this.#rules = {
      generation: context.nextGeneration(start.generation + 1),
      retrySleepMs: start.retry_sleep_ms,
      parkedWaitEvent,
    };
  }

  /** Each ALTER SYSTEM costs some syncs. The slot is this node's own on any primary: it stays for the next one. */
  async configure(): Promise<void> {
    await this.#context.session.run(async (statements) => {
      await alterSystem(statements, "primary_conninfo", "");
      if (this.#start.restore_command_set) await alterSystem(statements, "restore_command", "");
      if (this.#start.apply_delay_ms > 0) await alterSystem(statements, "recovery_min_apply_delay", "0");
      // Last, so that whoever reads this generation has read all of the above.
      if (this.#start.loaded) {
        await alterSystem(statements, "pg_replica.reload_generation", String(this.#rules.generation));
      }
    });
  }

  async end(): Promise<void> {
    await this.#context.session.run(reload);
  }

  async prove(): Promise<void> {
    let stage: PledgeStage = { kind: "ending" };
    let look: PledgeLook | null = null;
    while (stage.kind !== "proven") {
      if (this.#deadline.passed) {
        const missing = describeMissing(stage, look, this.#rules);
        throw new ServerError("PLEDGE_NOT_PROVEN", `no pledge within ${this.#deadline.totalMs} ms: ${missing}`);
      }
      look = await this.#look();
      const step: { stage: PledgeStage; wake: boolean } = nextPledgeStage(stage, look, this.#rules, performance.now());
      stage = step.stage;
      if (step.wake) await this.#wake();
      if (stage.kind !== "proven" && stage.kind !== "ended") await sleep(pollMs);
    }
  }

  /** The operator's delay counts again from here on; with no upstream it delays nothing now. */
  async restoreApplyDelay(): Promise<void> {
    const { apply_delay_ms: delayMs, apply_delay_in_auto: inAuto } = this.#start;
    if (delayMs === 0) return;
    await this.#context.session.run(async (statements) => {
      if (inAuto === null) await resetSystem(statements, "recovery_min_apply_delay");
      else await alterSystem(statements, "recovery_min_apply_delay", inAuto);
      await reload(statements);
    });
  }

  async #look(): Promise<PledgeLook> {
    const { session } = this.#context;
    const [row] = await session.query<LookRow>(lookSql(canAcknowledge(this.#start)));
    if (row === undefined || !row.in_recovery) {
      throw new ServerError("SERVER_STATE", "the server left recovery while it was pledging");
    }
    if (row.latest_end_lsn !== null) this.lastPrimaryLsn = row.latest_end_lsn;
    if (row.receiver_pid !== null) this.#endReceiver(row.receiver_pid);
    if (row.paused) await session.query("SELECT pg_wal_replay_resume() WHERE pg_is_in_recovery()");
    if (row.wait_event !== parkedWaitEvent) await this.#endReadersWhenLate();
    return {
      startupGeneration: row.generation,
      configurationCleared: row.cleared,
      receiverPid: row.receiver_pid,
      startupWaitEvent: row.wait_event,
      replayedAllReceived: row.replayed_all,
    };
  }

  /** By signal: pg_terminate_backend() does not know receivers. Seen in the view a moment ago, so it is the same one. */
  #endReceiver(pid: number): void {
    try {
      process.kill(pid, "SIGTERM");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
  }

  async #endReadersWhenLate(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs - this.#startedMs < patienceMs || nowMs - this.#readersEndedMs < patienceMs) return;
    this.#readersEndedMs = nowMs;
    const ended = await this.#context.session.query<{ pid: number }>(
      `SELECT a.pid FROM pg_stat_activity a
        WHERE a.backend_type = 'client backend' AND a.pid <> ALL ($1::int[])
          AND (a.backend_xmin IS NOT NULL OR a.xact_start IS NOT NULL) AND pg_terminate_backend(a.pid)`,
      [this.#context.ownPids()],
    );
    if (ended.length > 0) {
      this.#context.log("warning", `ended ${ended.length} sessions with open transactions that can block replay`);
    }
  }

  async #wake(): Promise<void> {
    const generation = this.#context.nextGeneration(this.#rules.generation + 1);
    await this.#context.session.run(async (statements) => {
      if (this.#start.loaded) await alterSystem(statements, "pg_replica.reload_generation", String(generation));
      await reload(statements);
    });
  }
}

type Position = Pick<PledgeResult, "lsn" | "markerToken"> & { readonly newest: number };

interface PositionRow extends Row {
  lsn: string | null;
  term: string | null;
  index: string | null;
  newest_timeline: number;
}

/** The extension's table is there when its function is; the row when a primary has opened. */
async function readPosition(session: Session, hasExtension: boolean): Promise<Position> {
  const token = hasExtension ? "pg_replica.token" : "(SELECT NULL::bigint AS term, NULL::bigint AS index)";
  const [row] = await session.query<PositionRow>(
    `SELECT pg_last_wal_replay_lsn()::text AS lsn, t.term::text AS term, t.index::text AS index,
        ${newestTimelineSql} AS newest_timeline
      FROM (SELECT) AS one LEFT JOIN ${token} t ON true`,
  );
  if (row === undefined || row.lsn === null) {
    throw new ServerError("SERVER_STATE", "the server has no replay position");
  }
  const markerToken = row.term === null ? null : { term: Number(row.term), index: Number(row.index) };
  return { lsn: row.lsn, markerToken, newest: row.newest_timeline };
}
