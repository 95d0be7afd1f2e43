/** A deterministic network of raft nodes in memory, with a disk each, for the tests of the core. */
import assert from "node:assert/strict";
import type {
  Configuration,
  Entry,
  Message,
  PersistentState,
  RaftNode,
  RaftOptions,
  ReadState,
  Ready,
  Status,
} from "../../../src/raft/index.js";
import { createRaftNode, emptyConfiguration, emptyState, validateMessage } from "../../../src/raft/index.js";

export const electionTimeoutMs = 1000;
export const heartbeatIntervalMs = 100;

export function votersOf(...voters: number[]): Configuration {
  return { ...emptyConfiguration, voters };
}

/** A small seeded generator (mulberry32). */
export function seeded(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function optionsFor(id: number, initial: PersistentState, random: () => number): RaftOptions {
  return {
    id,
    electionTimeoutMs,
    heartbeatIntervalMs,
    random,
    maxBytesPerAppend: 4096,
    maxInflightAppends: 8,
    maxUncommittedBytes: 1 << 20,
    initial,
  };
}

/** Writes what a Ready wants durable onto a disk image. */
export function persisted(disk: PersistentState, ready: Ready): PersistentState {
  const snapshot = ready.snapshot ?? disk.snapshot;
  let entries: Entry[] = ready.snapshot === undefined ? [...disk.entries] : [];
  const first = ready.entries[0];
  if (first !== undefined) entries = [...entries.filter((e) => e.index < first.index), ...ready.entries];
  return { hardState: ready.hardState ?? disk.hardState, snapshot, entries };
}

export class Machine {
  readonly id: number;
  disk: PersistentState;
  node: RaftNode;
  applied: Entry[] = [];
  readStates: ReadState[] = [];
  up = true;

  constructor(id: number, disk: PersistentState, options: RaftOptions) {
    this.id = id;
    this.disk = disk;
    this.node = createRaftNode(options);
  }

  status(): Status {
    return this.node.status();
  }
}

export class Network {
  now = 1000;
  readonly machines = new Map<number, Machine>();
  readonly queue: Message[] = [];
  readonly cut = new Set<string>();
  drop: (message: Message) => boolean = () => false;
  readonly random: () => number;
  readonly extra: Partial<RaftOptions>;

  constructor(
    ids: readonly number[],
    config: Configuration = votersOf(...ids),
    seed = 1,
    extra: Partial<RaftOptions> = {},
  ) {
    this.random = seeded(seed);
    this.extra = extra;
    for (const id of ids) this.add(id, emptyState(config));
  }

  add(id: number, disk: PersistentState = emptyState()): Machine {
    const machine = new Machine(id, disk, this.optionsFor(id, disk));
    this.machines.set(id, machine);
    return machine;
  }

  get(id: number): Machine {
    const machine = this.machines.get(id);
    assert.ok(machine, `no machine ${id}`);
    return machine;
  }

  node(id: number): RaftNode {
    return this.get(id).node;
  }

  status(id: number): Status {
    return this.node(id).status();
  }

  /** Messages between the two groups are lost, in both directions. */
  partition(a: readonly number[], b: readonly number[]): void {
    for (const x of a) for (const y of b) this.cut.add(`${x}>${y}`).add(`${y}>${x}`);
  }

  heal(): void {
    this.cut.clear();
    this.drop = () => false;
  }

  crash(id: number): void {
    this.get(id).up = false;
  }

  /** Comes back with what its disk holds. */
  restart(id: number): void {
    const machine = this.get(id);
    machine.up = true;
    machine.applied = [];
    machine.node = createRaftNode(this.optionsFor(id, machine.disk));
  }

  optionsFor(id: number, disk: PersistentState): RaftOptions {
    return { ...optionsFor(id, disk, this.random), ...this.extra };
  }

  /** One Ready of one machine, everything in order. Returns it. */
  process(id: number): Ready {
    const machine = this.get(id);
    const ready = machine.node.ready();
    this.queue.push(...ready.messages);
    machine.disk = persisted(machine.disk, ready);
    this.queue.push(...ready.messagesAfterPersist);
    machine.applied.push(...ready.committedEntries);
    machine.readStates.push(...ready.readStates);
    machine.node.advance(ready);
    return ready;
  }

  deliver(message: Message): void {
    const to = this.machines.get(message.to);
    if (to === undefined || !to.up || this.get(message.from).up === false) return;
    if (this.cut.has(`${message.from}>${message.to}`) || this.drop(message)) return;
    // Through the boundary check: builds a copy, so that nothing is shared (R62).
    to.node.step(validateMessage(message), this.now);
  }

  /** Until nothing is on its way and nobody has anything to do. */
  settle(): void {
    for (let rounds = 0; rounds < 10_000; rounds += 1) {
      let busy = false;
      for (const machine of this.machines.values()) {
        while (machine.up && machine.node.hasReady()) {
          this.process(machine.id);
          busy = true;
        }
      }
      const batch = this.queue.splice(0);
      for (const message of batch) this.deliver(message);
      if (!busy && batch.length === 0) return;
    }
    assert.fail("the network does not come to rest");
  }

  /** Lets time pass in steps, each followed by everything that comes of it. */
  run(durationMs: number, stepMs = 50): void {
    for (const end = this.now + durationMs; this.now < end; ) {
      this.now += stepMs;
      for (const machine of this.machines.values()) if (machine.up) machine.node.tick(this.now);
      this.settle();
    }
  }

  elect(id: number): void {
    this.node(id).campaign(this.now);
    this.settle();
    assert.equal(this.status(id).role, "leader", `node ${id} should have been elected`);
  }

  leaders(): number[] {
    return [...this.machines.values()].filter((m) => m.up && m.status().role === "leader").map((m) => m.id);
  }

  propose(id: number, text: string): number {
    const result = this.node(id).propose(new TextEncoder().encode(text), this.now);
    assert.ok(result.ok, result.ok ? "" : result.message);
    return result.index;
  }

  data(id: number): string[] {
    return this.get(id).applied.flatMap((e) => (e.type === "data" ? [new TextDecoder().decode(e.data)] : []));
  }
}
