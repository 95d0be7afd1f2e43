/** Finding the server to rewind against or to copy from, and being sure that it is the right one. */
import { setTimeout as sleep } from "node:timers/promises";
import pg from "pg";
import { parseLsn } from "../../control/lsn.js";
import { describeConninfo, expandHosts, toClientConfig } from "../conninfo.js";
import type { RejoinIntent } from "../types.js";
import { PrepareError } from "./errors.js";

/** A primary of the right cluster, as it was when it was asked. */
export interface Source {
  readonly node: string;
  readonly dsn: string;
  /** Of its last checkpoint, made just now. */
  readonly timeline: number;
  /** OID to directory, on the source. */
  readonly tablespaces: ReadonlyMap<string, string>;
  /** Null: a rewind may be trusted. Otherwise why only a full copy may be taken from it. */
  readonly onlyRebuild: string | null;
}

export interface SourceWish {
  readonly intent: RejoinIntent;
  /** PostgreSQL's major version in PGDATA. */
  readonly major: number;
  readonly deadlineMs: number;
  readonly log: (message: string) => void;
  readonly signal?: AbortSignal | undefined;
}

const connectTimeoutMs = 5_000;
/** A checkpoint of a large, busy server takes its time even when it is asked to hurry. */
const queryTimeoutMs = 600_000;
const retryMs = 250;

/**
 * Waits until one of the intent's servers can be used. Nothing local is touched.
 * @throws PrepareError `PREPARE_SOURCE_NOT_READY` with the reason of each, when the deadline passes
 */
export async function findSource(wish: SourceWish): Promise<Source> {
  const deadline = performance.now() + wish.deadlineMs;
  let told = "";
  for (;;) {
    const reasons: string[] = [];
    const found: Source[] = [];
    for (const candidate of [wish.intent.source, ...(wish.intent.candidates ?? [])]) {
      for (const dsn of expandHosts(candidate.dsn)) {
        const answer = await examine(candidate.node, dsn, wish);
        if (typeof answer === "string") reasons.push(`${candidate.node} (${describeConninfo(dsn)}): ${answer}`);
        else found.push(answer);
      }
      // The server that the intent names needs no comparison with others.
      if (found.some((source) => source.onlyRebuild === null)) break;
    }
    const best = found.sort(
      (a, b) => Number(a.onlyRebuild !== null) - Number(b.onlyRebuild !== null) || b.timeline - a.timeline,
    )[0];
    if (best !== undefined) return best;
    const message = `no server to rejoin from is ready:\n  ${reasons.join("\n  ")}`;
    if (performance.now() >= deadline) {
      const hint = "Run prepare again when the primary is back; it goes on from here.";
      throw new PrepareError("PREPARE_SOURCE_NOT_READY", `${message}\n${hint}`);
    }
    if (message !== told) wish.log(`waiting: ${message}`);
    told = message;
    await sleep(retryMs, undefined, wish.signal === undefined ? {} : { signal: wish.signal });
  }
}

/** A source, or the reason why this server is none. */
async function examine(node: string, dsn: string, wish: SourceWish): Promise<Source | string> {
  const client = new pg.Client(
    toClientConfig(dsn, {
      application_name: "pg_replica prepare",
      connectionTimeoutMillis: connectTimeoutMs,
      query_timeout: queryTimeoutMs,
      statement_timeout: 0,
    }),
  );
  // A connection that breaks makes its query fail; without a listener it would end the process as well.
  client.on("error", () => {});
  try {
    await client.connect();
    return await examineConnected(client, node, dsn, wish);
  } catch (error) {
    return error instanceof Error ? error.message || error.name : String(error);
  } finally {
    await client.end().catch(() => {});
  }
}

async function examineConnected(
  client: pg.Client,
  node: string,
  dsn: string,
  wish: SourceWish,
): Promise<Source | string> {
  const { intent } = wish;
  const facts = await one<{ recovery: boolean; system: string; version: string }>(
    client,
    `SELECT pg_is_in_recovery() AS recovery, system_identifier::text AS system,
            current_setting('server_version_num') AS version FROM pg_control_system()`,
  );
  if (facts.system !== intent.systemIdentifier) {
    return `it is another cluster: its system identifier is ${facts.system}, not ${intent.systemIdentifier}`;
  }
  const major = Math.floor(Number(facts.version) / 10_000);
  if (major !== wish.major) return `it runs PostgreSQL ${major}, this data directory is of ${wish.major}`;
  if (facts.recovery) return "it is in recovery, not a primary";
  // Right after a promotion pg_control still shows the old timeline, and pg_rewind would see no divergence.
  await client.query("CHECKPOINT");
  const { timeline } = await one<{ timeline: number }>(
    client,
    "SELECT timeline_id AS timeline FROM pg_control_checkpoint()",
  );
  if (timeline < intent.timeline) return `its checkpoint is on timeline ${timeline}, not yet on ${intent.timeline}`;
  const spaces = await client.query<{ oid: string; location: string }>(
    "SELECT oid::text AS oid, pg_tablespace_location(oid) AS location FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''",
  );
  return {
    node,
    dsn,
    timeline,
    tablespaces: new Map(spaces.rows.map((row) => [row.oid, row.location])),
    onlyRebuild: distrust(node, timeline, intent),
  };
}

/** The agent vouched for one promotion: another server, or a later timeline, may hide an equal number of another one. */
function distrust(node: string, timeline: number, intent: RejoinIntent): string | null {
  if (timeline !== intent.timeline) return `the cluster has moved on from timeline ${intent.timeline} to ${timeline}`;
  if (node !== intent.source.node) return `the primary is ${node} now, not ${intent.source.node}`;
  return null;
}

/** Names of the source's WAL files, the content of its history file, and where it is now. */
export async function readSourceWal(
  source: Source,
): Promise<{ readonly files: ReadonlySet<string>; readonly history: string; readonly currentLsn: bigint }> {
  return connected(source, async (client) => {
    const files = await client.query<{ name: string }>("SELECT name FROM pg_ls_waldir()");
    const historyFile = `pg_wal/${timelineName(source.timeline)}.history`;
    const { history } = await one<{ history: string | null }>(
      client,
      "SELECT convert_from(pg_read_binary_file($1, 0, 1048576, true), 'SQL_ASCII') AS history",
      [historyFile],
    );
    const { lsn } = await one<{ lsn: string }>(client, "SELECT pg_current_wal_lsn()::text AS lsn");
    const names = new Set(files.rows.map((row) => row.name));
    return { files: names, history: history ?? "", currentLsn: parseLsn(lsn) };
  });
}

/** The first `bytes` of a WAL file of the source, in pieces; fewer when the file is gone or shorter. */
export async function readSourceSegment(
  source: Source,
  name: string,
  bytes: number,
  write: (piece: Buffer) => void,
): Promise<number> {
  return connected(source, async (client) => {
    let done = 0;
    while (done < bytes) {
      const { piece } = await one<{ piece: Buffer | null }>(
        client,
        "SELECT pg_read_binary_file($1, $2, $3, true) AS piece",
        [`pg_wal/${name}`, done, Math.min(segmentPieceBytes, bytes - done)],
      );
      if (piece === null || piece.length === 0) break;
      write(piece);
      done += piece.length;
    }
    return done;
  });
}

const segmentPieceBytes = 1 << 20;

async function connected<T>(source: Source, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(
    toClientConfig(source.dsn, { application_name: "pg_replica prepare", connectionTimeoutMillis: connectTimeoutMs }),
  );
  // A connection that breaks makes its query fail; without a listener it would end the process as well.
  client.on("error", () => {});
  try {
    await client.connect();
    return await use(client);
  } finally {
    await client.end().catch(() => {});
  }
}

export const timelineName = (timeline: number) => timeline.toString(16).toUpperCase().padStart(8, "0");

async function one<T extends pg.QueryResultRow>(client: pg.Client, sql: string, values: unknown[] = []): Promise<T> {
  const row = (await client.query<T>(sql, values)).rows[0];
  if (row === undefined) throw new Error(`the server gave no row for: ${sql}`);
  return row;
}
