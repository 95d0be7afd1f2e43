/** What every implementation of RaftStorage must do. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import type { Entry } from "../../../src/raft/types.js";
import type { RaftStorage } from "../../../src/storage/index.js";
import { config, data } from "./helpers.js";

export interface Adapter {
  readonly storage: RaftStorage;
  /** Closed in order, opened again. */
  restart(): Promise<Adapter>;
  /** Not closed, whatever is not durable is lost or torn, opened again. */
  crash(): Promise<Adapter>;
}

const binary: Entry = { index: 3, term: 2, type: "data", data: new Uint8Array([0, 255, 10, 128, 0]) };
const some: Entry[] = [{ index: 1, term: 1, type: "noop" }, { index: 2, term: 1, type: "config", config }, binary];

export function storageConformance(name: string, make: (t: TestContext) => Promise<Adapter>): void {
  describe(`storage conformance: ${name}`, () => {
    const hardStateOf = (term: number) => ({ term, vote: 0, commit: 0 });

    it("starts empty", async (t) => {
      const { storage } = await make(t);
      assert.deepEqual(storage.initial.hardState, { term: 0, vote: 0, commit: 0 });
      assert.equal(storage.initial.snapshot.index, 0);
      assert.deepEqual(storage.initial.entries, []);
      await storage.close();
    });

    it("gives back every kind of entry and the hard state after a restart", async (t) => {
      const first = await make(t);
      await first.storage.persist({ hardState: { term: 2, vote: 3, commit: 0 }, entries: some, mustSync: true });
      const { storage } = await first.restart();
      assert.deepEqual(storage.initial.entries, some);
      assert.deepEqual(storage.initial.hardState, { term: 2, vote: 3, commit: 0 });
      await storage.close();
    });

    it("a conflicting suffix replaces what was there", async (t) => {
      const first = await make(t);
      await first.storage.persist({
        hardState: hardStateOf(1),
        entries: [data(1, 1), data(2, 1), data(3, 1)],
        mustSync: true,
      });
      await first.storage.persist({ hardState: hardStateOf(2), entries: [data(2, 2, "new")], mustSync: true });
      const { storage } = await first.restart();
      assert.deepEqual(storage.initial.entries, [data(1, 1), data(2, 2, "new")]);
      await storage.close();
    });

    it("keeps what the caller handed over, not what the caller later makes of it", async (t) => {
      const first = await make(t);
      const bytes = new Uint8Array([1, 2, 3]);
      await first.storage.persist({
        hardState: hardStateOf(1),
        entries: [{ index: 1, term: 1, type: "data", data: bytes }],
        mustSync: true,
      });
      bytes.fill(9);
      const { storage } = await first.restart();
      assert.deepEqual(storage.initial.entries, [{ index: 1, term: 1, type: "data", data: new Uint8Array([1, 2, 3]) }]);
      await storage.close();
    });

    it("compaction keeps the tail behind the snapshot", async (t) => {
      const first = await make(t);
      const hardState = { term: 1, vote: 1, commit: 3 };
      await first.storage.persist({ hardState, entries: [1, 2, 3, 4].map((i) => data(i, 1)), mustSync: true });
      const snapshot = { index: 2, term: 1, config, data: new Uint8Array([7, 0, 7]) };
      await first.storage.compact(snapshot);
      await first.storage.persist({ entries: [data(5, 1)], mustSync: true });
      const { storage } = await first.restart();
      assert.deepEqual(storage.initial.snapshot, snapshot);
      assert.deepEqual(
        storage.initial.entries,
        [3, 4, 5].map((i) => data(i, 1)),
      );
      assert.deepEqual(storage.initial.hardState, hardState);
      await storage.close();
    });

    it("rule 41: an installed snapshot replaces the whole log", async (t) => {
      const first = await make(t);
      await first.storage.persist({
        hardState: hardStateOf(1),
        entries: [1, 2, 3].map((i) => data(i, 1)),
        mustSync: true,
      });
      const snapshot = { index: 10, term: 4, config, data: new Uint8Array([1]) };
      const hardState = { term: 5, vote: 0, commit: 10 };
      await first.storage.persist({ hardState, snapshot, entries: [data(11, 5)], mustSync: true });
      const { storage } = await first.restart();
      assert.deepEqual(storage.initial.snapshot, snapshot);
      assert.deepEqual(storage.initial.entries, [data(11, 5)]);
      assert.deepEqual(storage.initial.hardState, hardState);
      await storage.close();
    });

    it("refuses what would break the log and goes on", async (t) => {
      const { storage } = await make(t);
      const hardState = { term: 3, vote: 1, commit: 0 };
      await storage.persist({ hardState, entries: [data(1, 3)], mustSync: true });
      const misuse = { code: "STORAGE_MISUSE" };
      await assert.rejects(storage.persist({ entries: [data(3, 3)], mustSync: true }), misuse);
      await assert.rejects(storage.persist({ entries: [data(2, 2)], mustSync: true }), misuse);
      const again = { ...hardState, vote: 2 };
      await assert.rejects(storage.persist({ hardState: again, entries: [], mustSync: true }), misuse);
      await assert.rejects(
        storage.persist({ hardState: { ...hardState, term: 2 }, entries: [], mustSync: true }),
        misuse,
      );
      await assert.rejects(storage.compact({ index: 9, term: 3, config, data: new Uint8Array() }), misuse);
      await storage.persist({ entries: [data(2, 3)], mustSync: true });
      await storage.close();
      await assert.rejects(storage.persist({ entries: [], mustSync: true }), { code: "STORAGE_CLOSED" });
    });

    it("rule 1: what was acknowledged survives a crash, at every point of a history", async (t) => {
      for (let calls = 1; calls <= 6; calls++) {
        let adapter = await make(t);
        const { storage } = adapter;
        for (let index = 1; index <= calls; index++) {
          await storage.persist({ hardState: hardStateOf(index), entries: [data(index, index)], mustSync: true });
          if (index === 4) await storage.compact({ index: 3, term: 3, config, data: new Uint8Array([3]) });
        }
        for (let crashes = 0; crashes < 3; crashes++) {
          adapter = await adapter.crash();
          const { initial } = adapter.storage;
          const from = calls < 4 ? 1 : 4;
          assert.equal(initial.snapshot.index, from - 1);
          assert.equal(initial.hardState.term, calls);
          assert.deepEqual(
            initial.entries,
            Array.from({ length: calls - from + 1 }, (_, i) => data(from + i, from + i)),
          );
        }
        await adapter.storage.close();
      }
    });

    it("rule 3: no entry of a term that is not durable with it or before it", async (t) => {
      const { storage } = await make(t);
      await storage.persist({ hardState: hardStateOf(2), entries: [data(1, 2)], mustSync: true });
      await assert.rejects(storage.persist({ entries: [data(2, 3)], mustSync: true }), { code: "STORAGE_MISUSE" });
      await storage.persist({ hardState: hardStateOf(3), entries: [data(2, 3)], mustSync: true });
      await storage.close();
    });

    it("rule 2: a term and its vote are one record", async (t) => {
      let adapter = await make(t);
      for (let term = 1; term <= 4; term++) {
        await adapter.storage.persist({ hardState: { term, vote: term, commit: 0 }, entries: [], mustSync: true });
        adapter = await adapter.crash();
        assert.deepEqual(adapter.storage.initial.hardState, { term, vote: term, commit: 0 });
      }
      await adapter.storage.close();
    });

    it("says why it does nothing any more", async (t) => {
      const { storage } = await make(t);
      const code = (): string | undefined => storage.failure?.code;
      assert.equal(code(), undefined);
      await storage.close();
      assert.equal(code(), "STORAGE_CLOSED");
    });

    it("batches land in the order of the calls", async (t) => {
      const first = await make(t);
      await first.storage.persist({ hardState: hardStateOf(1), entries: [], mustSync: true });
      await Promise.all([1, 2, 3, 4, 5].map((i) => first.storage.persist({ entries: [data(i, 1)], mustSync: true })));
      const { storage } = await first.restart();
      assert.deepEqual(
        storage.initial.entries,
        [1, 2, 3, 4, 5].map((i) => data(i, 1)),
      );
      await storage.close();
    });
  });
}
