// A client that never leaves its server and keeps its session when a statement is refused: what the fence has to stop.
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";

export interface Acknowledged {
  readonly id: number;
  readonly server: string;
  readonly sentMs: number;
  readonly ackedMs: number;
  /** Fencing token under which the row was written. */
  readonly token: string;
}

export interface Refused {
  readonly sentMs: number;
  readonly code: string;
  readonly message: string;
}

export interface SessionWriterOptions {
  readonly server: string;
  readonly config: pg.ClientConfig;
  readonly table: string;
  readonly firstId: number;
  readonly pauseMs: number;
}

const refusedPauseMs = 20;

export class SessionWriter {
  readonly acknowledged: Acknowledged[] = [];
  /** By the server, with an SQLSTATE: these rows must not be there. */
  readonly refused: Refused[] = [];
  /** The session broke before the answer came. */
  readonly indeterminate: number[] = [];
  /** How often the session broke or could not be made. */
  breaks = 0;
  readonly #options: SessionWriterOptions;
  #nextId: number;
  #stopping = false;
  #running: Promise<void> | null = null;

  constructor(options: SessionWriterOptions) {
    this.#options = options;
    this.#nextId = options.firstId;
  }

  get server(): string {
    return this.#options.server;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      const client = new pg.Client({ ...this.#options.config, connectionTimeoutMillis: 2000, query_timeout: 10_000 });
      client.on("error", () => {});
      try {
        await client.connect();
        while (!this.#stopping) await this.#insert(client);
        await client.end();
      } catch {
        this.breaks += 1;
        const { stream } = (client as unknown as { connection: { stream: { destroy(): void } } }).connection;
        stream.destroy();
        if (!this.#stopping) await delay(50);
      }
    }
  }

  /** @throws when the session is of no use any more */
  async #insert(client: pg.Client): Promise<void> {
    const { table, server, pauseMs } = this.#options;
    const id = this.#nextId++;
    const sentMs = performance.now();
    try {
      const { rows } = await client.query<{ token: string }>(
        `INSERT INTO ${table} (id) VALUES ($1) RETURNING (pg_replica.lease()).token`,
        [id],
      );
      this.acknowledged.push({ id, server, sentMs, ackedMs: performance.now(), token: rows[0]?.token ?? "" });
    } catch (error) {
      // 57P0x: the server is being stopped under the session; whether the commit came first is not known.
      if (!(error instanceof pg.DatabaseError) || error.code?.startsWith("57P")) {
        this.indeterminate.push(id);
        throw error;
      }
      this.refused.push({ sentMs, code: error.code ?? "", message: error.message });
      await delay(refusedPauseMs);
    }
    await delay(pauseMs);
  }
}
