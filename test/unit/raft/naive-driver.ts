/**
 * A cluster driven by nothing but the documented surface of the core, as an independent tool would: no optional field,
 * compact(upTo) without data, configuration entries left to the core, state that is written and read back as given.
 */
import assert from "node:assert/strict";
import {
  type ConfChange,
  createRaftNode,
  emptyState,
  type Message,
  type PersistentState,
  type RaftNode,
  type Ready,
  type Snapshot,
} from "../../../src/raft/index.js";
import { seeded } from "./network.js";

interface NaiveMachine {
  disk: PersistentState;
  node: RaftNode | null;
  values: string[];
}

export class NaiveCluster {
  nowMs = 0;
  readonly #machines = new Map<number, NaiveMachine>();
  readonly #random = seeded(7);
  #wire: Message[] = [];

  constructor(voters: readonly number[]) {
    const config = { voters: [...voters], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
    for (const id of voters) this.start(id, emptyState(config));
  }

  start(id: number, disk: PersistentState = this.#machines.get(id)?.disk ?? emptyState()): void {
    const node = createRaftNode({
      id,
      electionTimeoutMs: 1000,
      heartbeatIntervalMs: 100,
      random: this.#random,
      maxBytesPerAppend: 256,
      maxInflightAppends: 4,
      maxUncommittedBytes: 1 << 20,
      initial: disk,
    });
    this.#machines.set(id, { disk, node, values: this.#machines.get(id)?.values ?? [] });
  }

  crash(id: number): void {
    this.#machine(id).node = null;
  }

  node(id: number): RaftNode {
    const { node } = this.#machine(id);
    assert.ok(node !== null, `machine ${id} is down`);
    return node;
  }

  leader(): number {
    const ids = [...this.#machines].flatMap(([id, { node }]) => (node?.status().role === "leader" ? [id] : []));
    assert.equal(ids.length, 1, `leaders: ${ids}`);
    return ids[0] as number;
  }

  values(id: number): readonly string[] {
    return this.#machine(id).values;
  }

  propose(text: string): void {
    const result = this.node(this.leader()).propose(new TextEncoder().encode(text), this.nowMs);
    assert.ok(result.ok, JSON.stringify(result));
    this.run(200);
  }

  change(change: ConfChange): void {
    const result = this.node(this.leader()).proposeConfChange(change, this.nowMs);
    assert.ok(result.ok, JSON.stringify(result));
    this.run(500);
  }

  /** Keeps what was applied; the snapshot is whatever the core makes of it. */
  compact(id: number): void {
    const machine = this.#machine(id);
    const { applied } = this.node(id).status();
    const { term } = machine.disk.entries.find((entry) => entry.index === applied) ?? assert.fail("not in the log");
    const { votersOutgoing, ...rest } = this.node(id).status().config;
    assert.deepEqual(votersOutgoing, []);
    this.node(id).compact(applied);
    const snapshot: Snapshot = {
      index: applied,
      term,
      config: { ...rest, votersOutgoing: [] },
      data: new Uint8Array(0),
    };
    machine.disk = { ...machine.disk, snapshot, entries: machine.disk.entries.filter(({ index }) => index > applied) };
  }

  run(durationMs: number): void {
    for (const endMs = this.nowMs + durationMs; this.nowMs < endMs; ) {
      this.nowMs += 20;
      for (const { node } of this.#machines.values()) node?.tick(this.nowMs);
      for (let quiet = false; !quiet; ) quiet = this.#pump();
    }
  }

  #pump(): boolean {
    let quiet = true;
    for (const machine of this.#machines.values()) {
      while (machine.node?.hasReady()) {
        this.#handle(machine, machine.node);
        quiet = false;
      }
    }
    const wire = this.#wire;
    this.#wire = [];
    for (const message of wire) this.#machines.get(message.to)?.node?.step(message, this.nowMs);
    return quiet && wire.length === 0;
  }

  #handle(machine: NaiveMachine, node: RaftNode): void {
    const ready = node.ready();
    this.#wire.push(...ready.messages);
    machine.disk = written(machine.disk, ready);
    this.#wire.push(...ready.messagesAfterPersist);
    for (const entry of ready.committedEntries) {
      if (entry.type === "data") machine.values.push(new TextDecoder().decode(entry.data));
    }
    node.advance(ready);
  }

  #machine(id: number): NaiveMachine {
    return this.#machines.get(id) ?? assert.fail(`no machine ${id}`);
  }
}

function written(disk: PersistentState, ready: Ready): PersistentState {
  const kept = ready.snapshot === undefined ? disk.entries : [];
  const from = ready.entries[0]?.index ?? Number.POSITIVE_INFINITY;
  return {
    hardState: ready.hardState ?? disk.hardState,
    snapshot: ready.snapshot ?? disk.snapshot,
    entries: [...kept.filter(({ index }) => index < from), ...ready.entries],
  };
}
