/** One look at the local server, on a standby and on a primary alike. */
import type { Token } from "../control/types.js";
import { messageOf, ServerError } from "./errors.js";
import { newestTimelineSql, type ReplayTimeline, type TimelineHint } from "./replay-timeline.js";
import type { Row, Session, Statements } from "./session.js";
import type { ServerObservation } from "./types.js";

/** The extension forces these; a configured other value leaves `pending_restart` true for ever. */
const forcedSettings = ["restart_after_crash", "hot_standby", "wal_log_hints", "wal_retrieve_retry_interval"];

/** The startup process waits at the end of everything that it could find. A receiver or its request excludes it. */
export const parkedWaitEvent = "RecoveryRetrieveRetryInterval";

interface LookRow extends Row {
  in_recovery: boolean;
  write_timeline: number | null;
  replay_lsn: string | null;
  receive_lsn: string | null;
  write_lsn: string | null;
  flush_lsn: string | null;
  replay_paused: boolean;
  lag_seconds: number | null;
  receiver_pid: number | null;
  receiver_status: string | null;
  receiver_timeline: number | null;
  latest_end_lsn: string | null;
  startup_wait_event: string | null;
  primary_conninfo: string;
  primary_slot_name: string;
  has_token_table: boolean;
  pending_restart: boolean;
  started_at: string;
  standbys: ServerObservation["standbys"];
  timeline_hint: string;
  newest_timeline: number;
}

const lookSql = `
SELECT r.in_recovery,
  CASE WHEN NOT r.in_recovery
    THEN ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int END AS write_timeline,
  CASE WHEN r.in_recovery THEN pg_last_wal_replay_lsn() END::text AS replay_lsn,
  CASE WHEN r.in_recovery THEN pg_last_wal_receive_lsn() END::text AS receive_lsn,
  CASE WHEN NOT r.in_recovery THEN pg_current_wal_lsn() END::text AS write_lsn,
  CASE WHEN NOT r.in_recovery THEN pg_current_wal_flush_lsn() END::text AS flush_lsn,
  CASE WHEN r.in_recovery THEN pg_is_wal_replay_paused() ELSE false END AS replay_paused,
  CASE WHEN NOT r.in_recovery THEN NULL
    WHEN pg_last_wal_replay_lsn() = pg_last_wal_receive_lsn() THEN 0
    ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END::float8 AS lag_seconds,
  (SELECT a.pid FROM pg_stat_activity a WHERE a.backend_type = 'walreceiver') AS receiver_pid,
  w.status AS receiver_status,
  w.received_tli AS receiver_timeline,
  w.latest_end_lsn::text AS latest_end_lsn,
  (SELECT a.wait_event FROM pg_stat_activity a WHERE a.backend_type = 'startup') AS startup_wait_event,
  current_setting('primary_conninfo') AS primary_conninfo,
  current_setting('primary_slot_name') AS primary_slot_name,
  to_regclass('pg_replica.token') IS NOT NULL AS has_token_table,
  EXISTS (SELECT FROM pg_settings s WHERE s.pending_restart AND s.name <> ALL ($1::text[])) AS pending_restart,
  pg_postmaster_start_time()::text AS started_at,
  (SELECT coalesce(json_agg(json_build_object('applicationName', s.application_name, 'state', s.state,
      'replayLsn', s.replay_lsn::text, 'syncState', s.sync_state)), '[]')
    FROM pg_stat_replication s WHERE s.state <> 'backup') AS standbys,
  concat_ws(' ', pg_postmaster_start_time(), w.received_tli, w.status IS NULL,
    (pg_control_checkpoint()).timeline_id, (pg_control_recovery()).min_recovery_end_timeline) AS timeline_hint,
  ${newestTimelineSql} AS newest_timeline
FROM (SELECT pg_is_in_recovery() AS in_recovery) r LEFT JOIN pg_stat_wal_receiver w ON true`;

export async function observe(session: Session, timeline: ReplayTimeline): Promise<ServerObservation> {
  try {
    const { row, token } = await session.run(look);
    return await observationOf(row, token, timeline);
  } catch (error) {
    return unreachable(messageOf(error));
  }
}

async function look(statements: Statements): Promise<{ row: LookRow; token: Token | null }> {
  const row = await lookOnce(statements).catch((error: unknown) => {
    // The end of recovery may fall between two functions of one statement: the second look is out of recovery.
    if (error instanceof ServerError && error.sqlState === "55000") return lookOnce(statements);
    throw error;
  });
  return { row, token: row.has_token_table ? await readToken(statements) : null };
}

async function lookOnce(statements: Statements): Promise<LookRow> {
  const [row] = await statements.query<LookRow>(lookSql, [forcedSettings]);
  if (row === undefined) throw new ServerError("SERVER_STATE", "the server gave no row for its own state");
  return row;
}

/** The row of the last marker that this server has written or replayed; null when there was none yet. */
export async function readToken(statements: Statements): Promise<Token | null> {
  // Safe in JavaScript's numbers: terms and indexes count elections and log entries.
  const [row] = await statements.query<{ term: string; index: string }>(
    "SELECT t.term::text AS term, t.index::text AS index FROM pg_replica.token t",
  );
  return row === undefined ? null : { term: Number(row.term), index: Number(row.index) };
}

function timelineHint(row: LookRow): TimelineHint {
  return { startedAt: row.started_at, newest: row.newest_timeline, more: row.timeline_hint };
}

async function observationOf(row: LookRow, token: Token | null, timeline: ReplayTimeline): Promise<ServerObservation> {
  const receiving = row.receiver_pid !== null || row.receiver_status !== null;
  return {
    reachable: true,
    why: null,
    inRecovery: row.in_recovery,
    timeline: row.in_recovery ? await timeline.read(timelineHint(row)) : row.write_timeline,
    replayLsn: row.replay_lsn,
    receiveLsn: row.receive_lsn,
    writeLsn: row.write_lsn,
    flushLsn: row.flush_lsn,
    replayPaused: row.replay_paused,
    lagSeconds: row.lag_seconds,
    // A receiver that is still connecting is not in the view yet.
    receiver: receiving ? { status: row.receiver_status ?? "starting", latestEndLsn: row.latest_end_lsn } : null,
    replayDone: row.in_recovery && !receiving && row.startup_wait_event === parkedWaitEvent,
    primaryConninfo: row.primary_conninfo,
    primarySlotName: row.primary_slot_name,
    markerToken: token,
    pendingRestart: row.pending_restart,
    postmasterStartTime: row.started_at,
    standbys: row.standbys,
  };
}

function unreachable(why: string): ServerObservation {
  return {
    reachable: false,
    why,
    inRecovery: null,
    timeline: null,
    replayLsn: null,
    receiveLsn: null,
    writeLsn: null,
    flushLsn: null,
    replayPaused: false,
    lagSeconds: null,
    receiver: null,
    replayDone: false,
    primaryConninfo: null,
    primarySlotName: null,
    markerToken: null,
    pendingRestart: false,
    postmasterStartTime: null,
    standbys: [],
  };
}
