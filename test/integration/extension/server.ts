/** A real PostgreSQL server with the extension and a fake agent, for the tests of this folder. */
import { execFile, execFileSync } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { freePort } from "../../../src/cli/free-ports.js";

const run = promisify(execFile);
const isRoot = process.getuid?.() === 0;

export type Message = Record<string, unknown> & { readonly type: string };

/** What pg_config says, e.g. for "--bindir". */
export function installed(what: string): string {
  return execFileSync(process.env.PG_CONFIG ?? "pg_config", [what], { encoding: "utf8" }).trim();
}

/** Runs a program as the user who may run PostgreSQL: postgres when the tests run as root. */
export async function asPostgres(
  program: string,
  args: readonly string[],
  environment: Record<string, string> = {},
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  const command = program.includes("/") ? program : join(installed("--bindir"), program);
  const full = isRoot ? ["-u", "postgres", "--", command, ...args] : [...args];
  try {
    const done = await run(isRoot ? "runuser" : command, full, { cwd: "/", env: { ...process.env, ...environment } });
    return { code: 0, ...done };
  } catch (error) {
    const failed = error as { code?: number; stdout?: string; stderr?: string };
    if (typeof failed.code !== "number") throw error;
    return { code: failed.code, stdout: failed.stdout ?? "", stderr: failed.stderr ?? "" };
  }
}

/** Waits until `look` gives something, and fails with `what` was missing after `deadlineMs`. */
export async function until<T>(what: string, look: () => T | undefined | false, deadlineMs = 20_000): Promise<T> {
  const deadline = performance.now() + deadlineMs;
  for (;;) {
    const found = look();
    if (found !== undefined && found !== false) return found;
    if (performance.now() > deadline) throw new Error(`not seen within ${deadlineMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

let template: string | undefined;
process.on("exit", () => {
  if (template !== undefined) rmSync(template, { recursive: true, force: true });
});

function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "pg_replica_ext_"));
  if (isRoot) execFileSync("chown", ["postgres", folder]);
  return folder;
}

/** One initdb for all servers of a test file. */
async function dataDirectoryTemplate(): Promise<string> {
  if (template === undefined) {
    template = makeFolder();
    const done = await asPostgres("initdb", [
      "-D",
      join(template, "data"),
      "-U",
      "postgres",
      "-A",
      "trust",
      "-N",
      "-E",
      "UTF8",
    ]);
    if (done.code !== 0) throw new Error(`initdb failed: ${done.stderr}`);
  }
  return join(template, "data");
}

export function processIsAlive(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const state = stat.slice(stat.lastIndexOf(")") + 2)[0];
    return state !== "Z" && state !== "X";
  } catch {
    return false;
  }
}

export class Server {
  private readonly clients: pg.Client[] = [];

  private constructor(
    readonly folder: string,
    readonly data: string,
    readonly port: number,
  ) {}

  /** A server that is not started yet. `settings` go into postgresql.conf; null takes one of the usual away. */
  static async create(settings: Record<string, string | null> = {}): Promise<Server> {
    const source = await dataDirectoryTemplate();
    const folder = makeFolder();
    const server = new Server(folder, join(folder, "data"), await freePort());
    cpSync(source, server.data, { recursive: true });
    cpSync(new URL("./fake-agent.js", import.meta.url), join(folder, "fake-agent.mjs"));
    const node = join(folder, "node");
    writeFileSync(node, `#!/bin/sh\nexec "${process.execPath}" "${folder}/fake-agent.mjs" "${folder}" "$@"\n`);
    chmodSync(node, 0o755);
    const all: Record<string, string | null> = {
      shared_preload_libraries: "pg_replica",
      listen_addresses: "",
      port: String(server.port),
      unix_socket_directories: folder,
      fsync: "off",
      max_prepared_transactions: "5",
      "pg_replica.node_id": "a",
      "pg_replica.node_path": node,
      ...settings,
    };
    for (const [name, value] of Object.entries(all)) if (value !== null) server.configure(name, value);
    if (isRoot) execFileSync("chown", ["-R", "postgres", folder]);
    return server;
  }

  configure(name: string, value: string): void {
    const quoted = value.replaceAll("\\", "\\\\").replaceAll("'", "''");
    appendFileSync(join(this.data, "postgresql.conf"), `${name} = '${quoted}'\n`);
  }

  /** @throws Error with the server's log when it does not start. */
  async start(options: readonly string[] = [], environment: Record<string, string> = {}): Promise<this> {
    const done = await this.tryStart(options, environment);
    if (done !== 0) throw new Error(`the server did not start:\n${this.log()}`);
    return this;
  }

  async tryStart(options: readonly string[] = [], environment: Record<string, string> = {}): Promise<number> {
    const log = join(this.folder, "log");
    const args = ["-D", this.data, "-l", log, "-w", "-t", "30", "-o", options.join(" "), "start"];
    return (await asPostgres("pg_ctl", args, environment)).code;
  }

  async stop(mode: "fast" | "immediate" | "smart" = "fast"): Promise<void> {
    await this.disconnect();
    const done = await asPostgres("pg_ctl", ["-D", this.data, "-w", "-t", "30", "-m", mode, "stop"]);
    if (done.code !== 0) throw new Error(`the server did not stop: ${done.stderr}${this.log()}`);
  }

  log(): string {
    const path = join(this.folder, "log");
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  }

  postmasterPid(): number {
    return Number(this.read("postmaster.pid").split("\n")[0]);
  }

  read(name: string): string {
    return readFileSync(join(this.data, name), "utf8");
  }

  has(name: string): boolean {
    return existsSync(join(this.data, name));
  }

  write(name: string, text: string): void {
    const path = join(this.data, name);
    mkdirSync(join(path, ".."), { recursive: true });
    writeFileSync(path, text);
    if (isRoot) execFileSync("chown", ["-R", "postgres", join(path, "..")]);
  }

  async connect(user = "postgres", database = "postgres"): Promise<pg.Client> {
    const client = new pg.Client({ host: this.folder, port: this.port, user, database });
    // A server that is killed on purpose breaks its clients' connections; the query at hand fails by itself.
    client.on("error", () => undefined);
    await client.connect();
    this.clients.push(client);
    return client;
  }

  /** One statement on a connection of its own; the first column of the first row. */
  async value(sql: string): Promise<unknown> {
    const client = await this.connect();
    try {
      const result = await client.query({ text: sql, rowMode: "array" });
      return result.rows[0]?.[0];
    } finally {
      await client.end();
    }
  }

  private async disconnect(): Promise<void> {
    await Promise.allSettled(this.clients.splice(0).map((client) => client.end()));
  }

  /** What the supervisor has sent to all agents so far, and what they saw themselves. */
  messages(type?: string): Message[] {
    const path = join(this.folder, "agent.jsonl");
    if (!existsSync(path)) return [];
    const lines = readFileSync(path, "utf8").split("\n");
    lines.pop();
    const all = lines.map((line) => JSON.parse(line) as Message);
    return type === undefined ? all : all.filter((message) => message.type === type);
  }

  async message(type: string, matches: (message: Message) => boolean = () => true): Promise<Message> {
    return until(`a message "${type}" to the agent`, () => this.messages(type).find(matches));
  }

  /** Sends lines to the supervisor, through the agent. */
  async say(...lines: readonly (object | string)[]): Promise<void> {
    await until("the control socket of the newest fake agent", () => {
      const begun = this.messages("started").length;
      return begun > 0 && this.messages("serving").length === begun;
    });
    const socket = net.connect(join(this.folder, "control"));
    await once(socket, "connect");
    for (const line of lines) socket.write(`${typeof line === "string" ? line : JSON.stringify(line)}\n`);
    socket.end();
    await once(socket, "close");
  }

  private lastId = 0;

  /** A request that is answered; gives the answer. */
  async ask(request: object): Promise<Message> {
    const id = ++this.lastId;
    await this.say({ ...request, id });
    return until(`the answer to ${JSON.stringify(request)}`, () =>
      this.messages().find((message) => (message.type === "lease" || message.type === "stamp") && message.id === id),
    );
  }

  /** Out of recovery, still fenced. */
  async promote(): Promise<this> {
    await this.value("SELECT pg_promote()");
    return this;
  }

  async renew(token: string, durationMs: number): Promise<Message> {
    const stamp = await this.ask({ type: "stamp" });
    return this.ask({ type: "renew", token, stampNs: stamp.boottimeNs, durationMs });
  }

  /** Promoted, with a lease of a minute, open. */
  async makeWritable(token = "1.1"): Promise<this> {
    await this.promote();
    await this.ask({ type: "token", token });
    await this.renew(token, 60_000);
    await this.ask({ type: "open", token });
    return this;
  }

  async markerKey(): Promise<string> {
    const { config } = await this.message("config");
    return (config as { markerKey: string }).markerKey;
  }

  /** Leaves nothing behind, whatever state the test left it in. */
  async destroy(): Promise<void> {
    await this.disconnect();
    if (this.has("postmaster.pid")) {
      const pid = this.postmasterPid();
      if (processIsAlive(pid)) await asPostgres("pg_ctl", ["-D", this.data, "-w", "-m", "immediate", "stop"]);
    }
    // The log knows those as well that have not come to say anything yet.
    for (const [, digits] of this.log().matchAll(/agent started with PID (\d+)/g)) {
      const pid = Number(digits);
      if (processIsAlive(pid)) process.kill(pid, "SIGCONT");
      await until("the end of the agent", () => !processIsAlive(pid));
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}
