/** Raft state in memory, for tests: the rules of the file without the file. */
import type { PersistentState, Snapshot } from "../raft/types.js";
import { encodeBatch, readBatch } from "./batch-codec.js";
import { misuse, StorageError } from "./errors.js";
import { LogState, onlyCommitChanged } from "./log-state.js";
import { decodeSnapshot, encodeSnapshot, noSnapshot } from "./snapshot-file.js";
import type { Batch, RaftStorage } from "./types.js";

export interface MemoryStorage extends RaftStorage {
  /** What a restart would find now; also after `close`. */
  durable(): PersistentState;
}

const place = "memory";

export function createMemoryStorage(initial?: PersistentState): MemoryStorage {
  const state = new LogState(place);
  let snapshot = cloneSnapshot(initial?.snapshot ?? noSnapshot);
  state.base = { index: snapshot.index, term: snapshot.term };
  if (initial !== undefined) state.apply(cloneBatch(initial));
  let durableHardState = state.hardState;
  let failure: StorageError | null = null;

  const durable = (): PersistentState => ({
    hardState: { ...durableHardState },
    snapshot: cloneSnapshot(snapshot),
    entries: cloneBatch({ hardState: durableHardState, entries: state.entries }).entries,
  });

  const ifOpen = async (work: () => void): Promise<void> => {
    if (failure !== null) throw failure;
    work();
  };

  const install = (batch: Batch, next: Snapshot): void => {
    if (next.index <= state.base.index) throw misuse(place, `snapshot ${next.index} is not ahead of the log's start`);
    const after = new LogState(place);
    after.base = { index: next.index, term: next.term };
    after.hardState = state.hardState;
    after.check(batch);
    snapshot = cloneSnapshot(next);
    state.replaceBy(after.base);
    state.apply(cloneBatch(batch));
    durableHardState = state.hardState;
  };

  return {
    initial: durable(),
    get failure() {
      return failure;
    },
    durable,
    persist: (batch) =>
      ifOpen(() => {
        if (batch.snapshot !== undefined) return install(batch, batch.snapshot);
        state.check(batch);
        const lazy = onlyCommitChanged(state.hardState, batch) && !batch.mustSync;
        state.apply(cloneBatch(batch));
        if (!lazy) durableHardState = state.hardState;
      }),
    compact: (next) =>
      ifOpen(() => {
        if (next.index <= state.base.index) return;
        if (state.termAt(next.index) !== next.term)
          throw misuse(place, `the log has no entry ${next.index} to compact to`);
        snapshot = cloneSnapshot(next);
        state.startAt(next);
        durableHardState = state.hardState;
      }),
    close: async () => {
      failure = new StorageError("STORAGE_CLOSED", place, "the log is closed", "Open it again.");
      durableHardState = state.hardState;
    },
  };
}

/** Through the bytes of the file, so that nothing is shared with the caller (rule 62). */
function cloneBatch(batch: Pick<Batch, "hardState" | "entries">): Pick<Batch, "hardState" | "entries"> {
  const { bytes } = encodeBatch(
    { sequence: 1, previousCrc: 0, knownSynced: 0, flags: 0 },
    { entries: batch.entries, ...(batch.hardState === undefined ? {} : { hardState: batch.hardState }) },
  );
  return readBatch(bytes, 0)!.body;
}

function cloneSnapshot(snapshot: Snapshot): Snapshot {
  return decodeSnapshot(place, encodeSnapshot(snapshot));
}
