/** A server beside the cluster, made and started as an operator would, that something is wrong with. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createDemoCluster, type DemoCluster } from "../../../src/cli/demo-cluster.js";
import { freePort } from "../../../src/cli/free-ports.js";
import { writeNodeConfiguration } from "../../../src/postgres/configuration.js";

export { freePort };

const asRoot = process.getuid?.() === 0;

/** One running node, a, of a cluster that the tests bring their nodes to. */
export async function startCluster(settings: Readonly<Record<string, string>> = {}): Promise<DemoCluster> {
  const directory = await mkdtemp(join(tmpdir(), "pg_replica-bad-"));
  const cluster = await createDemoCluster({ directory, names: ["a"], settings });
  try {
    await cluster.start();
  } catch (error) {
    await cluster.destroy();
    throw error;
  }
  return cluster;
}

export interface Ran {
  readonly code: number | null;
  /** Standard output and standard error. */
  readonly text: string;
}

export class BadNode {
  readonly pgdata: string;
  readonly logFile: string;
  #supervisor: ChildProcess | null = null;

  private constructor(
    readonly cluster: DemoCluster,
    readonly name: string,
    readonly port: number,
    readonly raftPort: number,
    readonly httpPort: number,
  ) {
    this.pgdata = join(cluster.directory, name);
    this.logFile = `${this.pgdata}.log`;
  }

  /** Nothing is made yet. */
  static async create(cluster: DemoCluster, name: string): Promise<BadNode> {
    return new BadNode(cluster, name, await freePort(), await freePort(), await freePort());
  }

  /** With the data of a stopped node, under a name and ports of its own. */
  static async copyOf(original: BadNode, name: string, settings: Readonly<Record<string, string>> = {}) {
    const node = await BadNode.create(original.cluster, name);
    execFileSync("cp", ["-a", original.pgdata, node.pgdata]);
    node.set({
      "pg_replica.node_id": name,
      port: String(node.port),
      "pg_replica.raft_port": String(node.raftPort),
      "pg_replica.http_port": String(node.httpPort),
      ...settings,
    });
    return node;
  }

  /** In the node's own configuration file, as an operator would edit it. */
  set(settings: Readonly<Record<string, string>>): void {
    writeNodeConfiguration(this.pgdata, settings);
  }

  get stateDir(): string {
    return join(this.pgdata, "pg_replica");
  }

  get socketPath(): string {
    return join(this.cluster.socketDirectory, `.s.pg_replica.${this.port}`);
  }

  /** The options of `init` and `join` for this node. */
  options(settings: Readonly<Record<string, string>> = {}): string[] {
    const { cluster, port } = this;
    const peers = cluster.nodes.map((node) => `${node.name}=127.0.0.1:${node.raftPort}`).join(",");
    const all = {
      unix_socket_directories: cluster.socketDirectory,
      shared_buffers: "16MB",
      "pg_replica.listen_addresses": "127.0.0.1",
      ...settings,
    };
    return [
      ...["-D", this.pgdata, "--bindir", cluster.bindir, "--node-id", this.name, "--port", String(port)],
      ...["--raft-port", String(this.raftPort), "--http-port", String(this.httpPort)],
      ...["--listen-addresses", "127.0.0.1", "--peers", peers, "--secret-file", cluster.secretFile],
      "--advertise-dsn",
      `host=127.0.0.1 port=${port} user=postgres dbname=postgres passfile=${cluster.passfile}`,
      ...Object.entries(all).flatMap(([name, value]) => ["--set", `${name}=${value}`]),
    ];
  }

  /** A server with a database of its own that looks for a cluster and may not make one. */
  async init(settings: Readonly<Record<string, string>> = {}): Promise<void> {
    const all = { "pg_replica.bootstrap": "off", ...settings };
    const ran = await this.pgReplica("init", ...this.options(all), "--auth", "trust");
    if (ran.code !== 0) throw new Error(`init of ${this.name} ended with ${ran.code}: ${ran.text}`);
  }

  async join(settings: Readonly<Record<string, string>> = {}): Promise<Ran> {
    const [first] = this.cluster.nodes;
    return this.pgReplica("join", ...this.options(settings), "--from", `127.0.0.1:${first?.raftPort ?? 0}`);
  }

  /** Runs one command of pg_replica to its end. */
  pgReplica(...args: string[]): Promise<Ran> {
    return collect(this.cluster.spawn(args, "pipe"));
  }

  /** Runs the server itself, which is expected to refuse and end. */
  runServer(...args: string[]): Promise<Ran> {
    const postgres = join(this.cluster.bindir, "postgres");
    const command = asRoot ? ["runuser", "-u", "postgres", "--", postgres] : [postgres];
    const [program = postgres, ...first] = command;
    return collect(
      spawn(program, [...first, "-D", this.pgdata, ...args], { cwd: "/", stdio: ["ignore", "pipe", "pipe"] }),
    );
  }

  start(): void {
    const { pgdata, logFile, cluster } = this;
    const child = cluster.spawn(["supervise", "-D", pgdata, "--bindir", cluster.bindir, "--log", logFile]);
    this.#supervisor = child;
    child.on("exit", () => {
      if (this.#supervisor === child) this.#supervisor = null;
    });
  }

  async stop(): Promise<void> {
    this.#supervisor?.kill("SIGTERM");
    await this.cluster.waitFor(`the supervisor of ${this.name} to end`, () => this.#supervisor === null, 40_000);
    const agents = [...this.log().matchAll(/agent started with PID (\d+)/g)].map(([, pid]) => Number(pid));
    await this.cluster.waitFor(`the agents of ${this.name} to end`, () => agents.every((pid) => !runs(pid)), 20_000);
  }

  log(): string {
    return existsSync(this.logFile) ? readFileSync(this.logFile, "utf8") : "";
  }

  /** Until the server's log says it; gives what it says. */
  async says(pattern: RegExp, deadlineMs = 30_000): Promise<RegExpExecArray> {
    let found: RegExpExecArray | null = null;
    await this.cluster.waitFor(
      `${this.name}'s log to say ${pattern}`,
      () => {
        found = pattern.exec(this.log());
        return found !== null || this.log().slice(-2500);
      },
      deadlineMs,
    );
    if (found === null) throw new Error(`the log does not say ${pattern}`);
    return found;
  }
}

function collect(child: ChildProcess): Promise<Ran> {
  let text = "";
  const take = (data: Buffer) => {
    text += data.toString();
  };
  child.stdout?.on("data", take);
  child.stderr?.on("data", take);
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, text }));
  });
}

function runs(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) [ZX]/s.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

/** Every file with its mode, owner and contents; a missing directory has none. `lock` says who looked last. */
export function listing(directory: string, except: (path: string) => boolean = (path) => path === "lock"): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .filter((path) => !except(path))
    .sort()
    .map((path) => `${path} ${describe(join(directory, path))}`);
}

function describe(path: string): string {
  const { mode, uid, gid } = lstatSync(path);
  const kind = mode & 0o170000;
  let content = "";
  if (kind === 0o100000) content = createHash("sha256").update(readFileSync(path)).digest("hex");
  if (kind === 0o120000) content = readlinkSync(path);
  return `${mode.toString(8)} ${uid}:${gid} ${content}`;
}

/**
 * What a server that starts and then serves nobody leaves as it is: the cluster's identity and all of its own settings.
 * The rest is PostgreSQL's (statistics, control file, WAL).
 */
export function identityOf(node: BadNode): string[] {
  const files = ["PG_VERSION", "pg_replica.conf", "postgresql.conf", "pg_hba.conf"];
  const control = execFileSync(join(node.cluster.bindir, "pg_controldata"), ["-D", node.pgdata], { encoding: "utf8" });
  return [
    ...listing(node.stateDir),
    ...files.map((name) => `${name} ${describe(join(node.pgdata, name))}`),
    /system identifier:.*/.exec(control)?.[0] ?? "",
    /TimeLineID:.*/.exec(control)?.[0] ?? "",
  ];
}

/** Until `look` is true; for what is no cluster's. */
export async function until(what: string, look: () => boolean, deadlineMs = 20_000): Promise<void> {
  const untilMs = performance.now() + deadlineMs;
  while (!look()) {
    if (performance.now() > untilMs) throw new Error(`waited ${deadlineMs} ms in vain for ${what}`);
    await sleep(20);
  }
}
