/**
 * Durable Raft state in the files `raft-log` and `snapshot` (docs/storage.md).
 *
 * Each open reads the log, then writes it again as a new file (temporary file, sync, rename): what the page cache of a
 * killed process or a failed sync left behind is on the medium before anything trusts it (rule 46), a torn tail is
 * gone, and all that was read can from then on only be damaged, never torn. The file is allocated ahead in steps filled
 * with zeros, so that a batch is written into blocks that are there: the disk cannot be full in the middle of it, and a
 * file that is shorter than it was is seen to be cut.
 */
import { join } from "node:path";
import type { PersistentState, Snapshot } from "../raft/types.js";
import { batchHeaderBytes, type Chain, encodeBatch, encodeSeal } from "./batch-codec.js";
import { type Disk, type DiskFile, realDisk, replaceFile, temporaryPath } from "./disk.js";
import { ioError, misuse, StorageError } from "./errors.js";
import { LogState, onlyCommitChanged } from "./log-state.js";
import { encodeFirstBatch, type Recovered, recoverState, type StatePaths } from "./recovery.js";
import { encodeSnapshot } from "./snapshot-file.js";
import type { Batch, RaftStorage } from "./types.js";

/** Limits that are no settings of an operator; tests tighten them. */
export interface StorageTuning {
  /** The log file grows by a multiple of this. */
  readonly growthBytes: number;
  /** A file is rewritten when dead bytes (overwritten entries, old hard states) outweigh the live ones by this much. */
  readonly rewriteFloorBytes: number;
  /** A log that has not been written to for about this long is sealed; 0: at once. */
  readonly sealAfterMs: number;
}

const defaultTuning: StorageTuning = {
  growthBytes: 256 * 1024,
  rewriteFloorBytes: 1024 * 1024,
  sealAfterMs: 200,
};
const rewriteFactor = 4;

/**
 * Opens (or makes) the durable log in `dir`.
 *
 * @throws StorageError STORAGE_CORRUPT when acknowledged data is damaged, STORAGE_MISSING when a formatted directory
 *   lost its log, STORAGE_FORMAT, STORAGE_IO.
 */
export async function openRaftStorage(
  dir: string,
  disk: Disk = realDisk,
  tuning: Partial<StorageTuning> = {},
): Promise<RaftStorage> {
  const paths = { log: join(dir, "raft-log"), snapshot: join(dir, "snapshot") };
  await prepareDirectory(dir, [paths.log, paths.snapshot], disk);
  const recovered = recoverState(paths, {
    snapshot: await read(disk, paths.snapshot),
    log: await read(disk, paths.log),
    formatted: await exists(disk, join(dir, "meta")),
  });
  const storage = new FileRaftStorage(paths, disk, { ...defaultTuning, ...tuning }, recovered);
  await storage.start();
  return storage;
}

/** Makes the directory (0700) and drops left-overs of a crash. */
export async function prepareDirectory(dir: string, files: readonly string[], disk: Disk = realDisk): Promise<void> {
  try {
    await disk.makeDirectory(dir);
    for (const file of files) await disk.remove(temporaryPath(file));
  } catch (error) {
    throw ioError(dir, "preparing the state directory", error);
  }
}

async function read(disk: Disk, path: string): Promise<Buffer | null> {
  try {
    return await disk.read(path);
  } catch (error) {
    throw ioError(path, "reading", error);
  }
}

async function exists(disk: Disk, path: string): Promise<boolean> {
  try {
    return await disk.exists(path);
  } catch (error) {
    throw ioError(path, "reading", error);
  }
}

class FileRaftStorage implements RaftStorage {
  readonly initial: PersistentState;
  readonly #paths: StatePaths;
  readonly #disk: Disk;
  readonly #tuning: StorageTuning;
  readonly #state: LogState;
  #chain: Chain;
  #file: DiskFile | null = null;
  /** Up to here there are batches. */
  #writtenBytes = 0;
  /** Up to here there are blocks, synced. */
  #allocatedBytes = 0;
  /** What is known of the sync of the newest batch beside the batch: see {@link encodeSeal}. */
  #seal: "unneeded" | "wanted" | "written" = "unneeded";
  #sealTimer: NodeJS.Timeout | null = null;
  #unwrittenCommit = false;
  #failure: StorageError | null = null;
  #queue: Promise<void> = Promise.resolve();
  #waiting = 0;

  constructor(paths: StatePaths, disk: Disk, tuning: StorageTuning, recovered: Recovered) {
    this.#paths = paths;
    this.#disk = disk;
    this.#tuning = tuning;
    this.initial = recovered.initial;
    this.#state = recovered.state;
    this.#chain = recovered.chain;
  }

  get failure(): StorageError | null {
    return this.#failure;
  }

  async start(): Promise<void> {
    try {
      await this.#rewrite();
    } catch (error) {
      throw ioError(this.#paths.log, "writing", error);
    }
  }

  persist(batch: Batch): Promise<void> {
    return this.#inOrder(async () => {
      if (batch.snapshot !== undefined) return this.#install(batch, batch.snapshot);
      this.#state.check(batch);
      if (onlyCommitChanged(this.#state.hardState, batch) && !batch.mustSync) {
        // Not written at all: an unsynced batch followed by another would make two batches that can be torn at once.
        this.#state.apply(batch);
        this.#unwrittenCommit ||= batch.hardState !== undefined;
        return;
      }
      await this.#append(batch);
      this.#state.apply(batch);
      const worthwhile = this.#tuning.rewriteFloorBytes + rewriteFactor * this.#state.entryBytes;
      if (this.#writtenBytes > worthwhile) await this.#rewrite();
    });
  }

  compact(snapshot: Snapshot): Promise<void> {
    return this.#inOrder(async () => {
      if (snapshot.index <= this.#state.base.index) return;
      if (this.#state.termAt(snapshot.index) !== snapshot.term) {
        throw misuse(
          this.#paths.log,
          `the log has no entry (${snapshot.index}, term ${snapshot.term}) to compact up to`,
        );
      }
      await this.#writeSnapshot(snapshot);
      this.#state.startAt(snapshot);
      await this.#rewrite();
    });
  }

  close(): Promise<void> {
    if (this.#failure?.code === "STORAGE_CLOSED") return this.#queue;
    const done = this.#queue.then(() => this.#finalOnError(() => this.#finish()));
    const closed = new StorageError("STORAGE_CLOSED", this.#paths.log, "the log is closed", "Open it again.");
    this.#queue = done.then(
      () => {
        this.#failure ??= closed;
      },
      () => undefined,
    );
    return done;
  }

  async #finish(): Promise<void> {
    const file = this.#file;
    if (this.#sealTimer !== null) clearTimeout(this.#sealTimer);
    try {
      if (this.#failure === null && this.#unwrittenCommit) await this.#append({ entries: [], mustSync: true });
      if (this.#failure === null && this.#seal !== "unneeded") {
        await this.#writeSeal();
        await file?.sync();
      }
    } finally {
      this.#file = null;
      await file?.close();
    }
  }

  /** One at a time, in the order of the calls; the first I/O failure is the last thing that this storage does. */
  #inOrder(work: () => Promise<void>): Promise<void> {
    this.#waiting += 1;
    const done = this.#queue.then(async () => {
      this.#waiting -= 1;
      if (this.#failure !== null) throw this.#failure;
      await this.#finalOnError(work);
    });
    // The caller of each step sees its error; the queue itself only keeps the order.
    this.#queue = done.then(() => this.#sealWhenIdle()).catch(() => undefined);
    return done;
  }

  /** Not between two batches that follow each other closely: the second one says the same, in its header. */
  async #sealWhenIdle(): Promise<void> {
    if (this.#seal !== "wanted" || this.#waiting > 0) return;
    if (this.#tuning.sealAfterMs === 0) return this.#finalOnError(() => this.#writeSeal());
    this.#sealTimer ??= setTimeout(() => {
      this.#sealTimer = null;
      this.#queue = this.#queue
        .then(async () => {
          if (this.#seal === "wanted" && this.#failure === null) await this.#finalOnError(() => this.#writeSeal());
        })
        .catch(() => undefined);
    }, this.#tuning.sealAfterMs).unref();
  }

  async #finalOnError(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      const failure = ioError(this.#paths.log, "writing", error);
      if (failure.code !== "STORAGE_MISUSE") this.#failure = failure;
      throw failure;
    }
  }

  async #writeSeal(): Promise<void> {
    await this.#openFile().write(encodeSeal(this.#chain, this.#allocatedBytes), this.#writtenBytes);
    this.#seal = "written";
  }

  #openFile(): DiskFile {
    if (this.#file === null) throw misuse(this.#paths.log, "the log is not open");
    return this.#file;
  }

  async #append(batch: Batch): Promise<void> {
    const file = this.#openFile();
    const sequence = this.#chain.sequence + 1;
    const encode = (): { bytes: Buffer; crc: number } =>
      encodeBatch(
        {
          sequence,
          previousCrc: this.#chain.crc,
          knownSynced: this.#chain.sequence,
          flags: 0,
          allocatedBytes: this.#allocatedBytes,
        },
        { hardState: batch.hardState ?? this.#state.hardState, entries: batch.entries },
      );
    let encoded = encode();
    if (await this.#grow(encoded.bytes.length)) encoded = encode();
    await file.write(encoded.bytes, this.#writtenBytes);
    await file.sync();
    this.#chain = { sequence, crc: encoded.crc };
    this.#writtenBytes += encoded.bytes.length;
    this.#unwrittenCommit = false;
    this.#seal = "wanted";
  }

  /** Makes room for a batch and its seal. Durable before anything is written into it. */
  async #grow(bytes: number): Promise<boolean> {
    const allocatedBytes = this.#roundUp(this.#writtenBytes + bytes);
    if (allocatedBytes <= this.#allocatedBytes) return false;
    const file = this.#openFile();
    await file.write(Buffer.alloc(allocatedBytes - this.#allocatedBytes), this.#allocatedBytes);
    await file.sync();
    this.#allocatedBytes = allocatedBytes;
    return true;
  }

  #roundUp(bytes: number): number {
    const { growthBytes } = this.#tuning;
    return Math.ceil((bytes + batchHeaderBytes) / growthBytes) * growthBytes;
  }

  /**
   * A snapshot from the leader. The new term and vote go into the log first, so that no crash leaves a snapshot of a
   * term that this node does not know; then the snapshot, then the log that starts behind it. A crash between the last
   * two is settled at open, where the snapshot decides where the log starts.
   */
  async #install(batch: Batch, snapshot: Snapshot): Promise<void> {
    if (snapshot.index <= this.#state.base.index) {
      throw misuse(
        this.#paths.log,
        `snapshot ${snapshot.index} is not ahead of the log's start ${this.#state.base.index}`,
      );
    }
    // Checked against the log as it will be.
    const next = new LogState(this.#paths.log);
    next.base = { index: snapshot.index, term: snapshot.term };
    next.hardState = this.#state.hardState;
    next.check(batch);
    const { hardState } = batch;
    if (hardState !== undefined) {
      const early = { ...hardState, commit: this.#state.hardState.commit };
      await this.#append({ hardState: early, entries: [], mustSync: true });
      this.#state.apply({ hardState: early, entries: [] });
    }
    await this.#writeSnapshot(snapshot);
    this.#state.replaceBy(next.base);
    this.#state.apply(batch);
    await this.#rewrite();
  }

  async #writeSnapshot(snapshot: Snapshot): Promise<void> {
    try {
      const file = await replaceFile(this.#disk, this.#paths.snapshot, [encodeSnapshot(snapshot)], 0o600);
      await file.close();
    } catch (error) {
      throw ioError(this.#paths.snapshot, "writing", error);
    }
  }

  /** Replaces the file by one whose first batch holds everything live. */
  async #rewrite(): Promise<void> {
    const { bytes: draft } = encodeFirstBatch(this.#state, this.#chain);
    const allocatedBytes = this.#roundUp(draft.length);
    const { bytes, chain } = encodeFirstBatch(this.#state, this.#chain, allocatedBytes);
    const old = this.#file;
    this.#file = null;
    await old?.close();
    const zeros = Buffer.alloc(allocatedBytes - bytes.length);
    this.#file = await replaceFile(this.#disk, this.#paths.log, [bytes, zeros], 0o600);
    this.#chain = chain;
    this.#writtenBytes = bytes.length;
    this.#allocatedBytes = allocatedBytes;
    this.#unwrittenCommit = false;
    this.#seal = "unneeded";
  }
}
