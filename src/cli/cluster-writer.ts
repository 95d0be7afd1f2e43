/**
 * A client as applications are: knows all hosts, takes the one that lets it write, inserts one row after the other and
 * remembers which were acknowledged. For the demo, the tests and the benches.
 */
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";

export interface WriterOptions {
  /** Connection string of each server, in the order in which they are tried. */
  readonly servers: ReadonlyArray<{ readonly name: string; readonly config: pg.ClientConfig }>;
  /** (id bigint primary key, ...) made by `prepareTable`. */
  readonly table: string;
  /** First id; ids count up from here. */
  readonly firstId?: number;
  readonly pauseMs?: number;
  /** Bounds every attempt, so that a silent server can not hold the client: connect_timeout and tcp_user_timeout. */
  readonly attemptTimeoutMs?: number;
  /** An SQL expression that each insert gives back, e.g. the fencing token it was made under. */
  readonly returning?: string;
}

export interface Acknowledgement {
  readonly id: number;
  readonly server: string;
  /** performance.now() when the statement was sent and when its success arrived. */
  readonly sentMs: number;
  readonly ackedMs: number;
  /** What `returning` gave; null when nothing was asked for. */
  readonly returned: string | null;
}

export class ClusterWriter {
  readonly acknowledged: Acknowledgement[] = [];
  /** Sent, but the answer never came: they may or may not be there. */
  readonly indeterminate: number[] = [];
  readonly #options: WriterOptions;
  #nextId: number;
  #running: Promise<void> | null = null;
  #stopping = false;
  /** Why each server could not be used last; for messages of those who wait. */
  readonly problems = new Map<string, string>();

  constructor(options: WriterOptions) {
    this.#options = options;
    this.#nextId = options.firstId ?? 1;
  }

  start(): void {
    this.#stopping = false;
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
    this.#running = null;
  }

  get last(): Acknowledgement | undefined {
    return this.acknowledged.at(-1);
  }

  /** The first acknowledgement of a statement that was sent after `sinceMs`. */
  firstSentAfter(sinceMs: number): Acknowledgement | undefined {
    return this.acknowledged.find(({ sentMs }) => sentMs >= sinceMs);
  }

  /** In words, what the client sees at the moment. */
  describe(): string {
    const seen = [...this.problems].map(([server, why]) => `${server}: ${why}`).join("; ");
    return `${this.acknowledged.length} acknowledged so far${seen === "" ? "" : `; ${seen}`}`;
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      for (const server of this.#options.servers) {
        if (this.#stopping) break;
        await this.#useServer(server);
      }
      // Nobody took the write: a moment later the cluster may have a primary again.
      if (!this.#stopping) await delay(2);
    }
  }

  async #useServer(server: WriterOptions["servers"][number]): Promise<void> {
    const timeoutMs = this.#options.attemptTimeoutMs ?? 1000;
    const client = new pg.Client({
      ...server.config,
      connectionTimeoutMillis: timeoutMs,
      query_timeout: timeoutMs,
      application_name: "pg_replica writer",
    });
    let lost: Error | null = null;
    client.on("error", (error) => {
      lost = error;
    });
    try {
      await client.connect();

      const { rows } = await client.query<{ read_only: string }>(
        "SELECT current_setting('transaction_read_only') AS read_only",
      );
      // What target_session_attrs=read-write asks for.
      if (rows[0]?.read_only !== "off") throw new Error("the session is read-only");
      this.problems.delete(server.name);
      while (!this.#stopping && lost === null) await this.#insert(client, server.name);
    } catch (error) {
      this.problems.set(server.name, error instanceof Error ? error.message : String(error));
    } finally {
      // A server that does not answer would not take leave either.
      const stream = (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream;
      stream.destroy();
    }
  }

  async #insert(client: pg.Client, server: string): Promise<void> {
    const { table, returning = "NULL" } = this.#options;
    const id = this.#nextId++;
    const sentMs = performance.now();
    let returned: string | null;
    try {
      const insert = `INSERT INTO ${table} (id) VALUES ($1) RETURNING (${returning})::text AS returned`;
      const { rows } = await client.query<{ returned: string | null }>(insert, [id]);
      returned = rows[0]?.returned ?? null;
    } catch (error) {
      // Refused by the server: not there. Anything else: nobody knows.
      if (!(error instanceof pg.DatabaseError) || error.code === "57P01") this.indeterminate.push(id);
      throw error;
    }
    this.acknowledged.push({ id, server, sentMs, ackedMs: performance.now(), returned });
    if (this.#options.pauseMs) await delay(this.#options.pauseMs);
  }
}

export async function prepareTable(config: pg.ClientConfig, table: string): Promise<void> {
  await withClient(config, (client) =>
    client.query(`CREATE TABLE ${table} (id bigint PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp())`),
  );
}

/** One connection for one use. */
export async function withClient<T>(config: pg.ClientConfig, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionTimeoutMillis: 5000, query_timeout: 30_000, ...config });
  // A connection that breaks makes its query fail; without a listener it would end the process as well.
  client.on("error", () => {});
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end().catch(() => {});
  }
}
