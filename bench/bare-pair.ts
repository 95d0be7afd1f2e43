/**
 * A primary and a standby without the extension and without any manager: what PostgreSQL itself needs for a failover or
 * a switchover when the one who starts it knows everything beforehand. Same client, same settings, same machine.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, openSync } from "node:fs";
import { appendFile, chown, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { withClient } from "../src/cli/cluster-writer.js";
import { type Account, serverAccount } from "../src/cli/demo-cluster.js";
import { freePorts } from "../src/cli/free-ports.js";
import { waitForShutdownCheckpoint } from "../src/postgres/index.js";

export interface BarePairOptions {
  /** Empty or missing. */
  readonly directory: string;
  readonly bindir: string;
  /** As the managed servers have them. */
  readonly settings: Readonly<Record<string, string>>;
}

interface BareServer {
  readonly name: string;
  readonly port: number;
  readonly pgdata: string;
  process: ChildProcess | null;
}

const deadlineMs = 30_000;
/** The promotion is asked for again and again, as in the product: one request can be slept over (one retry interval). */
const kickMs = 20;

export class BarePair {
  readonly #options: BarePairOptions;
  readonly #account: Account | null = serverAccount();
  readonly #password = randomBytes(18).toString("base64url");
  readonly #servers: readonly [BareServer, BareServer];
  #primary = 0;
  #stopped = false;

  private constructor(options: BarePairOptions, ports: readonly number[]) {
    this.#options = options;
    const server = (name: string, index: number): BareServer => ({
      name,
      port: ports[index] ?? 0,
      pgdata: join(options.directory, name),
      process: null,
    });
    this.#servers = [server("bare1", 0), server("bare2", 1)];
  }

  /** Nothing is made before `start()`. */
  static async prepare(options: BarePairOptions): Promise<BarePair> {
    return new BarePair(options, await freePorts(2));
  }

  /** Resolves when the standby streams. */
  async start(): Promise<void> {
    await this.#make();
  }

  get primary(): BareServer {
    return this.#servers[this.#primary] as BareServer;
  }

  get standby(): BareServer {
    return this.#servers[1 - this.#primary] as BareServer;
  }

  get servers(): readonly BareServer[] {
    return this.#servers;
  }

  config(server: BareServer): pg.ClientConfig {
    return { host: "127.0.0.1", port: server.port, user: "postgres", password: this.#password, database: "postgres" };
  }

  /** SIGKILL of the primary's postmaster, then at once the promotion of the standby. @returns when it was killed */
  async killAndPromote(): Promise<number> {
    const promote = await this.#promoter();
    try {
      const faultMs = performance.now();
      this.primary.process?.kill("SIGKILL");
      await promote.untilDone();
      return faultMs;
    } finally {
      await promote.end();
    }
  }

  /** Checkpoint, fast shutdown, promotion as soon as the standby has replayed the shutdown checkpoint. */
  async shutDownAndPromote(): Promise<void> {
    const promote = await this.#promoter();
    try {
      await withClient(this.config(this.primary), (client) => client.query("CHECKPOINT"));
      // What pg_ctl stop -m fast sends; its own waiting (ten looks a second) would only make the limit larger.
      this.primary.process?.kill("SIGINT");
      await promote.untilReplayed(await waitForShutdownCheckpoint(this.primary.pgdata, deadlineMs));
      await promote.untilDone();
    } finally {
      await promote.end();
    }
  }

  /** After a fault: the standby is the primary now, the other one is made anew from it. */
  async swap(): Promise<void> {
    const lost = this.primary;
    await this.#ended(lost);
    this.#primary = 1 - this.#primary;
    await rm(lost.pgdata, { recursive: true, force: true });
    await this.#clone(lost);
    await this.waitForStreaming();
  }

  async waitForStreaming(): Promise<void> {
    await withClient(this.config(this.primary), async (client) => {
      await waitUntil("the bare standby to stream and to have replayed everything", async () => {
        const { rows } = await client.query<{ done: boolean }>(
          "SELECT state = 'streaming' AND replay_lsn = pg_current_wal_lsn() AS done FROM pg_stat_replication",
        );
        return rows[0]?.done === true;
      });
    });
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const server of this.#servers) server.process?.kill("SIGQUIT");
    for (const server of this.#servers) await this.#ended(server);
  }

  async #make(): Promise<void> {
    const { directory, settings } = this.#options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const password = join(directory, "password");
    await writeFile(password, `${this.#password}\n`, { mode: 0o600 });
    await writeFile(this.#passfile(), `*:*:*:postgres:${this.#password}\n`, { mode: 0o600 });
    for (const path of [directory, password, this.#passfile()]) await this.#own(path);
    const { pgdata } = this.primary;
    const auth = ["--username=postgres", "--auth=scram-sha-256", `--pwfile=${password}`];
    await this.#tool("initdb", ["-D", pgdata, "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums", ...auth]);
    const lines = Object.entries({
      listen_addresses: "127.0.0.1",
      unix_socket_directories: directory,
      wal_log_hints: "on",
      // The product forces this one; PostgreSQL's own 5 s would only make the limit larger.
      wal_retrieve_retry_interval: "100ms",
      ...settings,
    }).map(([name, value]) => `${name} = '${value}'\n`);
    await appendFile(join(pgdata, "postgresql.conf"), lines.join(""));
    await this.#launch(this.primary);
    await this.#clone(this.standby);
    await this.waitForStreaming();
  }

  async #clone(server: BareServer): Promise<void> {
    const source = `host=127.0.0.1 port=${this.primary.port} user=postgres passfile=${this.#passfile()}`;
    await this.#tool("pg_basebackup", ["-D", server.pgdata, "-d", source, "-c", "fast", "-X", "stream", "-R"]);
    await this.#launch(server);
  }

  async #launch(server: BareServer): Promise<void> {
    if (this.#stopped) throw new Error("the servers have been stopped");
    const log = openSync(join(this.#options.directory, `${server.name}.log`), "a", 0o600);
    const args = ["-D", server.pgdata, "-p", String(server.port)];
    const child = spawn(join(this.#options.bindir, "postgres"), args, {
      // Its own group: Ctrl-C is for the bench, which stops the servers itself.
      detached: true,
      stdio: ["ignore", log, log],
      ...(this.#account ?? {}),
    });
    closeSync(log);
    server.process = child;
    child.on("exit", () => {
      if (server.process === child) server.process = null;
    });
    await waitUntil(`${server.name} to accept connections`, () =>
      withClient(this.config(server), (client) => client.query("SELECT 1")).then(
        () => true,
        () => server.process === null && Promise.reject(new Error(`${server.name} did not start: see its log`)),
      ),
    );
  }

  async #promoter(): Promise<Promoter> {
    const client = new pg.Client(this.config(this.standby));
    await client.connect();
    return new Promoter(client);
  }

  async #ended(server: BareServer): Promise<void> {
    await waitUntil(`${server.name} to end`, () => server.process === null);
  }

  #passfile(): string {
    return join(this.#options.directory, "passfile");
  }

  async #own(path: string): Promise<void> {
    if (this.#account !== null) await chown(path, this.#account.uid, this.#account.gid);
  }

  async #tool(name: string, args: readonly string[]): Promise<void> {
    const env = { PATH: process.env.PATH, LANG: "C.UTF-8", HOME: this.#options.directory };
    const cwd = this.#options.directory;
    await promisify(execFile)(join(this.#options.bindir, name), args, { env, cwd, ...(this.#account ?? {}) });
  }
}

/** A session on the standby that was opened before the fault. */
class Promoter {
  constructor(readonly client: pg.Client) {}

  async untilReplayed(lsn: string): Promise<void> {
    await waitUntil(`the bare standby to replay ${lsn}`, async () => {
      const { rows } = await this.client.query<{ done: boolean }>(
        "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS done",
        [lsn],
      );
      return rows[0]?.done === true;
    });
  }

  async untilDone(): Promise<void> {
    const untilMs = performance.now() + deadlineMs;
    for (;;) {
      await this.client.query("SELECT pg_promote(false)").catch((error: unknown) => {
        // Out of recovery already.
        if (!(error instanceof pg.DatabaseError) || error.code !== "55000") throw error;
      });
      const { rows } = await this.client.query<{ in_recovery: boolean }>("SELECT pg_is_in_recovery() AS in_recovery");
      if (rows[0]?.in_recovery === false) return;
      if (performance.now() > untilMs) throw new Error("the bare standby is still in recovery");
      await delay(kickMs);
    }
  }

  async end(): Promise<void> {
    await this.client.end();
  }
}

async function waitUntil(what: string, predicate: () => boolean | Promise<boolean>): Promise<void> {
  const untilMs = performance.now() + deadlineMs;
  while (!(await predicate())) {
    if (performance.now() > untilMs) throw new Error(`waited ${deadlineMs} ms in vain for ${what}`);
    await delay(1);
  }
}
