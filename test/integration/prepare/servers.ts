// Real PostgreSQL servers for the tests of the offline tools: as root they run as the user postgres.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { chownSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { freePort } from "../../../src/cli/free-ports.js";
import type { RejoinIntent } from "../../../src/postgres/types.js";
import type { DriverInput } from "./driver.js";

/** Directory of PostgreSQL's programs: that of PG_CONFIG when it is set. */
export const bindir = execFileSync(process.env.PG_CONFIG ?? "pg_config", ["--bindir"])
  .toString()
  .trim();

const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"]).toString());
export const user = process.getuid?.() === 0 ? { uid: id("-u"), gid: id("-g") } : null;

export function temporaryDirectory(): string {
  const path = mkdtempSync(join(tmpdir(), "pg_replica-prepare-"));
  own(path);
  return path;
}

export function own(path: string): void {
  if (user !== null) chownSync(path, user.uid, user.gid);
}

export function run(program: string, args: readonly string[]): string {
  const result = spawnSync(join(bindir, program), args, { ...user, cwd: "/", env: { ...process.env, LC_ALL: "C" } });
  if (result.status !== 0) throw new Error(`${program} ${args.join(" ")}: ${result.stderr}${result.stdout}`);
  return result.stdout.toString();
}

export async function until<T>(what: string, look: () => Promise<T | null | false>, timeoutMs = 30_000): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let last: unknown = "not yet";
    try {
      const value = await look();
      if (value !== null && value !== false) return value;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) throw new Error(`${what}: ${String(last)}`);
    await sleep(30);
  }
}

export interface Run {
  readonly status: number | null;
  readonly action: string | null;
  readonly steps: readonly string[];
  readonly text: string;
}

export class Server {
  readonly pgdata: string;
  readonly stateDir: string;

  private constructor(
    readonly name: string,
    readonly directory: string,
    readonly port: number,
  ) {
    this.pgdata = join(directory, name);
    this.stateDir = join(this.pgdata, "pg_replica");
  }

  static async create(name: string, directory: string): Promise<Server> {
    return new Server(name, directory, await freePort());
  }

  get dsn(): string {
    return `host=127.0.0.1 port=${this.port} user=postgres dbname=postgres`;
  }

  initialise(walDirectory?: string): void {
    const args = ["-D", this.pgdata, "-U", "postgres", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"];
    run("initdb", walDirectory === undefined ? args : [...args, `--waldir=${walDirectory}`]);
    this.configure("wal_keep_size = '128MB'\n");
  }

  configure(more = ""): void {
    const settings = [
      `port = ${this.port}`,
      `cluster_name = '${this.name}'`,
      `unix_socket_directories = '${this.directory}'`,
      "listen_addresses = '127.0.0.1'",
      "wal_log_hints = on",
      "fsync = off",
      "shared_buffers = 8MB",
      "wal_retrieve_retry_interval = '100ms'",
      "max_wal_size = '64MB'",
      "min_wal_size = '32MB'",
    ];
    writeFileSync(join(this.pgdata, "postgresql.conf"), `${settings.join("\n")}\n${more}`);
    mkdirSync(this.stateDir, { recursive: true, mode: 0o700 });
    writeFileSync(join(this.stateDir, "meta"), `identity of ${this.name}`);
    for (const path of [this.stateDir, join(this.stateDir, "meta")]) own(path);
  }

  follow(source: Server): void {
    writeFileSync(join(this.pgdata, "postgresql.auto.conf"), `primary_conninfo = '${source.dsn}'\n`);
    own(join(this.pgdata, "postgresql.auto.conf"));
  }

  start(): void {
    const log = join(this.directory, `${this.name}.log`);
    try {
      run("pg_ctl", ["-D", this.pgdata, "-w", "-s", "-l", log, "start"]);
    } catch (error) {
      const tail = readFileSync(log, "utf8").split("\n").slice(-20).join("\n");
      throw new Error(`${error instanceof Error ? error.message : String(error)}\n${tail}`);
    }
  }

  stop(mode = "fast"): void {
    if (this.isRunning()) run("pg_ctl", ["-D", this.pgdata, "-w", "-s", "-m", mode, "stop"]);
  }

  isRunning(): boolean {
    return spawnSync(join(bindir, "pg_ctl"), ["-D", this.pgdata, "status"], { ...user, cwd: "/" }).status === 0;
  }

  /** Until init has reaped it: as long as its process id is there, it keeps the lock of its socket. */
  async killPostmaster(): Promise<void> {
    const pid = Number(readFileSync(join(this.pgdata, "postmaster.pid"), "utf8").split("\n")[0]);
    process.kill(pid, "SIGKILL");
    await until(
      `process ${pid} of the killed server ${this.name} to be reaped`,
      async () => !existsSync(`/proc/${pid}`),
    );
  }

  async query(sql: string): Promise<Array<Record<string, unknown>>> {
    const client = new pg.Client({ host: "127.0.0.1", port: this.port, user: "postgres", database: "postgres" });
    client.on("error", () => {});
    await client.connect();
    try {
      const result = await client.query(sql);
      return Array.isArray(result) ? [] : result.rows;
    } finally {
      await client.end();
    }
  }

  async value(sql: string): Promise<unknown> {
    return Object.values((await this.query(sql))[0] ?? {})[0];
  }

  async promote(): Promise<void> {
    run("pg_ctl", ["-D", this.pgdata, "-w", "-s", "promote"]);
    await this.query("CHECKPOINT");
  }

  async ask(source: Server, more: Partial<RejoinIntent> = {}): Promise<void> {
    const intent: RejoinIntent = {
      format: 1,
      token: "2.5",
      source: { node: source.name, dsn: source.dsn },
      method: "rewind",
      why: "this node is ahead of the fork",
      timeline: Number(await source.value("SELECT timeline_id FROM pg_control_checkpoint()")),
      systemIdentifier: String(await source.value("SELECT system_identifier::text FROM pg_control_system()")),
      ...more,
    };
    writeFileSync(join(this.stateDir, "rejoin.json"), JSON.stringify(intent));
    own(join(this.stateDir, "rejoin.json"));
  }

  /** Runs `prepare` in a process group of its own; kills the group at a step or after a time when asked to. */
  prepare(options: { killAt?: string; killAfterMs?: number; sourceDeadlineMs?: number } = {}): Promise<Run> {
    const input: DriverInput = {
      pgdata: this.pgdata,
      bindir,
      user,
      sourceDeadlineMs: options.sourceDeadlineMs ?? 20_000,
      killAt: options.killAt ?? null,
    };
    const driver = join(dirname(fileURLToPath(import.meta.url)), "driver.js");
    const child = spawn(process.execPath, [driver, JSON.stringify(input)], { detached: true, cwd: "/" });
    const timer =
      options.killAfterMs === undefined
        ? undefined
        : setTimeout(() => child.pid !== undefined && process.kill(-child.pid, "SIGKILL"), options.killAfterMs);
    let text = "";
    let out = "";
    child.stderr.on("data", (data) => {
      text += String(data);
    });
    child.stdout.on("data", (data) => {
      out += String(data);
    });
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (status) => {
        clearTimeout(timer);
        const steps = [...text.matchAll(/^step: (.*)$/gm)].map((match) => match[1] ?? "");
        const action = out === "" ? null : (JSON.parse(out) as { action: string }).action;
        resolve({ status, action, steps, text });
      });
    });
  }

  /** Whether PostgreSQL itself refuses to start here. */
  refusesToStart(): boolean {
    const result = spawnSync(join(bindir, "postgres"), ["-D", this.pgdata], { ...user, cwd: "/", timeout: 10_000 });
    return result.status !== null && result.status !== 0;
  }
}

/** `b` is made a standby of the running `a`, and started. */
export function makeStandby(b: Server, a: Server): void {
  const mapping = `${join(a.directory, `space-${a.name}`)}=${join(b.directory, `space-${b.name}`)}`;
  run("pg_basebackup", ["-d", a.dsn, "-D", b.pgdata, "-c", "fast", "--no-sync", "-T", mapping]);
  rmSync(b.stateDir, { recursive: true, force: true });
  b.configure("wal_keep_size = '128MB'\n");
  b.follow(a);
  writeFileSync(join(b.pgdata, "standby.signal"), "");
  own(join(b.pgdata, "standby.signal"));
  b.start();
}

/** Ends with `old` dead by SIGKILL, with rows that `next` never got, and `next` promoted with rows of its own. */
export async function diverge(old: Server, next: Server, round: string): Promise<void> {
  await caughtUp(old, next);
  next.stop();
  await old.query("INSERT INTO spaced SELECT 1 FROM generate_series(1, 100)");
  await old.query(`INSERT INTO mark SELECT 'lost ${round} ' || n FROM generate_series(1, 200) n`);
  await old.killPostmaster();
  next.start();
  await next.promote();
  await next.query(`INSERT INTO mark SELECT 'kept ${round} ' || n FROM generate_series(1, 200) n`);
}

export async function caughtUp(primary: Server, standby: Server): Promise<void> {
  const lsn = await primary.value("SELECT pg_current_wal_lsn()::text");
  await until("the standby has replayed everything", async () => {
    const sql = `SELECT pg_last_wal_replay_lsn() >= '${lsn}' FROM pg_stat_wal_receiver WHERE status = 'streaming'`;
    return (await standby.value(sql)) === true;
  });
}

const content = `SELECT count(*) || ' ' || md5(string_agg(t, ',' ORDER BY t)) || (SELECT count(*) FROM spaced) FROM mark`;

/** Starts the prepared node as a standby of `source` and compares rows written before and after. */
export async function startsAndStreams(node: Server, source: Server): Promise<void> {
  for (const leftOver of ["staging", "staging.new", "rejoin.json", "rejoin.phase", "rejoin.layout"]) {
    if (existsSync(join(node.stateDir, leftOver))) throw new Error(`${leftOver} is left over`);
  }
  if (!existsSync(join(node.pgdata, "standby.signal"))) throw new Error("no standby.signal");
  if (readFileSync(join(node.stateDir, "meta"), "utf8") !== `identity of ${node.name}`)
    throw new Error("foreign identity");
  node.follow(source);
  node.start();
  await source.query("INSERT INTO mark VALUES ('after')");
  await caughtUp(source, node);
  const space = await node.value("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space'");
  if (space !== join(node.directory, `space-${node.name}`)) throw new Error(`the tablespace is in ${String(space)}`);
  const [mine, theirs] = [await node.value(content), await source.value(content)];
  if (mine !== theirs) throw new Error(`rows differ: ${String(mine)} here, ${String(theirs)} on the source`);
  if (Number(await node.value("SELECT count(*) FROM pg_replication_slots")) !== 0)
    throw new Error("slots are left over");
  if ((await node.value("SHOW cluster_name")) !== node.name) throw new Error("the configuration is not the node's own");
}
