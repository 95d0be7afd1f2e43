/** Real PostgreSQL servers for the tests of this folder: temporary folders, free ports, nothing left running. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { freePort } from "../../../src/cli/free-ports.js";
import { createLocalServer, type Deadlines } from "../../../src/postgres/local-server.js";
import type { LocalServer } from "../../../src/postgres/types.js";

export const bindir = process.env.PG_BINDIR ?? execFileSync("pg_config", ["--bindir"], { encoding: "utf8" }).trim();
const asRoot = process.getuid?.() === 0;
/** PostgreSQL does not run as root; its superuser has the name of the user that runs initdb. */
export const osUser = asRoot ? "postgres" : userInfo().username;

function idOf(flag: "-u" | "-g"): number {
  return Number(execFileSync("id", [flag, osUser], { encoding: "utf8" }));
}

/** Straight to the other user, with no program in between that would outlive or hide the server. */
const credentials = asRoot ? { uid: idOf("-u"), gid: idOf("-g") } : {};

export function runTool(name: string, args: readonly string[]): string {
  return execFileSync(join(bindir, name), args, {
    ...credentials,
    cwd: tmpdir(),
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
}

/** Polls a condition; the message at the deadline says what was missing. */
export async function until(
  what: string | (() => string),
  condition: () => Promise<boolean> | boolean,
  deadlineMs = 20_000,
) {
  const end = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > end)
      throw new Error(`waited ${deadlineMs} ms in vain until ${typeof what === "string" ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

export class TestServer {
  #process: ChildProcess | null = null;
  readonly #clients: pg.Client[] = [];
  readonly #locals: LocalServer[] = [];
  readonly logLines: string[] = [];

  constructor(
    readonly name: string,
    readonly directory: string,
    readonly port: number,
  ) {}

  get pgdata(): string {
    return join(this.directory, this.name);
  }

  get dsn(): string {
    return `host=${this.directory} port=${this.port} user=${osUser} dbname=postgres`;
  }

  get postmasterPid(): number {
    return Number(readFileSync(join(this.pgdata, "postmaster.pid"), "utf8").split("\n")[0]);
  }

  configure(lines: readonly string[]): void {
    writeFileSync(join(this.pgdata, "test.conf"), `${lines.join("\n")}\n`);
  }

  async start(settings: readonly string[] = []): Promise<void> {
    const args = ["-D", this.pgdata, "-p", String(this.port), "-k", this.directory, "-c", "listen_addresses="];
    for (const setting of settings) args.push("-c", setting);
    this.#process = spawn(join(bindir, "postgres"), args, {
      ...credentials,
      cwd: this.directory,
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#process.stderr?.on("data", (data: Buffer) => this.logLines.push(data.toString()));
    await until(
      () => `${this.name} accepts connections; its log:\n${this.logLines.join("")}`,
      () => this.#accepts(),
    );
  }

  async #accepts(): Promise<boolean> {
    const client = new pg.Client({ host: this.directory, port: this.port, user: osUser, database: "postgres" });
    client.on("error", () => undefined);
    try {
      await client.connect();
      await client.end();
      return true;
    } catch {
      return false;
    }
  }

  async client(): Promise<pg.Client> {
    const client = new pg.Client({ host: this.directory, port: this.port, user: osUser, database: "postgres" });
    // Sessions are ended by the tests on purpose.
    client.on("error", () => undefined);
    this.#clients.push(client);
    await client.connect();
    return client;
  }

  async sql<T extends pg.QueryResultRow>(text: string): Promise<T[]> {
    const client = await this.client();
    const { rows } = await client.query<T>(text);
    await client.end();
    return rows;
  }

  async value(text: string): Promise<string> {
    const [row] = await this.sql<Record<string, unknown>>(text);
    return String(Object.values(row ?? {})[0]);
  }

  local(deadlines: Partial<Deadlines> = {}, markerKey = ""): LocalServer {
    const local = createLocalServer({
      socketDirectory: this.directory,
      port: this.port,
      dsn: `host=elsewhere.example port=1 user=${osUser}`,
      markerKey,
      bindir,
      pgdata: this.pgdata,
      log: (level, message) => this.logLines.push(`agent ${level}: ${message}\n`),
      deadlines,
    });
    this.#locals.push(local);
    return local;
  }

  signal(signal: NodeJS.Signals): void {
    process.kill(this.postmasterPid, signal);
  }

  /** SIGKILL of every process of the server, as when its host goes away. */
  async killAll(): Promise<void> {
    const postmaster = this.postmasterPid;
    const pids = childPids(postmaster);
    for (const pid of [postmaster, ...pids]) kill(pid, "SIGKILL");
    await this.#ended();
  }

  async stop(): Promise<void> {
    for (const local of this.#locals.splice(0)) await local.close();
    for (const client of this.#clients.splice(0)) client.end().catch(() => undefined);
    if (this.#process === null) return;
    if (existsSync(join(this.pgdata, "postmaster.pid"))) {
      const postmaster = this.postmasterPid;
      for (const pid of [postmaster, ...childPids(postmaster)]) kill(pid, "SIGCONT");
      kill(postmaster, "SIGQUIT");
    }
    await this.#ended();
  }

  async #ended(): Promise<void> {
    const child = this.#process;
    if (child === null) return;
    await until(`${this.name} has ended`, () => child.exitCode !== null || child.signalCode !== null);
    this.#process = null;
  }
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

export function childPids(pid: number): number[] {
  return readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);
}

/** A primary and its streaming standbys in one temporary folder. */
export class TestCluster {
  readonly directory: string;
  readonly servers: TestServer[] = [];

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), "pg_replica-server-"));
    chmodSync(this.directory, 0o755);
    if (credentials.uid !== undefined) chownSync(this.directory, credentials.uid, credentials.gid);
  }

  async primary(settings: readonly string[] = []): Promise<TestServer> {
    const server = new TestServer("primary", this.directory, await freePort());
    this.servers.push(server);
    runTool("initdb", ["-D", server.pgdata, "-A", "trust", "-N", "-U", osUser, "--no-instructions"]);
    writeFileSync(
      join(server.pgdata, "postgresql.auto.conf"),
      "fsync = off\nshared_buffers = 8MB\nwal_level = replica\nhot_standby = on\n" +
        "wal_retrieve_retry_interval = 100ms\nmax_wal_size = 64MB\nautovacuum = off\nwal_log_hints = on\n",
    );
    await server.start(settings);
    return server;
  }

  async standby(name: string, of: TestServer, settings: readonly string[] = []): Promise<TestServer> {
    const server = new TestServer(name, this.directory, await freePort());
    this.servers.push(server);
    runTool("pg_basebackup", ["-D", server.pgdata, "-d", of.dsn, "-c", "fast", "-X", "stream", "-R"]);
    await server.start(settings);
    // With the library every start forgets its upstream; the agent sets it.
    if (settings.some((setting) => setting.includes("pg_replica"))) return server;
    await until(
      `${name} streams`,
      async () => (await server.value("SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'")) === "1",
    );
    return server;
  }

  subdirectory(name: string): string {
    const path = join(this.directory, name);
    mkdirSync(path);
    return path;
  }

  async close(): Promise<void> {
    for (const server of this.servers) await server.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Waits until `standby` has replayed what `primary` has written up to now. */
export async function caughtUp(primary: TestServer, standby: TestServer): Promise<void> {
  const lsn = await primary.value("SELECT pg_current_wal_flush_lsn()");
  await until(
    `${standby.name} has replayed ${lsn}`,
    async () => (await standby.value(`SELECT pg_last_wal_replay_lsn() >= '${lsn}'`)) === "true",
  );
}
