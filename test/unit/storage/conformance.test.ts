import { cp } from "node:fs/promises";
import type { TestContext } from "node:test";
import { crashImage, FaultyDiskFiles } from "../../../simulation/faulty-disk-files.js";
import { Random } from "../../../simulation/random.js";
import { createMemoryStorage, openRaftStorage } from "../../../src/storage/index.js";
import { type Adapter, storageConformance } from "./conformance.js";
import { temporaryDir } from "./helpers.js";

async function realFiles(t: TestContext, dir: string): Promise<Adapter> {
  const storage = await openRaftStorage(dir);
  t.after(() => storage.close());
  return {
    storage,
    async restart() {
      await storage.close();
      return realFiles(t, dir);
    },
    // As after a SIGKILL: nobody closes anything, the page cache stays. The copy is what a new process would read.
    async crash() {
      const copy = await temporaryDir(t);
      await cp(dir, copy, { recursive: true });
      return realFiles(t, copy);
    },
  };
}

/** Small steps of growth, so that the file grows and is rewritten all the time. */
const tuning = { growthBytes: 512, rewriteFloorBytes: 1024, sealAfterMs: 0 };

async function faultyFiles(disk: FaultyDiskFiles, random: Random): Promise<Adapter> {
  const storage = await openRaftStorage("/state", disk, tuning);
  return {
    storage,
    async restart() {
      await storage.close();
      return faultyFiles(disk, random);
    },
    crash: () => faultyFiles(new FaultyDiskFiles(crashImage(disk, random).files), random),
  };
}

function inMemory(initial?: Parameters<typeof createMemoryStorage>[0]): Adapter {
  const storage = createMemoryStorage(initial);
  return {
    storage,
    async restart() {
      await storage.close();
      return inMemory(storage.durable());
    },
    crash: async () => inMemory(storage.durable()),
  };
}

storageConformance("real files", async (t) => realFiles(t, await temporaryDir(t)));
storageConformance("memory", async () => inMemory());
for (let seed = 1; seed <= 10; seed++) {
  storageConformance(`faulty files, seed ${seed}`, () => faultyFiles(new FaultyDiskFiles(), new Random(seed, 0)));
}
