/**
 * Durable Raft state in the files `raft-log` and `snapshot`.
 *
 * Each open reads the log, then writes it again as a new file (temporary file, sync, rename): what the page cache of a
 * killed process or a failed sync left behind is on the medium before anything trusts it (rule 46), a torn tail is
 * gone, and all that was read can from then on only be damaged, never torn.
 */
import type { FileHandle } from "node:fs/promises";
import { access, chmod, mkdir, open, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import type { PersistentState, Snapshot } from "../raft/types.js";
import type { BatchBody } from "./batch-codec.js";
import { baseFlag, encodeBatch } from "./batch-codec.js";
import type { Disk } from "./disk.js";
import { realDisk, temporaryPath, writeFileAtomically } from "./disk.js";
import { corrupt, errorCode, ioError, misuse, rejoinHint, StorageError } from "./errors.js";
import { scanLog } from "./log-scan.js";
import { LogState, onlyCommitChanged } from "./log-state.js";
import { decodeSnapshot, encodeSnapshot, noSnapshot } from "./snapshot-file.js";
import type { Batch, RaftStorage } from "./types.js";

/** A file is rewritten when dead bytes (overwritten entries, old hard states) outweigh the live ones by this much. */
const rewriteFloorBytes = 1024 * 1024;
const rewriteFactor = 4;

/** Position in the chain of batches. */
interface Chain {
  readonly sequence: number;
  readonly crc: number;
}

/**
 * Opens (or makes) the durable log in `dir`.
 *
 * @throws StorageError STORAGE_CORRUPT when acknowledged data is damaged, STORAGE_MISSING when a formatted directory
 *   lost its log, STORAGE_FORMAT, STORAGE_IO.
 */
export async function openRaftStorage(dir: string, disk: Disk = realDisk): Promise<RaftStorage> {
  const logPath = join(dir, "raft-log");
  const snapshotPath = join(dir, "snapshot");
  await prepareDirectory(dir, [logPath, snapshotPath]);
  const snapshotBytes = await readIfThere(snapshotPath);
  const snapshot = snapshotBytes === null ? noSnapshot : decodeSnapshot(snapshotPath, snapshotBytes);
  const logBytes = await readIfThere(logPath);
  if (logBytes === null) await refuseLostLog(dir, logPath, snapshotBytes !== null);
  const { state, chain } = loadLog(logPath, logBytes, snapshot);
  const initial: PersistentState = { hardState: state.hardState, snapshot, entries: [...state.entries] };
  const storage = new FileRaftStorage(dir, disk, initial, state, chain);
  await storage.rewrite();
  return storage;
}

/** Makes the directory (0700) and drops left-overs of a crash. */
export async function prepareDirectory(dir: string, files: readonly string[]): Promise<void> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    await chmod(dir, 0o700);
    for (const file of files) await rm(temporaryPath(file), { force: true });
  } catch (error) {
    throw ioError(dir, "preparing the state directory", error);
  }
}

async function readIfThere(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw ioError(path, "reading", error);
  }
}

/** Rule 51: a node that lost its log must not vote under its old id. Formatting makes the log before `meta`. */
async function refuseLostLog(dir: string, logPath: string, haveSnapshot: boolean): Promise<void> {
  const meta = join(dir, "meta");
  const haveMeta = await access(meta).then(
    () => true,
    (error: unknown) => {
      if (errorCode(error) === "ENOENT") return false;
      throw ioError(meta, "reading", error);
    },
  );
  if (!haveMeta && !haveSnapshot) return;
  throw new StorageError(
    "STORAGE_MISSING",
    logPath,
    `the Raft log is missing although ${haveMeta ? "meta" : "a snapshot"} is there: this node may have voted and acknowledged entries that it no longer knows`,
    rejoinHint,
  );
}

function loadLog(path: string, bytes: Buffer | null, snapshot: Snapshot): { state: LogState; chain: Chain } {
  const state = new LogState(path);
  if (bytes === null) return { state, chain: { sequence: 0, crc: 0 } };
  const { batches } = scanLog(path, bytes);
  for (const batch of batches) {
    if (batch.body.base !== undefined) state.base = batch.body.base;
    replay(path, state, batch.body);
  }
  if (state.base.index > snapshot.index) {
    throw corrupt(
      path,
      `the log starts behind index ${state.base.index}, but the snapshot reaches only ${snapshot.index}: entries are missing`,
    );
  }
  if (snapshot.index > 0) state.startAt(snapshot);
  // A commit index may have been written ahead of the snapshot that reaches it; the leader tells it again.
  const commit = Math.min(state.hardState.commit, state.lastIndex);
  state.hardState = { ...state.hardState, commit };
  const last = batches.at(-1)!;
  return { state, chain: { sequence: last.sequence, crc: last.crc } };
}

function replay(path: string, state: LogState, body: BatchBody): void {
  try {
    state.check(body);
  } catch (error) {
    throw corrupt(path, `an intact batch contradicts the log before it (${String(error)})`);
  }
  state.apply(body);
}

class FileRaftStorage implements RaftStorage {
  readonly initial: PersistentState;
  readonly #dir: string;
  readonly #logPath: string;
  readonly #disk: Disk;
  readonly #state: LogState;
  #chain: Chain;
  #handle: FileHandle | null = null;
  #fileBytes = 0;
  #unwrittenCommit = false;
  #failure: StorageError | null = null;
  #queue: Promise<void> = Promise.resolve();

  constructor(dir: string, disk: Disk, initial: PersistentState, state: LogState, chain: Chain) {
    this.#dir = dir;
    this.#logPath = join(dir, "raft-log");
    this.#disk = disk;
    this.initial = initial;
    this.#state = state;
    this.#chain = chain;
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
      if (this.#fileBytes > rewriteFloorBytes + rewriteFactor * this.#state.entryBytes) await this.rewrite();
    });
  }

  compact(snapshot: Snapshot): Promise<void> {
    return this.#inOrder(async () => {
      if (snapshot.index <= this.#state.base.index) return;
      if (this.#state.termAt(snapshot.index) !== snapshot.term) {
        throw misuse(this.#logPath, `the log has no entry (${snapshot.index}, term ${snapshot.term}) to compact up to`);
      }
      await this.#moveStart(snapshot);
    });
  }

  close(): Promise<void> {
    const closed = new StorageError("STORAGE_CLOSED", this.#logPath, "the log is closed", "Open it again.");
    if (this.#failure?.code === "STORAGE_CLOSED") return this.#queue;
    const done = this.#queue.then(async () => {
      try {
        if (this.#failure === null && this.#unwrittenCommit) await this.#append({ entries: [], mustSync: true });
      } finally {
        this.#failure ??= closed;
        await this.#handle?.close();
        this.#handle = null;
      }
    });
    this.#queue = done.catch(() => undefined);
    return done;
  }

  /** One at a time, in the order of the calls; the first I/O failure is the last thing that this storage does. */
  #inOrder(work: () => Promise<void>): Promise<void> {
    const done = this.#queue.then(async () => {
      if (this.#failure !== null) throw this.#failure;
      try {
        await work();
      } catch (error) {
        const failure = ioError(this.#logPath, "writing", error);
        if (failure.code !== "STORAGE_MISUSE") this.#failure = failure;
        throw failure;
      }
    });
    // The caller of each step sees its error; the queue itself only keeps the order.
    this.#queue = done.catch(() => undefined);
    return done;
  }

  async #append(batch: Batch): Promise<void> {
    const handle = this.#handle;
    if (handle === null) throw misuse(this.#logPath, "the log is not open");
    const sequence = this.#chain.sequence + 1;
    const { bytes, crc } = encodeBatch(
      { sequence, previousCrc: this.#chain.crc, knownSynced: this.#chain.sequence, flags: 0 },
      { hardState: batch.hardState ?? this.#state.hardState, entries: batch.entries },
    );
    await this.#disk.write(handle, bytes, this.#fileBytes);
    await this.#disk.sync(handle);
    this.#chain = { sequence, crc };
    this.#fileBytes += bytes.length;
    this.#unwrittenCommit = false;
  }

  /**
   * A snapshot from the leader. The new term and vote go into the log first, so that no crash leaves a snapshot of a
   * term that this node does not know; then the snapshot, then the log that starts behind it. A crash between the last
   * two is settled at open, where the snapshot decides where the log starts.
   */
  async #install(batch: Batch, snapshot: Snapshot): Promise<void> {
    if (snapshot.index <= this.#state.base.index) {
      throw misuse(
        this.#logPath,
        `snapshot ${snapshot.index} is not ahead of the log's start ${this.#state.base.index}`,
      );
    }
    const { hardState } = batch;
    this.#state.check({ entries: [], ...(hardState === undefined ? {} : { hardState }) });
    // Entries of the batch follow the snapshot; checked against the log as it will be.
    const next = new LogState(this.#logPath);
    next.base = { index: snapshot.index, term: snapshot.term };
    next.check(batch);
    if (hardState !== undefined) {
      const early = { ...hardState, commit: this.#state.hardState.commit };
      await this.#append({ hardState: early, entries: [], mustSync: true });
      this.#state.apply({ hardState: early, entries: [] });
    }
    await this.#writeSnapshot(snapshot);
    this.#state.replaceBy(next.base);
    this.#state.apply(batch);
    await this.rewrite();
  }

  async #moveStart(snapshot: Snapshot): Promise<void> {
    await this.#writeSnapshot(snapshot);
    this.#state.startAt(snapshot);
    await this.rewrite();
  }

  async #writeSnapshot(snapshot: Snapshot): Promise<void> {
    await writeFileAtomically(join(this.#dir, "snapshot"), encodeSnapshot(snapshot), 0o600, this.#disk);
  }

  /** Replaces the file by one batch that holds everything live. */
  async rewrite(): Promise<void> {
    const sequence = this.#chain.sequence + 1;
    const { base, hardState, entries } = this.#state;
    const { bytes, crc } = encodeBatch(
      { sequence, previousCrc: this.#chain.crc, knownSynced: sequence, flags: baseFlag },
      { base, hardState, entries },
    );
    await this.#handle?.close();
    this.#handle = null;
    await writeFileAtomically(this.#logPath, bytes, 0o600, this.#disk);
    try {
      this.#handle = await open(this.#logPath, "r+");
    } catch (error) {
      throw ioError(this.#logPath, "opening", error);
    }
    this.#chain = { sequence, crc };
    this.#fileBytes = bytes.length;
    this.#unwrittenCommit = false;
  }
}
