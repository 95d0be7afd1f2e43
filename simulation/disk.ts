/**
 * One node's faulty disk. A batch is first written (page cache) and then, when it must be, synced (durable). A crash
 * keeps what is durable and an arbitrary prefix of what was only written: batches are chained, so a later one cannot
 * survive without its predecessors.
 */
import type { Entry, HardState, PersistentState, Snapshot } from "../src/raft/types.js";
import type { Batch } from "../src/storage/types.js";
import type { Marks } from "./marks.js";
import type { Random } from "./random.js";

/** Called for every entry that becomes durable; lets the checker see the log without reading it again. */
export interface DiskWatcher {
  entriesDurable(node: number, disk: Disk, first: number): void;
  snapshotDurable(node: number, snapshot: Snapshot): void;
}

export type DiskWrite = Batch & { readonly compaction?: boolean };

export class Disk {
  readonly #node: number;
  readonly #watcher: DiskWatcher;
  readonly #marks: Marks;
  #unsynced: DiskWrite[] = [];

  hardState: HardState;
  snapshot: Snapshot;
  /** Durable entries behind the snapshot; entries[0].index is snapshot.index + 1. */
  entries: Entry[] = [];
  /** For each of `entries`, the digest of the whole log up to and including it. */
  chain: number[] = [];

  constructor(node: number, initial: PersistentState, watcher: DiskWatcher, marks: Marks) {
    this.#node = node;
    this.hardState = initial.hardState;
    this.snapshot = initial.snapshot;
    this.#watcher = watcher;
    this.#marks = marks;
  }

  get lastIndex(): number {
    return this.snapshot.index + this.entries.length;
  }

  /** Term of a durable entry; the snapshot's for its index; 0 where nothing is known or all is compacted. */
  termAt(index: number): number {
    if (index === this.snapshot.index) return this.snapshot.term;
    return this.entries[index - this.snapshot.index - 1]?.term ?? 0;
  }

  write(batch: DiskWrite): void {
    this.#unsynced.push(batch);
  }

  sync(): void {
    for (const batch of this.#unsynced) this.#apply(batch);
    this.#unsynced.length = 0;
  }

  crash(random: Random): void {
    const survivors = this.#unsynced.length === 0 ? 0 : random.integer(0, this.#unsynced.length);
    if (survivors < this.#unsynced.length) this.#marks.unsyncedLost++;
    for (let i = 0; i < survivors; i++) this.#apply(this.#unsynced[i] as DiskWrite);
    this.#unsynced = [];
  }

  read(): PersistentState {
    return { hardState: this.hardState, snapshot: this.snapshot, entries: this.entries.slice() };
  }

  #apply(batch: DiskWrite): void {
    const { hardState, snapshot, entries } = batch;
    if (snapshot !== undefined) {
      if (batch.compaction === true) this.#compact(snapshot);
      else this.#install(snapshot);
      this.#watcher.snapshotDurable(this.#node, snapshot);
    }
    if (entries.length > 0) this.#append(entries);
    if (hardState !== undefined) this.hardState = hardState;
  }

  #append(entries: readonly Entry[]): void {
    const first = (entries[0] as Entry).index;
    const keep = first - this.snapshot.index - 1;
    if (keep < 0 || keep > this.entries.length) {
      throw new Error(
        `node ${this.#node} writes entries from ${first}, its durable log holds ${this.snapshot.index + 1}..${this.lastIndex}`,
      );
    }
    if (keep < this.entries.length) {
      this.#marks.logTruncated++;
      this.entries.length = keep;
      this.chain.length = keep;
    }
    for (const entry of entries) this.entries.push(entry);
    this.#watcher.entriesDurable(this.#node, this, first);
  }

  #install(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    this.entries = [];
    this.chain = [];
  }

  #compact(snapshot: Snapshot): void {
    const drop = snapshot.index - this.snapshot.index;
    if (drop <= 0) return;
    this.snapshot = snapshot;
    this.entries = this.entries.slice(drop);
    this.chain = this.chain.slice(drop);
  }
}
