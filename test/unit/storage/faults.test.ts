import assert from "node:assert/strict";
import { mkdir, readdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { it } from "node:test";
import { crashImages, type DiskOperation, FaultyDiskFiles } from "../../../simulation/faulty-disk-files.js";
import { Random } from "../../../simulation/random.js";
import { openRaftStorage, type RaftStorage, StorageError } from "../../../src/storage/index.js";
import { config, data, temporaryDir } from "./helpers.js";
import { asText, emptyState, isState, makeHistory, smallSteps } from "./history.js";

const dir = "/state";

it("crc32c gives the check value of the standard", async () => {
  const { crc32c } = await import("../../../src/storage/crc32c.js");
  assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
});

/** Runs the history with operation number `at` failing; what it left and said. */
async function runWithFault(at: number, code: string) {
  const disk = new FaultyDiskFiles();
  let seen = 0;
  let struck: DiskOperation | null = null;
  disk.plan = (operation) => {
    if (seen++ !== at) return null;
    struck = operation;
    return code;
  };
  let storage: RaftStorage | null = null;
  let acknowledged = emptyState;
  let allowed = [emptyState];
  let failed: { readonly error: unknown } | null = null;
  try {
    storage = await openRaftStorage(dir, disk, smallSteps);
    for (const step of makeHistory()) {
      allowed = [acknowledged, ...step.between, step.after];
      await step.run(storage);
      acknowledged = step.after;
    }
  } catch (error) {
    failed = { error };
  }
  return { disk, storage, failed, struck: struck as DiskOperation | null, allowed };
}

const changing = new Set(["write", "sync", "rename", "create", "syncDirectory"]);

for (const code of ["EIO", "ENOSPC"]) {
  it(`rule 46: ${code} at any operation is final, typed, and loses nothing acknowledged`, async () => {
    const kinds = new Set<string>();
    for (let at = 0; ; at++) {
      const { disk, storage, failed, struck, allowed } = await runWithFault(at, code);
      if (struck === null) break;
      const where = `${code} at operation ${at}, a ${struck.kind}`;
      kinds.add(struck.kind);
      // The seal behind the last acknowledged batch belongs to no caller; the storage knows.
      const error = failed === null ? storage?.failure : failed.error;
      assert.ok(error instanceof StorageError, `${where}: ${String(error)}`);
      assert.equal(error.code, "STORAGE_IO", where);
      assert.match(error.hint, code === "ENOSPC" ? /Free space on this file system/ : /Check the disk and its mount/);
      assert.ok(error.path.startsWith(dir), where);
      if (storage !== null) await nothingMore(storage, disk, error, where);
      // The next start reads what is there, in the worst and in the best case.
      const random = new Random(at, 0);
      for (const { files } of crashImages(disk, disk.operations.length, random)) {
        if (!random.chance(0.05)) continue;
        const again = await openRaftStorage(dir, new FaultyDiskFiles(files), smallSteps);
        assert.ok(
          allowed.some((state) => isState(again.initial, state)),
          `${where}: found ${asText(again.initial)}`,
        );
      }
    }
    assert.deepEqual(
      [...changing].filter((kind) => !kinds.has(kind)),
      [],
    );
  });
}

async function nothingMore(storage: RaftStorage, disk: FaultyDiskFiles, error: StorageError, where: string) {
  if (error !== storage.failure) assert.equal(storage.failure?.code, "STORAGE_IO", where);
  const before = disk.operations.filter(({ kind }) => changing.has(kind)).length;
  const hardState = { term: 99, vote: 1, commit: 0 };
  await assert.rejects(storage.persist({ hardState, entries: [], mustSync: true }), { code: "STORAGE_IO" }, where);
  await assert.rejects(storage.persist({ entries: [], mustSync: false }), { code: "STORAGE_IO" }, where);
  const snapshot = { index: 17, term: 4, config, data: new Uint8Array() };
  await assert.rejects(storage.compact(snapshot), { code: "STORAGE_IO" }, where);
  await storage.close();
  assert.equal(storage.failure?.code, "STORAGE_IO", where);
  assert.equal(disk.operations.filter(({ kind }) => changing.has(kind)).length, before, `${where}: it went on writing`);
}

it("a disk that is full when the log grows is said before a byte of the batch is written", async () => {
  const disk = new FaultyDiskFiles();
  const storage = await openRaftStorage(dir, disk, smallSteps);
  await storage.persist({ hardState: { term: 1, vote: 1, commit: 0 }, entries: [data(1, 1)], mustSync: true });
  disk.plan = (operation) =>
    operation.kind === "write" && operation.bytes.every((byte) => byte === 0) ? "ENOSPC" : null;
  const before = Buffer.from(disk.contents(`${dir}/raft-log`)!);
  await assert.rejects(storage.persist({ entries: [data(2, 1, "x".repeat(1000))], mustSync: true }), {
    code: "STORAGE_IO",
    message: /raft-log: writing failed: ENOSPC.*Free space on this file system, then restart the node/,
  });
  assert.deepEqual(disk.contents(`${dir}/raft-log`)!.subarray(0, before.length), before);
});

it("what a full disk made half is removed, so that it takes no space", async () => {
  const disk = new FaultyDiskFiles();
  const storage = await openRaftStorage(dir, disk, smallSteps);
  await storage.persist({ hardState: { term: 1, vote: 1, commit: 1 }, entries: [data(1, 1)], mustSync: true });
  disk.plan = ({ kind }) => (kind === "write" ? "ENOSPC" : null);
  const snapshot = { index: 1, term: 1, config, data: new Uint8Array([3]) };
  await assert.rejects(storage.compact(snapshot), { code: "STORAGE_IO", path: `${dir}/snapshot` });
  assert.deepEqual(disk.paths, [`${dir}/raft-log`]);
});

it("left-overs of a crashed write are removed and never read", async (t) => {
  const real = await temporaryDir(t);
  await writeFile(join(real, ".raft-log.tmp"), "garbage");
  await writeFile(join(real, ".snapshot.tmp"), "garbage");
  await (await openRaftStorage(real)).close();
  assert.deepEqual(await readdir(real), ["raft-log"]);
});

it("a commit index alone is not written before something else is, and survives an orderly close", async () => {
  const disk = new FaultyDiskFiles();
  const storage = await openRaftStorage(dir, disk);
  await storage.persist({ hardState: { term: 1, vote: 1, commit: 0 }, entries: [data(1, 1)], mustSync: true });
  const before = disk.operations.filter(({ kind }) => kind === "sync").length;
  await storage.persist({ hardState: { term: 1, vote: 1, commit: 1 }, entries: [], mustSync: false });
  assert.equal(disk.operations.filter(({ kind }) => kind === "sync").length, before);
  await storage.close();
  assert.equal((await openRaftStorage(dir, disk)).initial.hardState.commit, 1);
});

it("the state directory is made with mode 0700, and its files with 0600", async (t) => {
  const real = join(await temporaryDir(t), "state");
  await mkdir(real, { mode: 0o755 });
  await (await openRaftStorage(real)).close();
  assert.equal((await stat(real)).mode & 0o777, 0o700);
  assert.equal((await stat(join(real, "raft-log"))).mode & 0o777, 0o600);
});

it("size on disk is bounded while entries are overwritten and hard states change", async () => {
  const disk = new FaultyDiskFiles();
  const storage = await openRaftStorage(dir, disk);
  const big = "x".repeat(200_000);
  let largest = 0;
  for (let term = 1; term <= 60; term++) {
    await storage.persist({ hardState: { term, vote: 0, commit: 0 }, entries: [data(1, term, big)], mustSync: true });
    disk.operations.length = 0;
    largest = Math.max(largest, disk.contents(`${dir}/raft-log`)!.length);
  }
  // The floor, four times what is live, the batch that went over it, and one step of growth.
  assert.ok(largest <= 1_048_576 + 5 * 200_100 + 262_144, `${largest} bytes`);
});

it("size on disk is bounded whatever the number of proposals", async () => {
  const disk = new FaultyDiskFiles();
  const storage = await openRaftStorage(dir, disk);
  let largest = 0;
  const compactEvery = 500;
  await storage.persist({ hardState: { term: 1, vote: 1, commit: 0 }, entries: [], mustSync: true });
  for (let index = 1; index <= 20_000; index++) {
    await storage.persist({ entries: [data(index, 1, "x".repeat(100))], mustSync: true });
    if (index % compactEvery === 0) {
      const snapshot = { index: index - 10, term: 1, config, data: new Uint8Array(1000) };
      await storage.compact(snapshot);
    }
    disk.operations.length = 0;
    largest = Math.max(largest, ...disk.paths.map((path) => disk.contents(path)!.length));
  }
  await storage.close();
  assert.deepEqual([...disk.paths].sort(), [`${dir}/raft-log`, `${dir}/snapshot`]);
  assert.ok(largest <= 2 * 262_144, `${largest} bytes`);
});
