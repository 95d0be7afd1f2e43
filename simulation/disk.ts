/**
 * One node's faulty disk. While the node runs it is objects: what is synced, and the one batch that is on its way, as the
 * product writes it (docs/storage.md). At a crash it becomes bytes (disk-image.ts), and at the next start the product's
 * own recovery reads them back: it must find what was synced, or that and the batch under way, and nothing else.
 */
import type { Entry, HardState, PersistentState, Snapshot } from "../src/raft/types.js";
import type { Chain, LogBase } from "../src/storage/batch-codec.js";
import { StorageError } from "../src/storage/errors.js";
import { LogState } from "../src/storage/log-state.js";
import { type Recovered, recoverState, type StateImage } from "../src/storage/recovery.js";
import type { Batch } from "../src/storage/types.js";
import { entryDigest } from "./digest.js";
import {
  type Damage,
  damaged,
  damagedLog,
  type FirstBatch,
  type LoggedBatch,
  type LogImage,
  logImage,
  type Survival,
  snapshotImage,
} from "./disk-image.js";
import type { Scope } from "./layer.js";
import type { Marks } from "./marks.js";
import type { Random } from "./random.js";
import { Violation } from "./violation.js";

/** Called for every entry that becomes durable; lets the checker see the log without reading it again. */
export interface DiskWatcher {
  entriesDurable(node: number, disk: Disk, first: number): void;
  snapshotDurable(node: number, snapshot: Snapshot): void;
}

/** Of the log, or a bit flip in the snapshot file. */
export type DiskDamage = Damage | "snapshot";

export type DiskWrite = Batch & { readonly compaction?: boolean };

/** Snapshot file and log file, as they were at one moment. */
interface Image {
  readonly snapshot: Snapshot;
  readonly log: LogImage;
}

const paths = { log: "raft-log", snapshot: "snapshot" };

export class Disk {
  readonly #node: number;
  readonly #watcher: DiskWatcher;
  readonly #marks: Marks;
  /** The log file: its first batch, and what was appended and synced since. */
  #first: FirstBatch;
  #appended: LoggedBatch[] = [];
  /** The one batch on its way; `written` when all of it is in the page cache. */
  #underWay: { readonly write: DiskWrite; written: boolean } | null = null;
  /** A commit index that the product keeps for its next batch. */
  #unwritten: HardState | null = null;
  #image: Image | null = null;
  #older: PersistentState | null = null;
  /** What recovery may find. */
  #possible: PersistentState[] = [];

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
    this.#first = this.#newFile({ sequence: 0, crc: 0 });
  }

  get lastIndex(): number {
    return this.snapshot.index + this.entries.length;
  }

  /** Term of a durable entry; the snapshot's for its index; 0 where nothing is known or all is compacted. */
  termAt(index: number): number {
    if (index === this.snapshot.index) return this.snapshot.term;
    return this.entries[index - this.snapshot.index - 1]?.term ?? 0;
  }

  // ---- while the node runs

  /** The system call begins. Without mustSync there is none: the product keeps a commit index for its next batch. */
  begin(write: DiskWrite): void {
    if (write.mustSync) this.#underWay = { write, written: false };
    else if (write.hardState !== undefined) this.#unwritten = write.hardState;
  }

  /** All of it is in the page cache. */
  written(): void {
    if (this.#underWay !== null) this.#underWay.written = true;
  }

  /** A sync that reported an error, and a process that goes on as if it had not: the page cache was dropped. */
  dropUnsynced(): void {
    this.#underWay = null;
  }

  sync(): void {
    if (this.#underWay !== null) this.#apply(this.#underWay.write);
    this.#underWay = null;
  }

  /** Whether recovery may find a configuration behind `index`: after a crash it may find more than was synced. */
  mayHoldConfigurationAfter(index: number): boolean {
    const holds = (state: PersistentState): boolean =>
      state.entries.some((entry) => entry.type === "config" && entry.index > index);
    return this.#possible.some(holds) || holds(this.read());
  }

  /** Remembers what is durable now, for a later `rollBack`. */
  keepImage(): void {
    this.#older = this.read();
  }

  /** The older image, if it has forgotten a term or entries. */
  get older(): PersistentState | null {
    const older = this.#older;
    if (older === null) return null;
    const last = older.snapshot.index + older.entries.length;
    return older.hardState.term < this.hardState.term || last < this.lastIndex ? older : null;
  }

  rollBack(older: PersistentState): void {
    this.hardState = older.hardState;
    this.snapshot = older.snapshot;
    this.entries = [...older.entries];
    this.chain = [];
    if (this.entries.length > 0) this.#watcher.entriesDurable(this.#node, this, this.snapshot.index + 1);
    this.#first = this.#newFile({ sequence: this.#first.chain.sequence, crc: 0 });
    this.#image = null;
    this.#older = null;
  }

  /** The medium was exchanged for an empty one. */
  wipe(): void {
    const config = { voters: [], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
    this.hardState = { term: 0, vote: 0, commit: 0 };
    this.snapshot = { index: 0, term: 0, config, data: new Uint8Array(0) };
    this.entries = [];
    this.chain = [];
    this.#first = this.#newFile({ sequence: 0, crc: 0 });
    this.#image = null;
  }

  read(): PersistentState {
    return { hardState: this.hardState, snapshot: this.snapshot, entries: this.entries.slice() };
  }

  // ---- crash and recovery

  /** @param scope an agent that ends leaves the page cache as it is; a machine takes it along. */
  crash(random: Random, scope: Scope): void {
    const flight = this.#underWay;
    this.#possible = [this.read()];
    this.#image = flight === null ? this.#imageAtRest(random) : this.#imageTorn(flight, random, scope);
    this.#underWay = null;
    this.#unwritten = null;
  }

  #imageAtRest(random: Random): Image {
    return { snapshot: this.snapshot, log: logImage(this.#first, this.#appended, null, random.chance(0.5), random) };
  }

  #imageTorn({ write, written }: { write: DiskWrite; written: boolean }, random: Random, scope: Scope): Image {
    const survival: Survival =
      scope === "agent" ? (written ? "all" : "prefix") : random.pick<Survival>(["all", "prefix", "sectors", "none"]);
    if (write.snapshot !== undefined) return this.#imageOfInstall(write, write.snapshot, survival, random);
    const batch = this.#batchOf(write);
    this.#possible.push(replayed(this.read(), batch));
    const log = logImage(this.#first, this.#appended, { batch, survival }, random.chance(0.5), random);
    return { snapshot: this.snapshot, log };
  }

  /** The product's steps: term and vote into the log, the snapshot file by rename, the log file by rename. */
  #imageOfInstall(write: DiskWrite, snapshot: Snapshot, survival: Survival, random: Random): Image {
    const before = this.read();
    const { hardState } = write;
    const early: LoggedBatch | null =
      hardState === undefined || write.compaction === true
        ? null
        : { hardState: { ...hardState, commit: this.hardState.commit }, entries: [] };
    const known = early === null ? before : replayed(before, early);
    const between = startedAt(known, snapshot);
    const after = write.compaction === true ? between : installed(known, write, snapshot);
    this.#possible.push(known, between, after);
    const stage = random.integer(0, survival === "all" ? 3 : 2);
    this.#marks.crashInSnapshot++;
    const seal = random.chance(0.5);
    if (stage === 0) {
      const unsynced = early === null ? null : { batch: early, survival };
      return { snapshot: this.snapshot, log: logImage(this.#first, this.#appended, unsynced, seal, random) };
    }
    const appended = early === null ? this.#appended : [...this.#appended, early];
    const old = logImage(this.#first, appended, null, seal, random);
    if (stage === 1) return { snapshot: this.snapshot, log: old };
    if (stage === 2) return { snapshot, log: old };
    const base: LogBase = { index: snapshot.index, term: snapshot.term };
    const first = { base, hardState: after.hardState, entries: after.entries, chain: old.chain };
    return { snapshot, log: logImage(first, [], null, false, random) };
  }

  /**
   * Starts from the bytes that the last crash left.
   *
   * @returns false when the product refuses them: the node must not start.
   */
  recover(damage: DiskDamage | null, random: Random): boolean {
    const image = this.#image;
    if (image === null) return true;
    const bytes = readBack(image, damage, random);
    let recovered: Recovered;
    try {
      recovered = recoverState(paths, bytes);
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      if (damage !== null) return false;
      throw new Violation("disk-refused", `node ${this.#node}: no damage, but its recovery says: ${error.message}`);
    }
    if (!this.#possible.some((state) => same(state, recovered.initial))) {
      const what = damage === null ? "after a crash" : `after damage (${damage})`;
      throw new Violation(
        "disk-recovery",
        `node ${this.#node} ${what} recovers ${outline(recovered.initial)}; possible: ${this.#possible.map(outline).join(" or ")}`,
      );
    }
    this.#count(recovered);
    this.#adopt(recovered);
    return true;
  }

  #count(recovered: Recovered): void {
    if (recovered.tornBytes > 0) this.#marks.tornTail++;
    if (this.#possible.length === 1) return;
    if (same(this.#possible[0] as PersistentState, recovered.initial)) this.#marks.unsyncedLost++;
    else this.#marks.unsyncedSurvived++;
  }

  /** What was read is now synced, in a new file. */
  #adopt({ initial, chain }: Recovered): void {
    const newSnapshot = initial.snapshot.index !== this.snapshot.index;
    this.hardState = initial.hardState;
    this.snapshot = initial.snapshot;
    this.entries = [...initial.entries];
    this.chain = [];
    if (newSnapshot) this.#watcher.snapshotDurable(this.#node, initial.snapshot);
    if (this.entries.length > 0) this.#watcher.entriesDurable(this.#node, this, this.snapshot.index + 1);
    this.#first = this.#newFile(chain);
    this.#image = null;
    this.#possible = [];
  }

  #newFile(chain: Chain): FirstBatch {
    this.#appended = [];
    const { index, term } = this.snapshot;
    return { base: { index, term }, hardState: this.hardState, entries: this.entries.slice(), chain };
  }

  #batchOf({ hardState, entries }: DiskWrite): LoggedBatch {
    return { hardState: hardState ?? this.#unwritten ?? this.hardState, entries };
  }

  // ---- what is synced

  #apply(write: DiskWrite): void {
    const { snapshot, entries } = write;
    const batch = this.#batchOf(write);
    this.hardState = batch.hardState;
    this.#unwritten = null;
    if (snapshot === undefined) {
      this.#appended.push(batch);
    } else {
      if (write.compaction === true) this.#compact(snapshot);
      else this.#install(snapshot);
      this.#watcher.snapshotDurable(this.#node, snapshot);
    }
    if (entries.length > 0) this.#append(entries);
    if (snapshot !== undefined) this.#first = this.#newFile({ sequence: this.#first.chain.sequence + 1, crc: 0 });
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

function readBack({ snapshot, log }: Image, damage: DiskDamage | null, random: Random): StateImage {
  const snapshotBytes = snapshotImage(snapshot);
  const intact = { log: log.bytes, snapshot: snapshotBytes, formatted: true };
  if (damage === null) return intact;
  if (damage === "snapshot") {
    return snapshotBytes === null
      ? intact
      : { ...intact, snapshot: damaged(snapshotBytes, snapshotBytes.length, "bit flip", random) };
  }
  return { ...intact, log: damagedLog(log, damage, random) ?? log.bytes };
}

function replayed(state: PersistentState, batch: LoggedBatch): PersistentState {
  const log = logStateOf(state);
  log.apply(batch);
  return { hardState: log.hardState, snapshot: state.snapshot, entries: [...log.entries] };
}

/** A new snapshot file beside an old log: where they agree, the log goes on behind it. */
function startedAt(state: PersistentState, snapshot: Snapshot): PersistentState {
  const log = logStateOf(state);
  log.startAt(snapshot);
  return { hardState: log.hardState, snapshot, entries: [...log.entries] };
}

function installed(state: PersistentState, write: DiskWrite, snapshot: Snapshot): PersistentState {
  return { hardState: write.hardState ?? state.hardState, snapshot, entries: write.entries };
}

function logStateOf({ hardState, snapshot, entries }: PersistentState): LogState {
  const log = new LogState("possible");
  log.base = { index: snapshot.index, term: snapshot.term };
  log.apply({ hardState, entries });
  return log;
}

/** The commit index aside, which may be any that was ever written: a leader tells it again. */
function same(expected: PersistentState, found: PersistentState): boolean {
  const { hardState, snapshot, entries } = expected;
  return (
    hardState.term === found.hardState.term &&
    hardState.vote === found.hardState.vote &&
    snapshot.index === found.snapshot.index &&
    snapshot.term === found.snapshot.term &&
    entries.length === found.entries.length &&
    entries.every((entry, at) => sameEntry(entry, found.entries[at] as Entry))
  );
}

function sameEntry(a: Entry, b: Entry): boolean {
  return a.index === b.index && a.term === b.term && entryDigest(a) === entryDigest(b);
}

function outline({ hardState, snapshot, entries }: PersistentState): string {
  const { term, vote, commit } = hardState;
  return `(term ${term} vote ${vote} commit ${commit}, snapshot ${snapshot.index}, ${entries.length} entries)`;
}
