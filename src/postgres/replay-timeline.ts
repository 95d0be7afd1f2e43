/**
 * The timeline that a standby is replaying. No SQL function tells it in recovery: pg_control holds the one of the last
 * restartpoint, pg_stat_wal_receiver the one being received. IDENTIFY_SYSTEM on a walsender does: on a standby it
 * answers with the timeline of the last replayed record (PostgreSQL 13 to 18). A walsender takes one of
 * max_wal_senders, so the connection is made only when something hints at a change, and closed again.
 */
import { ServerError } from "./errors.js";
import type { Session } from "./session.js";

export class ReplayTimeline {
  readonly #open: () => Session;
  #known: { readonly hint: string; readonly timeline: number } | null = null;

  constructor(open: () => Session) {
    this.#open = open;
  }

  /** `hint` changes whenever the timeline may have changed; a timeline is only remembered for its hint. */
  async read(hint: string): Promise<number> {
    if (this.#known?.hint === hint) return this.#known.timeline;
    const session = this.#open();
    try {
      const timeline = await readReplayTimeline(session);
      this.#known = { hint, timeline };
      return timeline;
    } finally {
      session.close();
    }
  }

  forget(): void {
    this.#known = null;
  }

  /** A walsender session for a caller that wants to connect early and ask at an exact moment; the caller closes it. */
  open(): Session {
    return this.#open();
  }
}

export async function readReplayTimeline(session: Session): Promise<number> {
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
