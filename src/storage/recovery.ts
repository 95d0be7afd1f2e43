/**
 * From the bytes of a state directory to the state that a node starts with. Pure, so that tests and the simulator can
 * ask it about any bytes; `file-storage.ts` only reads and writes them.
 */
import type { HardState, PersistentState, Snapshot } from "../raft/types.js";
import type { BatchBody, Chain } from "./batch-codec.js";
import { baseFlag, encodeBatch } from "./batch-codec.js";
import { corrupt, rejoinHint, StorageError } from "./errors.js";
import { scanLog } from "./log-scan.js";
import { LogState } from "./log-state.js";
import { decodeSnapshot, noSnapshot } from "./snapshot-file.js";

/** Null: there is no such file. */
export interface StateImage {
  readonly log: Buffer | null;
  readonly snapshot: Buffer | null;
  /** There is a `meta` file, which is made after the first log. */
  readonly formatted: boolean;
}

export interface Recovered {
  readonly initial: PersistentState;
  /** The same, as the log is kept from here on. */
  readonly state: LogState;
  /** The newest batch; the next one continues from it. */
  readonly chain: Chain;
  /** Bytes of a torn last batch that were left out. */
  readonly tornBytes: number;
}

export interface StatePaths {
  readonly log: string;
  readonly snapshot: string;
}

/**
 * What a node finds when it starts.
 *
 * @param paths for the messages.
 * @throws StorageError STORAGE_CORRUPT, STORAGE_FORMAT, STORAGE_MISSING
 */
export function recoverState(paths: StatePaths, image: StateImage): Recovered {
  const snapshot = image.snapshot === null ? noSnapshot : decodeSnapshot(paths.snapshot, image.snapshot);
  const state = new LogState(paths.log);
  let chain: Chain = { sequence: 0, crc: 0 };
  let tornBytes = 0;
  if (image.log === null) refuseLostLog(paths.log, image);
  else ({ chain, tornBytes } = replayLog(paths.log, image.log, snapshot, state));
  return { initial: persistentState(state, snapshot), state, chain, tornBytes };
}

function persistentState(state: LogState, snapshot: Snapshot): PersistentState {
  return { hardState: state.hardState, snapshot, entries: [...state.entries] };
}

/** Rule 51: a node that lost its log must not vote under its old id. Formatting makes the log before `meta`. */
function refuseLostLog(path: string, image: StateImage): void {
  if (!image.formatted && image.snapshot === null) return;
  throw new StorageError(
    "STORAGE_MISSING",
    path,
    `the Raft log is missing although ${image.formatted ? "meta" : "a snapshot"} is there: this node may have voted and acknowledged entries that it no longer knows`,
    rejoinHint,
  );
}

function replayLog(
  path: string,
  bytes: Buffer,
  snapshot: Snapshot,
  state: LogState,
): { chain: Chain; tornBytes: number } {
  const { batches, tornBytes } = scanLog(path, bytes);
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
  return { chain: { sequence: last.sequence, crc: last.crc }, tornBytes };
}

function replay(path: string, state: LogState, body: BatchBody): void {
  try {
    state.check(body);
  } catch (error) {
    throw corrupt(path, `an intact batch contradicts the log before it (${String(error)})`);
  }
  state.apply(body);
}

/** The first batch of a new file: everything live, known to be synced because the file has no name before it is. */
export function encodeFirstBatch(
  live: { readonly base: LogState["base"]; readonly hardState: HardState; readonly entries: LogState["entries"] },
  chain: Chain,
  allocatedBytes = 0,
): { bytes: Buffer; chain: Chain } {
  const { base, hardState, entries } = live;
  const sequence = chain.sequence + 1;
  const { bytes, crc } = encodeBatch(
    { sequence, previousCrc: chain.crc, knownSynced: sequence, flags: baseFlag, allocatedBytes },
    { base, hardState, entries },
  );
  return { bytes, chain: { sequence, crc } };
}
