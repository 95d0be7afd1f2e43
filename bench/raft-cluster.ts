/** A Raft group of processes on this machine: starts, freezes and kills them, and asks them how they are. */
import { type ChildProcess, fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { freePorts } from "../src/cli/free-ports.js";
import type { FromNode, LoadRequest, LoadResult, NodeReport, ToNode } from "./raft-protocol.js";

export interface RaftClusterOptions {
  readonly size: number;
  readonly directory: string;
  readonly leaseMs: number;
  readonly compactEvery: number;
}

/** Bounds a run that hangs; nothing measured comes near it. */
const deadlineMs = 60_000;
const pollMs = 20;
const program = fileURLToPath(new URL("./raft-node.js", import.meta.url));

type Answer = NodeReport | LoadResult;

/** Every process that was started and has not ended; killed when this process exits, on whatever path. */
const alive = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of alive) child.kill("SIGKILL");
});

/** Resolves when no process is left that could still write into its directory. */
export async function killEverything(): Promise<void> {
  await Promise.all(
    [...alive].map((child) => {
      const gone = once(child, "exit");
      child.kill("SIGKILL");
      return gone;
    }),
  );
}

export class RaftProcess {
  readonly id: number;
  readonly #child: ChildProcess;
  readonly #cluster: RaftCluster;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  /** Rejects when the process ends although nobody killed it, or says that it can not go on. */
  readonly #failed: Promise<never>;
  #fail: (error: Error) => void = () => undefined;
  #nextRequest = 1;
  #killed = false;

  constructor(cluster: RaftCluster, id: number, watchCommit: number) {
    this.id = id;
    this.#cluster = cluster;
    this.#failed = new Promise((_, reject) => {
      this.#fail = reject;
    });
    this.#failed.catch(() => undefined);
    this.#child = fork(program, {
      stdio: ["ignore", "ignore", "inherit", "ipc"],
      env: { ...process.env, UV_THREADPOOL_SIZE: undefined },
    });
    alive.add(this.#child);
    this.#child.on("exit", (code, signal) => {
      alive.delete(this.#child);
      if (!this.#killed) this.#fail(new Error(`node ${id} ended by itself (${signal ?? `exit code ${code}`})`));
    });
    this.#child.on("message", (message: FromNode) => this.#onMessage(message));
    this.#tell({
      kind: "start",
      config: { ...cluster.nodeConfig, id, directory: cluster.directoryOf(id), watchCommit },
    });
  }

  get failed(): Promise<never> {
    return this.#failed;
  }

  report(): Promise<NodeReport> {
    return this.#ask((request) => ({ kind: "report", request })) as Promise<NodeReport>;
  }

  load(load: LoadRequest): Promise<LoadResult> {
    return this.#ask((request) => ({ kind: "load", request, load })) as Promise<LoadResult>;
  }

  countBytes(on: boolean): void {
    this.#tell({ kind: "countBytes", on });
  }

  freeze(): void {
    this.#child.kill("SIGSTOP");
  }

  thaw(): void {
    this.#child.kill("SIGCONT");
  }

  /** Resolves when it is gone. */
  async kill(): Promise<void> {
    this.#killed = true;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
  }

  #ask(make: (request: number) => ToNode): Promise<Answer> {
    const request = this.#nextRequest++;
    const answer = new Promise<Answer>((resolve) => this.#waiting.set(request, resolve));
    this.#tell(make(request));
    return Promise.race([answer, this.#failed]);
  }

  #tell(message: ToNode): void {
    // It fails when the process has ended, which "exit" tells better.
    this.#child.send(message, () => undefined);
  }

  #onMessage(message: FromNode): void {
    if (message.kind === "report" || message.kind === "load") {
      this.#waiting.get(message.request)?.(message.result);
      this.#waiting.delete(message.request);
    } else if (message.kind === "fatal") this.#fail(new Error(`node ${this.id}: ${message.text}`));
    else this.#cluster.heard(this.id, message);
  }
}

export type NodeEvent = Extract<FromNode, { kind: "up" | "leading" | "reached" }>;

export class RaftCluster {
  readonly size: number;
  readonly #options: RaftClusterOptions;
  readonly #ports: readonly number[];
  readonly #secret = randomBytes(32).toString("base64");
  readonly #nodes = new Map<number, RaftProcess>();
  readonly #listeners = new Set<(id: number, event: NodeEvent, atMs: number) => void>();

  /** Resolves when the group has a leader and everybody follows it. */
  static async start(options: RaftClusterOptions): Promise<RaftCluster> {
    const cluster = new RaftCluster(options, await freePorts(options.size));
    try {
      for (let id = 1; id <= options.size; id++) {
        await mkdir(cluster.directoryOf(id), { recursive: true, mode: 0o700 });
        cluster.startNode(id);
      }
      await cluster.steady();
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  private constructor(options: RaftClusterOptions, ports: readonly number[]) {
    this.#options = options;
    this.size = options.size;
    this.#ports = ports;
  }

  get nodeConfig(): { ports: readonly number[]; secret: string; leaseMs: number; compactEvery: number } {
    const { leaseMs, compactEvery } = this.#options;
    return { ports: this.#ports, secret: this.#secret, leaseMs, compactEvery };
  }

  directoryOf(id: number): string {
    return join(this.#options.directory, `n${id}`);
  }

  get nodes(): readonly RaftProcess[] {
    return [...this.#nodes.values()];
  }

  node(id: number): RaftProcess {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new Error(`node ${id} does not run`);
    return node;
  }

  startNode(id: number, watchCommit = Number.MAX_SAFE_INTEGER): RaftProcess {
    const node = new RaftProcess(this, id, watchCommit);
    this.#nodes.set(id, node);
    return node;
  }

  async kill(id: number): Promise<void> {
    const node = this.node(id);
    this.#nodes.delete(id);
    await node.kill();
  }

  heard(id: number, event: NodeEvent): void {
    const atMs = performance.now();
    for (const listener of [...this.#listeners]) listener(id, event, atMs);
  }

  /** The first such event from now on, and when it came. */
  async next<Kind extends NodeEvent["kind"]>(
    kind: Kind,
    matches: (id: number) => boolean,
  ): Promise<{ readonly atMs: number; readonly event: Extract<NodeEvent, { kind: Kind }> }> {
    let listener: (id: number, event: NodeEvent, atMs: number) => void = () => undefined;
    const found = new Promise<{ atMs: number; event: Extract<NodeEvent, { kind: Kind }> }>((resolve) => {
      listener = (id, event, atMs) => {
        if (event.kind === kind && matches(id)) resolve({ atMs, event: event as Extract<NodeEvent, { kind: Kind }> });
      };
      this.#listeners.add(listener);
    });
    try {
      return await this.#within(found, `a node to say "${kind}"`);
    } finally {
      this.#listeners.delete(listener);
    }
  }

  /** One leader that has committed in its term, everybody connected, everything applied everywhere. @returns the leader */
  async steady(): Promise<number> {
    const untilMs = performance.now() + deadlineMs;
    for (;;) {
      const reports = await this.reports();
      const { leader, why } = judge(reports, this.size);
      if (leader !== null) return leader;
      if (performance.now() > untilMs) throw new Error(`the group is not steady within ${deadlineMs} ms: ${why}`);
      await delay(pollMs);
    }
  }

  async reports(): Promise<ReadonlyMap<number, NodeReport>> {
    const asked = [...this.#nodes].map(async ([id, node]) => [id, await node.report()] as const);
    return new Map(await this.#within(Promise.all(asked), "every node to report"));
  }

  async stop(): Promise<void> {
    const nodes = this.nodes;
    this.#nodes.clear();
    await Promise.all(nodes.map((node) => node.kill()));
  }

  async #within<T>(work: Promise<T>, what: string): Promise<T> {
    const stop = new AbortController();
    const late = delay(deadlineMs, undefined, { signal: stop.signal }).then(() => {
      throw new Error(`waited ${deadlineMs} ms in vain for ${what}`);
    });
    late.catch(() => undefined);
    try {
      return await Promise.race([work, late, ...this.nodes.map((node) => node.failed)]);
    } finally {
      stop.abort();
    }
  }
}

function judge(reports: ReadonlyMap<number, NodeReport>, size: number): { leader: number | null; why: string } {
  const leaders = [...reports].filter(([, { leads }]) => leads).map(([id]) => id);
  const leader = leaders[0];
  if (leader === undefined || leaders.length > 1) return { leader: null, why: `leaders: ${leaders.join(", ")}` };
  const { lastIndex } = reports.get(leader) as NodeReport;
  for (const [id, report] of reports) {
    const { connected, applied, leader: follows } = report;
    if (connected !== size - 1) return { leader: null, why: `node ${id} is connected to ${connected} others` };
    if (follows !== leader) return { leader: null, why: `node ${id} follows ${follows}, not ${leader}` };
    if (applied !== lastIndex) return { leader: null, why: `node ${id} has applied ${applied} of ${lastIndex}` };
  }
  return { leader, why: "" };
}
