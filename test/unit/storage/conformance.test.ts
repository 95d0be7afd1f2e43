import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import type { Entry } from "../../../src/raft/types.js";
import { createMemoryStorage, openRaftStorage, type RaftStorage } from "../../../src/storage/index.js";
import { config, data, temporaryDir } from "./helpers.js";

interface Adapter {
  readonly storage: RaftStorage;
  restart(): Promise<Adapter>;
}

async function fileAdapter(dir: string): Promise<Adapter> {
  const storage = await openRaftStorage(dir);
  return {
    storage,
    async restart() {
      await storage.close();
      return fileAdapter(dir);
    },
  };
}

function memoryAdapter(initial?: Parameters<typeof createMemoryStorage>[0]): Adapter {
  const storage = createMemoryStorage(initial);
  return {
    storage,
    async restart() {
      await storage.close();
      return memoryAdapter(storage.durable());
    },
  };
}

const adapters: Record<string, (t: TestContext) => Promise<Adapter>> = {
  file: async (t) => {
    const dir = await temporaryDir(t);
    const adapter = await fileAdapter(dir);
    return adapter;
  },
  memory: async () => memoryAdapter(),
};

const binary: Entry = { index: 3, term: 2, type: "data", data: new Uint8Array([0, 255, 10, 128, 0]) };
const some: Entry[] = [{ index: 1, term: 1, type: "noop" }, { index: 2, term: 1, type: "config", config }, binary];

for (const [name, make] of Object.entries(adapters)) {
  describe(`storage conformance: ${name}`, () => {
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
      await first.storage.persist({ entries: [data(1, 1), data(2, 1), data(3, 1)], mustSync: true });
      await first.storage.persist({ entries: [data(2, 2, "new")], mustSync: true });
      const { storage } = await first.restart();
      assert.deepEqual(storage.initial.entries, [data(1, 1), data(2, 2, "new")]);
      await storage.close();
    });

    it("keeps what the caller handed over, not what the caller later makes of it", async (t) => {
      const first = await make(t);
      const bytes = new Uint8Array([1, 2, 3]);
      await first.storage.persist({ entries: [{ index: 1, term: 1, type: "data", data: bytes }], mustSync: true });
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
      await first.storage.persist({ entries: [1, 2, 3].map((i) => data(i, 1)), mustSync: true });
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

    it("batches land in the order of the calls", async (t) => {
      const first = await make(t);
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
