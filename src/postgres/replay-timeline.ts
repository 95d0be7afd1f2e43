/**
 * The timeline that a standby is replaying. No SQL function tells it in recovery: pg_control holds the one of the last
 * restartpoint, pg_stat_wal_receiver the one being received. IDENTIFY_SYSTEM on a walsender does: on a standby it
 * answers with the timeline of the last replayed record (PostgreSQL 13 to 18). A walsender takes one of
 * max_wal_senders and a new connection costs more than everything else that a look does, so it is asked only when the
 * timeline may have changed, and the connection is closed again.
 */
import { ServerError } from "./errors.js";
import type { Session } from "./session.js";

/** What a look tells about whether the timeline may have changed. */
export interface TimelineHint {
  /** Start time of the postmaster: a restart replays from an earlier place. */
  readonly startedAt: string;
  /** The newest timeline whose history file is in pg_wal; 1 when there is none. */
  readonly newest: number;
  /** Changes whenever replay may have gone over to another timeline; null: not looked at. */
  readonly more: string | null;
}

/**
 * For the select list of a look. Replay goes over to a timeline only with its history file, which it reads from pg_wal
 * or keeps there when it came from an archive.
 */
export const newestTimelineSql = `coalesce((SELECT max(('x' || left(f, 8))::bit(32)::int)
    FROM pg_ls_dir('pg_wal') f WHERE f ~ '^[0-9A-F]{8}[.]history$'), 1)`;

export class ReplayTimeline {
  readonly #open: () => Session;
  #known: { readonly hint: TimelineHint; readonly timeline: number } | null = null;

  constructor(open: () => Session) {
    this.#open = open;
  }

  /** Null: the server has to be asked. A timeline never goes back while the server runs, and never beyond the newest. */
  known(hint: TimelineHint): number | null {
    if (this.#known === null || this.#known.hint.startedAt !== hint.startedAt) return null;
    const { timeline } = this.#known;
    const unchanged = hint.more !== null && this.#known.hint.more === hint.more;
    return unchanged || timeline === hint.newest ? timeline : null;
  }

  async read(hint: TimelineHint): Promise<number> {
    const known = this.known(hint);
    if (known !== null) return known;
    const session = this.#open();
    try {
      return await this.ask(session, hint);
    } finally {
      session.close();
    }
  }

  /** By a walsender session that `open` gave. */
  async ask(session: Session, hint: TimelineHint): Promise<number> {
    const timeline = await readReplayTimeline(session);
    this.#known = { hint, timeline };
    return timeline;
  }

  /** A walsender session for a caller that wants to connect early and ask at an exact moment; the caller closes it. */
  open(): Session {
    return this.#open();
  }
}

async function readReplayTimeline(session: Session): Promise<number> {
  const timeline = await session.run(async (statements) => {
    // A parameter-less query goes through the simple protocol, the only one that replication commands have.
    const [row] = await statements.query<{ timeline: number | string }>("IDENTIFY_SYSTEM");
    return Number(row?.timeline);
  });
  if (!Number.isInteger(timeline) || timeline < 1) {
    throw new ServerError("SERVER_STATE", "IDENTIFY_SYSTEM did not tell the timeline");
  }
  return timeline;
}
