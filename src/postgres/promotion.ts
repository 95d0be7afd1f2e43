/** Leaving recovery. */
import type { Lsn } from "../control/types.js";
import { Deadline, sleep } from "./deadline.js";
import { ServerError } from "./errors.js";
import type { Session } from "./session.js";

/**
 * The request is repeated: a startup process that has just lost its receiver takes the one signal for the other and
 * sleeps its retry interval without looking.
 */
const kickMs = 20;
/** How often it is looked at whether recovery has ended: every millisecond of it is a part of the outage. */
const lookMs = 2;

export async function promote(
  session: Session,
  deadlineMs: number,
  parentTimeline: number | null = null,
): Promise<{ readonly timeline: number; readonly forkLsn: Lsn }> {
  const deadline = new Deadline(deadlineMs);
  let kickedMs = Number.NEGATIVE_INFINITY;
  for (;;) {
    const kick = performance.now() - kickedMs >= kickMs;
    if (kick) kickedMs = performance.now();
    if (!(kick ? await requestPromotion(session) : await isInRecovery(session))) break;
    if (deadline.passed) {
      throw new ServerError("PROMOTION_NOT_DONE", `the server is still in recovery ${deadlineMs} ms after the request`);
    }
    await sleep(lookMs);
  }
  return readFork(session, parentTimeline);
}

/** Asks once; false: the server is out of recovery. */
async function requestPromotion(session: Session): Promise<boolean> {
  try {
    const [row] = await session.query<{ in_recovery: boolean }>(
      "SELECT CASE WHEN pg_is_in_recovery() THEN pg_promote(false) END, pg_is_in_recovery() AS in_recovery",
    );
    return row?.in_recovery ?? true;
  } catch (error) {
    // Recovery ended between the two functions; the next look says so.
    if (error instanceof ServerError && error.sqlState === "55000") return true;
    throw error;
  }
}

async function isInRecovery(session: Session): Promise<boolean> {
  const [row] = await session.query<{ in_recovery: boolean }>("SELECT pg_is_in_recovery() AS in_recovery");
  return row?.in_recovery ?? true;
}

/** pg_control shows the new timeline only after the next checkpoint, the name of the WAL file at once. */
async function readFork(session: Session, parent: number | null): Promise<{ timeline: number; forkLsn: Lsn }> {
  const [row] = await session.query<{ timeline: number; history: string | null }>(
    `SELECT ('x' || t.hex)::bit(32)::int AS timeline, pg_read_file('pg_wal/' || t.hex || '.history', 0, 1048576, true) AS history
      FROM (SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) AS hex) t`,
  );
  if (row === undefined) throw new ServerError("SERVER_STATE", "the server did not tell its timeline");
  // The first timeline forks off nothing and has no history file.
  if (row.timeline === 1) return { timeline: 1, forkLsn: "0/0" };
  return { timeline: row.timeline, forkLsn: parseForkLsn(row.history ?? "", row.timeline, parent) };
}

/**
 * Each line of a history file: a timeline, the position at which this one's history leaves it, the reason, separated by
 * tabs. The last line is where this promotion began. A promotion before it that ended without a marker has a line of its
 * own, though nobody knows of it; what counts for the others is where the timeline that they share with us was left.
 */
export function parseForkLsn(history: string, timeline: number, parentTimeline: number | null = null): Lsn {
  const lines = history
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split(/\s+/));
  const shared = lines.find(([number]) => Number(number) === parentTimeline) ?? lines.at(-1);
  const lsn = shared?.[1];
  if (lsn === undefined || !/^[0-9A-F]{1,8}\/[0-9A-F]{1,8}$/i.test(lsn)) {
    throw new ServerError("SERVER_STATE", `the history file of timeline ${timeline} does not tell where it begins`);
  }
  return lsn;
}
