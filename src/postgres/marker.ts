/** The marker of a promotion: one row and one logical message, by which standbys and clones know whose WAL they hold. */
import type { Lsn, Token } from "../control/types.js";
import { ServerError } from "./errors.js";
import type { Session, Statements } from "./session.js";

export interface Marker {
  readonly token: Token;
  readonly parent: Token | null;
  readonly node: string;
}

/** A marker waits for its commit like any other one; a longer wait means that this promotion can not open. */
const markerDeadlineMs = 10_000;

/**
 * One statement is one transaction, and one way to the server and back. With synchronous_commit = off the server would be
 * opened before its marker is on disk.
 */
const markSql = `
INSERT INTO pg_replica.token AS t (id, term, index, parent_term, parent_index, node, at)
VALUES (true, $1, $2, $3, $4, $5, clock_timestamp())
ON CONFLICT (id) DO UPDATE SET term = excluded.term, index = excluded.index, parent_term = excluded.parent_term,
  parent_index = excluded.parent_index, node = excluded.node, at = excluded.at
WHERE (t.term, t.index) <= (excluded.term, excluded.index)
RETURNING pg_logical_emit_message(true, 'pg_replica', $6)::text AS message,
  CASE WHEN current_setting('synchronous_commit') = 'off'
    THEN set_config('synchronous_commit', 'local', true) END AS commits`;

/** The session must have the marker key: this is written before the server is open. */
export async function writeMarker(session: Session, marker: Marker): Promise<Lsn> {
  return session.run(async (statements) => {
    await mark(statements, marker).catch(async (error: unknown) => {
      if (!isMissing(error)) throw error;
      // The cluster's first primary; every later one has the extension from its data.
      await statements.query("CREATE EXTENSION IF NOT EXISTS pg_replica", [], markerDeadlineMs);
      await mark(statements, marker);
    });
    const [row] = await statements.query<{ lsn: string }>("SELECT pg_current_wal_flush_lsn()::text AS lsn");
    if (row === undefined) throw new ServerError("SERVER_STATE", "the server did not tell its flush position");
    return row.lsn;
  });
}

async function mark(statements: Statements, marker: Marker): Promise<void> {
  const { token, parent, node } = marker;
  const content = JSON.stringify({ token, parent, node });
  const values = [token.term, token.index, parent?.term ?? null, parent?.index ?? null, node, content];
  const written = await statements.query(markSql, values, markerDeadlineMs);
  if (written.length !== 1) {
    const message = `the data already carry a newer token than ${token.term}.${token.index}: this server must not open under it`;
    throw new ServerError("MARKER_OUTDATED", message);
  }
}

/** undefined_table, invalid_schema_name */
function isMissing(error: unknown): boolean {
  return error instanceof ServerError && (error.sqlState === "42P01" || error.sqlState === "3F000");
}
