/**
 * A real cluster on this machine: servers, agents and supervisors as processes on free ports, everything in one folder.
 * For `pg_replica demo` and for tests. Linux only: it finds processes through /proc.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { chown, mkdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { MemberView, NodeView } from "../control/types.js";
import { findAgent, readView } from "./agent-client.js";
import { findBindir } from "./bindir.js";
import { CliError, describeError, exitCodes } from "./errors.js";
import { freePorts } from "./free-ports.js";

export interface DemoOptions {
  /** Empty or new; short, since it holds Unix sockets. */
  readonly directory: string;
  readonly bindir?: string | undefined;
  /** Default a, b, c; the first one makes the cluster. */
  readonly names?: readonly string[];
  readonly failoverTimeoutMs?: number;
  /** More settings of every server. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Program and first arguments of pg_replica; default: what `make install` put beside the server. */
  readonly program?: readonly string[];
  readonly onStep?: (text: string) => void;
}

export interface Account {
  readonly uid: number;
  readonly gid: number;
}

const startDeadlineMs = 60_000;
const stopDeadlineMs = 40_000;
const pollMs = 50;

export class DemoNode {
  readonly pgdata: string;
  readonly logFile: string;
  readonly socketPath: string;
  #supervisor: ChildProcess | null = null;

  constructor(
    readonly cluster: DemoCluster,
    readonly name: string,
    readonly port: number,
    readonly raftPort: number,
    readonly httpPort: number,
  ) {
    this.pgdata = join(cluster.directory, name);
    this.logFile = join(cluster.directory, `${name}.log`);
    this.socketPath = join(cluster.socketDirectory, `.s.pg_replica.${port}`);
  }

  /** Null when its host is "off". */
  get supervisorPid(): number | null {
    return this.#supervisor?.pid ?? null;
  }

  /** From postmaster.pid, if that process is alive; null otherwise. */
  postmasterPid(): number | null {
    let text: string;
    try {
      text = readFileSync(join(this.pgdata, "postmaster.pid"), "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
      throw error;
    }
    const pid = Number(text.split("\n")[0]);
    return processesIn(this.pgdata).some((process) => process.pid === pid) ? pid : null;
  }

  agentPid(): number | null {
    return this.#agents()[0] ?? null;
  }

  #agents(): number[] {
    return processesIn(this.pgdata)
      .filter(({ args }) => args.at(-1) === "agent")
      .map(({ pid }) => pid);
  }

  /** The server's main process dies, everything around it lives. @returns its pid */
  killPostmaster(): number {
    const pid = this.postmasterPid();
    if (pid === null) throw new Error(`node ${this.name} has no postmaster to kill`);
    process.kill(pid, "SIGKILL");
    return pid;
  }

  /** As if the machine lost power: supervisor, agent, server, all at once. Resolves when all of them are gone. */
  async killHost(): Promise<void> {
    // The agent first, so that it sees nothing of the end and can not hand over.
    for (const pid of this.#agents()) kill(pid, "SIGKILL");
    const supervisor = this.#supervisor;
    if (supervisor?.pid !== undefined) kill(-supervisor.pid, "SIGKILL");
    await this.cluster.waitFor(
      `every process of node ${this.name} to be gone`,
      () => {
        const left = processesIn(this.pgdata);
        for (const { pid } of left) kill(pid, "SIGKILL");
        return left.length === 0 || `still there: ${left.map(({ pid, args }) => `${pid} ${args[0] ?? ""}`).join(", ")}`;
      },
      10_000,
    );
    this.#supervisor = null;
  }

  startHost(): void {
    if (this.#supervisor !== null) throw new Error(`the host of node ${this.name} is on already`);
    const child = this.cluster.spawn([
      "supervise",
      "-D",
      this.pgdata,
      "--bindir",
      this.cluster.bindir,
      "--log",
      this.logFile,
    ]);
    this.#supervisor = child;
    child.on("exit", () => {
      if (this.#supervisor === child) this.#supervisor = null;
    });
  }

  /** In good order. */
  async stopHost(): Promise<void> {
    const supervisor = this.#supervisor;
    if (supervisor === null) return;
    supervisor.kill("SIGTERM");
    await this.cluster.waitFor(
      `the supervisor of node ${this.name} to stop its server and end`,
      () => this.#supervisor === null,
      stopDeadlineMs,
    );
  }

  pauseAgent(): void {
    this.#signalAgent("SIGSTOP");
  }

  resumeAgent(): void {
    this.#signalAgent("SIGCONT");
  }

  killAgent(): void {
    this.#signalAgent("SIGKILL");
  }

  #signalAgent(signal: NodeJS.Signals): void {
    const pid = this.agentPid();
    if (pid === null) throw new Error(`node ${this.name} has no agent`);
    process.kill(pid, signal);
  }

  /** What this node knows. @throws CliError when its agent does not answer */
  async view(): Promise<NodeView> {
    return readView(await findAgent({ socket: this.socketPath }));
  }

  /** The end of the server's log. */
  async logTail(lines = 40): Promise<string> {
    const text = await readFile(this.logFile, "utf8").catch((error: unknown) => describeError(error));
    return text.split("\n").slice(-lines).join("\n");
  }
}

export class DemoCluster {
  readonly nodes: readonly DemoNode[];
  readonly directory: string;
  readonly socketDirectory: string;
  readonly passfile: string;
  readonly secretFile: string;
  readonly bindir: string;
  readonly password: string = randomBytes(18).toString("base64url");
  readonly user = "postgres";
  readonly #options: DemoOptions;
  readonly #account: Account | null;
  readonly #program: readonly string[];
  /** Everything that this started and that has not ended. */
  readonly #children = new Set<ChildProcess>();
  #stopped = false;

  /** Use `createDemoCluster`. */
  constructor(
    options: DemoOptions,
    bindir: string,
    account: Account | null,
    program: readonly string[],
    ports: number[],
  ) {
    this.#options = options;
    this.#account = account;
    this.#program = program;
    this.bindir = bindir;
    this.directory = options.directory;
    this.socketDirectory = join(options.directory, "sockets");
    this.passfile = join(options.directory, "passfile");
    this.secretFile = join(options.directory, "secret");
    const names = options.names ?? ["a", "b", "c"];
    this.nodes = names.map(
      (name, index) =>
        new DemoNode(this, name, ports[3 * index] ?? 0, ports[3 * index + 1] ?? 0, ports[3 * index + 2] ?? 0),
    );
  }

  node(name: string): DemoNode {
    const node = this.nodes.find((candidate) => candidate.name === name);
    if (node === undefined) throw new Error(`there is no node ${name}`);
    return node;
  }

  /** Makes and starts everything; resolves when all nodes stream and vote. */
  async start(): Promise<void> {
    const [first, ...others] = this.nodes;
    if (first === undefined) throw new Error("a cluster needs a node");
    await this.#makeFiles();
    this.#step(`making node ${first.name}`);
    await this.run(["init", ...this.#nodeArguments(first), ...this.#initArguments()]);
    first.startHost();
    await this.waitForPrimary([first.name]);
    for (const node of others) {
      this.#step(`joining node ${node.name}`);
      await this.run(["join", ...this.#nodeArguments(node), "--from", `127.0.0.1:${first.raftPort}`]);
      node.startHost();
    }
    this.#step("waiting until every node streams and votes");
    await this.waitForHealthy();
  }

  /** Ends everything that this started, in good order where possible, and leaves the folder. */
  async stop(): Promise<void> {
    // A start that is still under way goes no further.
    this.#stopped = true;
    const supervisors = this.nodes.map((node) => node.supervisorPid);
    for (const { pid } of this.#children) {
      if (pid !== undefined && !supervisors.includes(pid)) kill(-pid, "SIGKILL");
    }
    const results = await Promise.allSettled(this.nodes.map((node) => node.stopHost()));
    // A paused agent or a stuck server: what is left is ended for good.
    for (const node of this.nodes) await node.killHost();
    const failed = results.filter((result) => result.status === "rejected");
    if (failed.length > 0) throw failed[0]?.reason;
  }

  /** Everything, the folder too. */
  async destroy(): Promise<void> {
    try {
      await this.stop();
    } finally {
      await rm(this.directory, { recursive: true, force: true });
    }
  }

  /** For libpq: always leads to the primary. */
  connectionString(): string {
    const hosts = this.nodes.map((node) => `127.0.0.1:${node.port}`).join(",");
    return `postgresql://${this.user}@${hosts}/postgres?target_session_attrs=read-write&passfile=${encodeURIComponent(this.passfile)}`;
  }

  /** For libpq and `pg`: this node's server. */
  nodeConnectionString(name: string): string {
    return this.#dsn(this.node(name));
  }

  /** @returns the member that `view` shows as a primary open for writes on the node itself */
  async primary(): Promise<DemoNode | null> {
    for (const node of this.nodes) {
      const view = await node.view().catch(() => null);
      if (view?.self.writable === true) return node;
    }
    return null;
  }

  /** Until one of these nodes is open for writes. */
  async waitForPrimary(among: readonly string[], deadlineMs = startDeadlineMs): Promise<DemoNode> {
    let found: DemoNode | null = null;
    await this.waitFor(
      `${among.join(" or ")} to be the primary and open for writes`,
      async () => {
        const problems: string[] = [];
        for (const name of among) {
          const view = await this.node(name)
            .view()
            .catch((error: unknown) => describeError(error));
          if (typeof view === "string") problems.push(`${name}: ${view}`);
          else if (view.self.writable) {
            found = this.node(name);
            return true;
          } else problems.push(`${name}: ${view.self.role}, ${view.self.state}, phase ${view.phase}`);
        }
        return problems.join("; ");
      },
      deadlineMs,
    );
    if (found === null) throw new Error("no primary");
    return found;
  }

  /** Until one node is primary, all others stream from it, and all vote. */
  async waitForHealthy(deadlineMs = startDeadlineMs): Promise<void> {
    await this.waitFor(
      "one primary, all others streaming, all voting",
      async () => {
        const primary = await this.primary();
        if (primary === null) return "no node is open for writes";
        const { members } = await primary.view();
        const problems = this.nodes.flatMap((node) => unhealthy(node.name, members));
        return problems.length === 0 || `seen from ${primary.name}: ${problems.join("; ")}`;
      },
      deadlineMs,
    );
  }

  /**
   * Until `predicate` gives true. It gives false or, better, a sentence that says what is missing; an error counts as such.
   * @throws Error with the description and what was missing last
   */
  async waitFor(
    description: string,
    predicate: () => boolean | string | Promise<boolean | string>,
    deadlineMs: number,
  ): Promise<void> {
    const untilMs = performance.now() + deadlineMs;
    for (;;) {
      const outcome = await Promise.resolve()
        .then(predicate)
        .catch((error: unknown) => describeError(error));
      if (outcome === true) return;
      if (performance.now() >= untilMs) {
        const missing = outcome === false || outcome === "" ? "" : `; last seen: ${outcome}`;
        throw new CliError(
          "timeout",
          `waited ${deadlineMs} ms in vain for ${description}${missing}`,
          `The servers' logs are ${join(this.directory, "*.log")}.`,
          exitCodes.failed,
        );
      }
      await delay(pollMs);
    }
  }

  /** Starts pg_replica as the servers' user, in a process group of its own. */
  spawn(args: readonly string[], output: "ignore" | "pipe" = "ignore"): ChildProcess {
    if (this.#stopped) throw new Error("the cluster has been stopped");
    const [program = process.execPath, ...first] = this.#program;
    const child = spawn(program, [...first, ...args], {
      cwd: this.directory,
      detached: true,
      stdio: ["ignore", output, output],
      env: this.#environment(),
      ...(this.#account ?? {}),
    });
    this.#children.add(child);
    child.on("exit", () => this.#children.delete(child));
    child.on("error", () => this.#children.delete(child));
    return child;
  }

  /** Runs one command to its end. @throws Error with what it said */
  async run(args: readonly string[]): Promise<void> {
    const child = this.spawn(args, "pipe");
    let said = "";
    const take = (data: Buffer) => {
      said = (said + data.toString()).slice(-4000);
    };
    child.stdout?.on("data", take);
    child.stderr?.on("data", take);
    const status = await new Promise<string | number>((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (code, signal) => resolve(code ?? signal ?? "?"));
    });
    if (status !== 0) throw new Error(`pg_replica ${args[0]} ended with ${status}:\n${said.trim()}`);
  }

  #environment(): NodeJS.ProcessEnv {
    const { PATH, TMPDIR, LANG } = process.env;
    return { PATH, LANG: LANG ?? "C.UTF-8", HOME: this.directory, ...(TMPDIR === undefined ? {} : { TMPDIR }) };
  }

  async #makeFiles(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
    if (readdirSync(this.directory).length > 0) {
      throw new CliError("not-empty", `${this.directory} is not empty`, "Name an empty or a new directory.");
    }
    await this.#own(this.directory);
    await mkdir(this.socketDirectory, { mode: 0o700 });
    await this.#own(this.socketDirectory);
    await this.#makeSecret(this.passfile, `*:*:*:${this.user}:${this.password}\n`);
    await this.#makeSecret(join(this.directory, "password"), `${this.password}\n`);
    await this.#makeSecret(this.secretFile, `${randomBytes(32).toString("hex")}\n`);
  }

  async #makeSecret(path: string, text: string): Promise<void> {
    await writeFile(path, text, { mode: 0o600, flag: "wx" });
    await this.#own(path);
  }

  async #own(path: string): Promise<void> {
    if (this.#account !== null) await chown(path, this.#account.uid, this.#account.gid);
  }

  #nodeArguments(node: DemoNode): string[] {
    const peers = this.nodes.map(({ name, raftPort }) => `${name}=127.0.0.1:${raftPort}`).join(",");
    const settings = {
      unix_socket_directories: this.socketDirectory,
      "pg_replica.listen_addresses": "127.0.0.1",
      // Three servers share this machine.
      shared_buffers: "32MB",
      max_wal_size: "256MB",
      ...this.#options.settings,
    };
    return [
      ...["-D", node.pgdata, "--bindir", this.bindir, "--node-id", node.name],
      ...["--port", String(node.port), "--raft-port", String(node.raftPort), "--http-port", String(node.httpPort)],
      ...["--listen-addresses", "127.0.0.1", "--peers", peers, "--advertise-dsn", this.#dsn(node)],
      ...["--failover-timeout-ms", String(this.#options.failoverTimeoutMs ?? 3000), "--secret-file", this.secretFile],
      ...Object.entries(settings).flatMap(([name, value]) => ["--set", `${name}=${value}`]),
    ];
  }

  #initArguments(): string[] {
    return ["--superuser", this.user, "--auth", "scram-sha-256", "--pwfile", join(this.directory, "password")];
  }

  #dsn(node: DemoNode): string {
    return `host=127.0.0.1 port=${node.port} user=${this.user} dbname=postgres passfile=${this.passfile}`;
  }

  #step(text: string): void {
    this.#options.onStep?.(text);
  }
}

/**
 * Finds out all that the cluster needs; nothing is made before `start()`.
 * @throws CliError when the server's programs, the installed pg_replica or the user postgres are missing
 */
export async function createDemoCluster(options: DemoOptions): Promise<DemoCluster> {
  const bindir = findBindir(options.bindir);
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  const directory = await realpath(options.directory);
  if (/[\s'"\\=,]/.test(directory)) {
    throw new CliError("bad-directory", `"${directory}" holds blanks or quotes`, "Name a directory without them.");
  }
  const ports = await freePorts(3 * (options.names?.length ?? 3));
  return new DemoCluster(
    { ...options, directory },
    bindir,
    serverAccount(),
    options.program ?? installedProgram(bindir),
    ports,
  );
}

function unhealthy(name: string, members: readonly MemberView[]): string[] {
  const member = members.findLast((candidate) => candidate.name === name);
  if (member === undefined) return [`${name} is no member`];
  const works = member.role === "primary" || (member.role === "standby" && member.state === "streaming");
  const votes = member.raftRole === "voter" || member.raftRole === "leader";
  return works && votes ? [] : [`${name} is ${member.role}, ${member.state}, ${member.raftRole}`];
}

function installedProgram(bindir: string): string[] {
  const share = execFileSync(join(bindir, "pg_config"), ["--sharedir"], { encoding: "utf8" }).trim();
  const bundle = join(share, "pg_replica", "pg_replica.mjs");
  if (existsSync(bundle)) return [process.execPath, bundle];
  throw new CliError("not-installed", `${bundle} is not there`, "Run make install (scripts/demo.sh does it).");
}

/** PostgreSQL refuses to run as root; root runs it as the user postgres. Null: as whoever this is. */
export function serverAccount(): Account | null {
  if (process.getuid?.() !== 0) return null;
  try {
    const id = (flag: string) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8", stdio: "pipe" }));
    return { uid: id("-u"), gid: id("-g") };
  } catch (error) {
    throw new CliError(
      "no-account",
      "there is no user postgres to run the servers as (they refuse to run as root)",
      "Run this as an ordinary user.",
      exitCodes.refused,
      { cause: error },
    );
  }
}

interface FoundProcess {
  readonly pid: number;
  readonly args: readonly string[];
}

/** Server, backends and agent work in the data directory, and nothing else does: also those whose parents are gone. */
function processesIn(directory: string): FoundProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const cwd = readlinkSync(`/proc/${name}/cwd`);
        if (cwd !== directory) return [];
        const args = readFileSync(`/proc/${name}/cmdline`, "utf8").split("\0").slice(0, -1);
        // A zombie has no command line and no working directory worth a signal.
        return args.length === 0 ? [] : [{ pid: Number(name), args }];
      } catch {
        // It ended meanwhile, or is somebody else's.
        return [];
      }
    });
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
