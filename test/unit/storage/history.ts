/** A history that meets everything that a storage does, and what each of its steps must leave, worked out by hand. */
import { isDeepStrictEqual } from "node:util";
import type { Entry, HardState, PersistentState, Snapshot } from "../../../src/raft/types.js";
import { noSnapshot } from "../../../src/storage/snapshot-file.js";
import type { RaftStorage } from "../../../src/storage/types.js";
import { config, data } from "./helpers.js";

export interface Step {
  readonly name: string;
  run(storage: RaftStorage): Promise<void>;
  /** What is durable when it has resolved; the commit index may lag. */
  readonly after: PersistentState;
  /** What a crash in the middle may leave beside the state before and the state after. */
  readonly between: readonly PersistentState[];
}

/** Small, so that the file grows and is rewritten all the time. */
export const smallSteps = { growthBytes: 512, rewriteFloorBytes: 700, sealAfterMs: 0 };

export const emptyState: PersistentState = {
  hardState: { term: 0, vote: 0, commit: 0 },
  snapshot: noSnapshot,
  entries: [],
};

function snapshotAt(index: number, term: number): Snapshot {
  return { index, term, config, data: new Uint8Array([index, term]) };
}

export function makeHistory(): Step[] {
  const steps: Step[] = [];
  let now = emptyState;

  const persist = (name: string, hardState: HardState, entries: readonly Entry[], mustSync = true): void => {
    const first = entries[0]?.index ?? Number.POSITIVE_INFINITY;
    now = { ...now, hardState, entries: [...now.entries.filter(({ index }) => index < first), ...entries] };
    steps.push({ name, run: (s) => s.persist({ hardState, entries, mustSync }), after: now, between: [] });
  };
  const compact = (snapshot: Snapshot): void => {
    now = { ...now, snapshot, entries: now.entries.filter(({ index }) => index > snapshot.index) };
    steps.push({
      name: `compact to ${snapshot.index}`,
      run: (s) => s.compact(snapshot),
      after: now,
      between: [],
    });
  };
  const install = (snapshot: Snapshot, hardState: HardState, entries: readonly Entry[]): void => {
    const termFirst = { ...now, hardState: { ...hardState, commit: now.hardState.commit } };
    const withoutEntries = { hardState, snapshot, entries: [] };
    now = { hardState, snapshot, entries };
    steps.push({
      name: `install ${snapshot.index}`,
      run: (s) => s.persist({ hardState, snapshot, entries, mustSync: true }),
      after: now,
      between: [termFirst, withoutEntries],
    });
  };

  persist("vote", { term: 1, vote: 1, commit: 0 }, []);
  persist("first entries", { term: 1, vote: 1, commit: 0 }, [
    { index: 1, term: 1, type: "noop" },
    { index: 2, term: 1, type: "config", config },
  ]);
  persist("an entry that makes the file grow", { term: 1, vote: 1, commit: 1 }, [data(3, 1, "x".repeat(120))]);
  persist("a conflicting suffix", { term: 2, vote: 3, commit: 1 }, [data(2, 2), data(3, 2)]);
  persist("a commit index alone", { term: 2, vote: 3, commit: 3 }, [], false);
  persist("more entries", { term: 2, vote: 3, commit: 3 }, [data(4, 2), data(5, 2)]);
  compact(snapshotAt(3, 2));
  persist("behind the snapshot", { term: 2, vote: 3, commit: 5 }, [data(6, 2)]);
  persist("another vote", { term: 3, vote: 2, commit: 5 }, []);
  install(snapshotAt(9, 3), { term: 4, vote: 0, commit: 9 }, [data(10, 4)]);
  for (let index = 11; index <= 14; index++) {
    persist(`entry ${index}`, { term: 4, vote: 0, commit: index - 1 }, [data(index, 4, "y".repeat(60))]);
  }
  compact(snapshotAt(12, 4));
  persist("the last entry", { term: 4, vote: 0, commit: 14 }, [data(15, 4)]);
  steps.push({ name: "close", run: (s) => s.close(), after: now, between: [] });
  return steps;
}

/** Whether `found` is `wanted`, but for a commit index that may lag. */
export function isState(found: PersistentState, wanted: PersistentState): boolean {
  const { commit } = found.hardState;
  return (
    found.hardState.term === wanted.hardState.term &&
    found.hardState.vote === wanted.hardState.vote &&
    commit <= Math.max(wanted.hardState.commit, wanted.snapshot.index) &&
    commit >= wanted.snapshot.index &&
    isDeepStrictEqual(found.snapshot, wanted.snapshot) &&
    isDeepStrictEqual(found.entries, wanted.entries)
  );
}

export function asText(value: unknown): string {
  return JSON.stringify(value);
}
