/**
 * A connection to the local server that is made when it is needed, runs one task at a time, and never makes its user
 * wait longer than a deadline: a server that is stopped, frozen or stuck on its disk must not hang the agent with it.
 */
import { Socket } from "node:net";
import { userInfo } from "node:os";
import pg from "pg";
import { formatConninfo, parseConninfo, toClientConfig } from "./conninfo.js";
import { messageOf, ServerError } from "./errors.js";

export interface SessionOptions {
  /** For error messages, e.g. "commit probe". */
  readonly purpose: string;
  readonly socketDirectory: string;
  readonly port: number;
  /** User, password and database are taken from it; everything else is local. */
  readonly dsn: string;
  /** Opens this session past the fence (src of the key: `AgentConfig.markerKey`); empty: an ordinary session. */
  readonly markerKey: string;
  readonly connectDeadlineMs: number;
  readonly queryDeadlineMs: number;
  /** Further settings of the session. */
  readonly settings?: Readonly<Record<string, string>>;
  /** A walsender that also speaks SQL (`replication=database`). */
  readonly replication?: boolean;
}

export type Row = Record<string, unknown>;

/** What a task on a session may do. `deadlineMs` is counted from the call. */
export interface Statements {
  query<T extends Row>(text: string, values?: readonly unknown[], deadlineMs?: number): Promise<T[]>;
}

export const applicationName = "pg_replica agent";

/**
 * Nothing that an operator sets for roles, databases or clients may change what the agent's statements mean, and the
 * agent's statements (with keys and passwords among them) have no place in the server's log.
 */
const sessionSettings: Readonly<Record<string, string>> = {
  statement_timeout: "0",
  lock_timeout: "0",
  idle_in_transaction_session_timeout: "0",
  search_path: "pg_catalog",
  default_transaction_read_only: "off",
  default_transaction_isolation: "read\\ committed",
  client_min_messages: "warning",
  log_statement: "none",
  log_duration: "off",
  log_min_duration_statement: "-1",
  log_min_duration_sample: "-1",
  jit: "off",
};

interface Connected {
  readonly client: pg.Client;
  readonly socket: Socket;
  readonly pid: number;
  /** Set by the connection's end, whoever ended it. */
  lost: Error | null;
}

export class Session {
  readonly #options: SessionOptions;
  #connected: Connected | null = null;
  #tail: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(options: SessionOptions) {
    this.#options = options;
  }

  /** Process id of this session's backend; null while there is none. */
  get backendPid(): number | null {
    return this.#connected?.pid ?? null;
  }

  query<T extends Row>(text: string, values: readonly unknown[] = [], deadlineMs?: number): Promise<T[]> {
    return this.run((statements) => statements.query<T>(text, values, deadlineMs));
  }

  /** Connects without asking anything, so that the next query finds an open connection. */
  async warm(): Promise<void> {
    await this.run(() => Promise.resolve());
  }

  /** Runs a task alone on the connection. After an error that is not a statement's, the connection is given up. */
  run<T>(task: (statements: Statements) => Promise<T>): Promise<T> {
    const result = this.#tail.then(() => this.#runTask(task));
    // The next task runs whatever became of this one; its caller has the error.
    this.#tail = result.catch(() => undefined);
    return result;
  }

  /** Ends the connection; queued tasks fail. */
  close(): void {
    this.#closed = true;
    this.#drop();
  }

  async #runTask<T>(task: (statements: Statements) => Promise<T>): Promise<T> {
    const connected = await this.#connect();
    return task({
      query: <R extends Row>(text: string, values: readonly unknown[] = [], deadlineMs?: number) =>
        this.#query<R>(connected, text, values, deadlineMs ?? this.#options.queryDeadlineMs),
    });
  }

  async #connect(): Promise<Connected> {
    if (this.#closed) throw new ServerError("SERVER_UNREACHABLE", `${this.#where()}: the session is closed`);
    if (this.#connected !== null && this.#connected.lost === null) return this.#connected;
    this.#drop();
    const socket = new Socket();
    const client = new pg.Client({ ...this.#clientConfig(), stream: () => socket });
    const state: { lost: Error | null } = { lost: null };
    // Without a listener the loss of an idle connection would end the process.
    client.on("error", (error) => {
      state.lost ??= error;
    });
    client.on("end", () => {
      state.lost ??= new Error("the connection was closed");
    });
    const deadlineMs = this.#options.connectDeadlineMs;
    try {
      await this.#within(deadlineMs, socket, "a connection", client.connect());
      const key = this.#options.markerKey;
      // As a parameter: the text of statements is shown in pg_stat_activity.
      const keyed = key === "" ? "" : ", set_config('pg_replica.marker_key', $1, false)";
      const setUp = client.query<{ pid: number }>(`SELECT pg_backend_pid() AS pid${keyed}`, key === "" ? [] : [key]);
      const { rows } = await this.#within(deadlineMs, socket, "the session's set-up", setUp);
      const connected = Object.assign(state, { client, socket, pid: rows[0]?.pid ?? 0 });
      this.#connected = connected;
      return connected;
    } catch (error) {
      socket.destroy();
      if (error instanceof ServerError) throw error;
      throw new ServerError("SERVER_UNREACHABLE", `${this.#where()}: ${messageOf(error)}`, {
        sqlState: sqlStateOf(error),
        cause: error,
      });
    }
  }

  async #query<T extends Row>(
    connected: Connected,
    text: string,
    values: readonly unknown[],
    deadlineMs: number,
  ): Promise<T[]> {
    try {
      const running = connected.client.query<T>(text, [...values]);
      return (await this.#within(deadlineMs, connected.socket, firstWords(text), running)).rows;
    } catch (error) {
      const sqlState = sqlStateOf(error);
      // 57P: the server ends the session. An error without a state comes from the connection.
      if (sqlState === null || sqlState.startsWith("57P")) this.#drop();
      if (error instanceof ServerError) throw error;
      throw new ServerError(
        sqlState === null ? "SERVER_UNREACHABLE" : "SERVER_STATEMENT",
        `${this.#where()}: ${firstWords(text)}: ${messageOf(error)}`,
        { sqlState, cause: error },
      );
    }
  }

  /** The loser of the race is not waited for: destroying the socket ends it, and its late error says nothing new. */
  async #within<T>(deadlineMs: number, socket: Socket, what: string, running: Promise<T>): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const text = `${this.#where()}: no answer to ${what} within ${deadlineMs} ms; the connection is given up`;
        reject(new ServerError("SERVER_DEADLINE", text));
        socket.destroy();
      }, deadlineMs);
    });
    running.catch(() => undefined);
    try {
      return await Promise.race([running, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #drop(): void {
    const connected = this.#connected;
    this.#connected = null;
    if (connected === null) return;
    connected.lost ??= new Error("the session was given up");
    // A Terminate message first where that is possible at once; the server notices the closed socket anyway.
    if (connected.socket.writable) connected.socket.end(terminateMessage, () => connected.socket.destroy());
    else connected.socket.destroy();
    connected.socket.unref();
  }

  #clientConfig(): pg.ClientConfig {
    const { socketDirectory, port, dsn, settings } = this.#options;
    const given = parseConninfo(dsn);
    const user = given.get("user") || userInfo().username;
    const credentials = ["password", "passfile"].flatMap((name) => {
      const value = given.get(name);
      return value === undefined ? [] : [[name, value] as const];
    });
    const local = new Map([
      ["host", socketDirectory],
      ["port", String(port)],
      ["user", user],
      ["dbname", given.get("dbname") || "postgres"],
      ["application_name", applicationName],
      ...credentials,
    ]);
    const all = { ...sessionSettings, ...settings };
    const options = Object.entries(all).map(([name, value]) => `-c ${name}=${value}`);
    return {
      ...toClientConfig(formatConninfo(local)),
      options: options.join(" "),
      ...(this.#options.replication ? { replication: "database" } : {}),
    };
  }

  #where(): string {
    const { purpose, socketDirectory, port } = this.#options;
    return `local server ${socketDirectory}:${port} (${purpose})`;
  }
}

const terminateMessage = Buffer.from([0x58, 0, 0, 0, 4]);

function firstWords(text: string): string {
  const line = text.trim().replace(/\s+/g, " ");
  // A literal may be a password: nothing from the first quote on is repeated.
  const safe = line.split("'")[0] ?? "";
  return `"${safe.length > 60 ? `${safe.slice(0, 60)}...` : safe.trim()}"`;
}

function sqlStateOf(error: unknown): string | null {
  if (error instanceof ServerError) return error.sqlState;
  if (!(error instanceof pg.DatabaseError)) return null;
  return error.code ?? null;
}
