/**
 * One node of the Raft bench in its own process: the product's core, driver, log and transport, and a state machine that
 * only counts. Ends when its channel to the bench does.
 */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { describeError } from "../src/agent/errors.js";
import { RaftDriver } from "../src/agent/raft-driver.js";
import { raftSettings, reconnectDelays, tickIntervalMs } from "../src/agent/raft-settings.js";
import type { StateMachine } from "../src/agent/state-machine.js";
import { leaseTimings } from "../src/control/index.js";
import { createRaftNode } from "../src/raft/index.js";
import type { Message } from "../src/raft/types.js";
import { type Disk, realDisk } from "../src/storage/disk.js";
import { openRaftStorage, type RaftStorage } from "../src/storage/index.js";
import { encodeFrame } from "../src/transport/frames.js";
import { createTransport, type Transport } from "../src/transport/index.js";
import { raftFrame } from "../src/transport/wire.js";
import {
  type FromNode,
  type LoadRequest,
  type LoadResult,
  maxLatencies,
  type NodeConfig,
  type NodeReport,
  type ToNode,
} from "./raft-protocol.js";

const countingMachine: StateMachine<number, Uint8Array> = {
  empty: 0,
  encode: (input) => input,
  apply: (state) => ({ state: state + 1, outcome: { ok: true } }),
  save: (state) => Buffer.from(String(state)),
  load: (data) => Number(Buffer.from(data).toString()),
};

type Driver = RaftDriver<number, Uint8Array>;

class BenchNode {
  readonly #config: NodeConfig;
  readonly #disk: CountedDisk;
  #driver: Driver | null = null;
  #transport: Transport | null = null;
  #messages = 0;
  #bytes = 0;
  #leadingTerm = 0;
  #reached = false;
  countBytes = false;

  constructor(config: NodeConfig) {
    this.#config = config;
    this.#disk = new CountedDisk(config.directory);
  }

  async start(): Promise<void> {
    const { id, ports, leaseMs, compactEvery } = this.#config;
    const timings = leaseTimings(leaseMs);
    const processMs = performance.now();
    const storage = await openFormatted(this.#config, this.#disk.disk);
    const openMs = performance.now() - processMs;
    const driver: Driver = new RaftDriver({
      node: createRaftNode({ id, ...raftSettings(timings), random: Math.random, initial: storage.initial }),
      storage,
      machine: countingMachine,
      send: (message) => this.#send(message),
      onApplied: () => this.#applied(driver),
      onReadState: () => undefined,
      onFatal: fatal,
      tickIntervalMs: tickIntervalMs(timings),
      compactEvery,
    });
    this.#driver = driver;
    const transport = openTransport(this.#config, driver);
    await transport.start();
    this.#transport = transport;
    transport.setPeers(ports.map((port, at) => ({ id: at + 1, address: `127.0.0.1:${port}` })));
    driver.start();
    tell({ kind: "up", processMs, openMs });
    this.#applied(driver);
  }

  #send(message: Message): void {
    this.#messages += 1;
    if (this.countBytes) this.#bytes += encodeFrame(raftFrame(message)).length;
    this.#transport?.sendRaft(message);
  }

  #applied(driver: Driver): void {
    const { termCommitted, term, applied } = driver.status();
    if (termCommitted && term > this.#leadingTerm) {
      this.#leadingTerm = term;
      tell({ kind: "leading", term });
    }
    if (!this.#reached && applied >= this.#config.watchCommit) {
      this.#reached = true;
      tell({ kind: "reached" });
    }
  }

  /** Keeps so many proposals outstanding: the clients are on the leader's own node, as the agent is. */
  async load({ count, outstanding, payloadBytes }: LoadRequest): Promise<LoadResult> {
    const driver = this.#driver as Driver;
    const every = Math.ceil(count / maxLatencies);
    const latenciesMs: number[] = [];
    const payload = new Uint8Array(payloadBytes).fill(0x61);
    let [sent, done, interrupted] = [0, 0, null as string | null];
    const client = async () => {
      while (sent < count && interrupted === null) {
        const number = sent++;
        const sentMs = performance.now();
        const outcome = await driver.propose(payload);
        if (!outcome.ok) {
          interrupted ??= `${outcome.code}: ${outcome.message}`;
          return;
        }
        done += 1;
        if (number % every === 0) latenciesMs.push(performance.now() - sentMs);
      }
    };
    const startMs = performance.now();
    await Promise.all(Array.from({ length: Math.min(outstanding, count) }, client));
    return { done, elapsedMs: performance.now() - startMs, latenciesMs, interrupted };
  }

  report(): NodeReport {
    const status = (this.#driver as Driver).status();
    const { user, system } = process.cpuUsage();
    this.#disk.measure();
    return {
      leads: status.termCommitted,
      leader: status.leader,
      commit: status.commit,
      applied: status.applied,
      lastIndex: status.lastIndex,
      connected: this.#transport?.connected().length ?? 0,
      messages: this.#messages,
      bytes: this.#bytes,
      syncs: this.#disk.syncs,
      cpuMs: (user + system) / 1000,
      rssBytes: process.memoryUsage.rss(),
      directoryMaxBytes: this.#disk.maxBytes,
      directoryBytes: this.#disk.bytes,
    };
  }
}

/** The real disk. The directory is largest right before a new file takes the place of an old one. */
class CountedDisk {
  readonly #directory: string;
  syncs = 0;
  bytes = 0;
  maxBytes = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  readonly disk: Disk = {
    ...realDisk,
    create: async (path, mode) => {
      const file = await realDisk.create(path, mode);
      return {
        write: (bytes, position) => file.write(bytes, position),
        sync: () => {
          this.syncs += 1;
          return file.sync();
        },
        close: () => file.close(),
      };
    },
    syncDirectory: (directory) => {
      this.syncs += 1;
      return realDisk.syncDirectory(directory);
    },
    rename: (from, to) => {
      this.measure();
      return realDisk.rename(from, to);
    },
  };

  measure(): void {
    this.bytes = 0;
    for (const name of readdirSync(this.#directory)) {
      // A temporary file may have got its final name meanwhile.
      const file = statSync(join(this.#directory, name), { throwIfNoEntry: false });
      if (file !== undefined) this.bytes += Math.max(file.size, file.blocks * 512);
    }
    this.maxBytes = Math.max(this.maxBytes, this.bytes);
  }
}

/** A new log starts with the configuration of the whole group as its first, committed entry. */
async function openFormatted({ directory, ports }: NodeConfig, disk: Disk): Promise<RaftStorage> {
  const storage = await openRaftStorage(directory, disk);
  if (storage.initial.hardState.term > 0) return storage;
  const config = { voters: ports.map((_, at) => at + 1), votersOutgoing: [], learners: [], learnersNext: [] };
  await storage.persist({
    hardState: { term: 1, vote: 0, commit: 1 },
    entries: [{ term: 1, index: 1, type: "config", config: { ...config, autoLeave: false } }],
    mustSync: true,
  });
  await storage.close();
  return openRaftStorage(directory, disk);
}

function openTransport({ id, ports, secret, leaseMs }: NodeConfig, driver: Driver): Transport {
  return createTransport({
    self: { clusterId: "bench", id, name: `n${id}`, incarnation: `disk${id}` },
    listenAddresses: "127.0.0.1",
    port: ports[id - 1] as number,
    secret: Buffer.from(secret, "base64"),
    tls: null,
    accepts: () => ({ ok: true }),
    ...reconnectDelays(leaseTimings(leaseMs)),
    events: {
      onRaft: (message) => driver.step(message),
      onApp: () => undefined,
      onGuest: async () => ({ ok: false, code: "bench", message: "this node takes part in a bench" }),
      onDisconnect: (peer) => driver.reportUnreachable(peer),
      onProblem: (text) => console.error(`node ${id}: ${text}`),
    },
  });
}

function tell(message: FromNode): void {
  // Fails only when the bench is gone, and then this process ends by "disconnect".
  process.send?.(message, undefined, undefined, () => undefined);
}

function fatal(error: unknown): void {
  tell({ kind: "fatal", text: describeError(error) });
}

function serve(): void {
  let node: BenchNode | null = null;
  let started: Promise<void> = Promise.resolve();
  process.on("disconnect", () => process.exit(0));
  // Ctrl-C reaches the whole process group; the bench ends its nodes itself.
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);
  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", fatal);
  process.on("message", (message: ToNode) => {
    if (message.kind === "start") {
      node = new BenchNode(message.config);
      started = node.start();
      started.catch(fatal);
      return;
    }
    started.then(() => answer(node as BenchNode, message)).catch(fatal);
  });
}

async function answer(node: BenchNode, message: Exclude<ToNode, { kind: "start" }>): Promise<void> {
  const { kind } = message;
  if (kind === "countBytes") node.countBytes = message.on;
  else if (kind === "report") tell({ kind, request: message.request, result: node.report() });
  else tell({ kind, request: message.request, result: await node.load(message.load) });
}

serve();
