import assert from "node:assert/strict";
import { copyFile, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { it, type TestContext } from "node:test";
import { type Disk, openRaftStorage, realDisk } from "../../../src/storage/index.js";
import { config, data, temporaryDir } from "./helpers.js";

/** A log of a base batch and three appended ones; `lengths` are the file sizes after each. */
async function writeLog(t: TestContext): Promise<{ dir: string; path: string; lengths: number[] }> {
  const dir = await temporaryDir(t);
  const path = join(dir, "raft-log");
  const storage = await openRaftStorage(dir);
  const lengths = [(await stat(path)).size];
  for (const index of [1, 2, 3]) {
    const hardState = { term: index, vote: 1, commit: 0 };
    await storage.persist({ hardState, entries: [data(index, index)], mustSync: true });
    lengths.push((await stat(path)).size);
  }
  // Not closed in order: the file is looked at as a killed process leaves it.
  t.after(() => storage.close());
  return { dir, path, lengths };
}

async function variant(t: TestContext, log: Buffer): Promise<string> {
  const dir = await temporaryDir(t);
  await writeFile(join(dir, "raft-log"), log);
  return dir;
}

it("rule 47: a last batch cut at any byte is dropped, and nothing else", async (t) => {
  const { path, lengths } = await writeLog(t);
  const whole = await readFile(path);
  const dir = await variant(t, whole);
  for (let size = lengths[2]!; size < lengths[3]!; size++) {
    await writeFile(join(dir, "raft-log"), whole.subarray(0, size));
    const storage = await openRaftStorage(dir);
    assert.deepEqual(storage.initial.entries, [data(1, 1), data(2, 2)], `cut at ${size}`);
    assert.equal(storage.initial.hardState.term, 2);
    await storage.persist({ entries: [data(3, 7, "again")], mustSync: true });
    await storage.close();
  }
});

it("rule 47: a last batch with any sector order torn (zeroed stretches) is dropped", async (t) => {
  const { path, lengths } = await writeLog(t);
  const whole = await readFile(path);
  for (let from = lengths[2]!; from < lengths[3]!; from += 7) {
    const torn = Buffer.from(whole);
    torn.fill(0, from, Math.min(from + 16, lengths[3]!));
    if (torn.equals(whole)) continue;
    const storage = await openRaftStorage(await variant(t, torn));
    assert.deepEqual(storage.initial.entries, [data(1, 1), data(2, 2)], `zeroed at ${from}`);
    await storage.close();
  }
});

it("rule 47: a flipped bit anywhere before the last batch halts and changes nothing", async (t) => {
  const { path, lengths } = await writeLog(t);
  const whole = await readFile(path);
  const dir = await variant(t, whole);
  for (let at = 0; at < lengths[2]!; at++) {
    const damaged = Buffer.from(whole);
    damaged[at]! ^= 1 << (at % 8);
    await writeFile(join(dir, "raft-log"), damaged);
    await assert.rejects(openRaftStorage(dir), { code: "STORAGE_CORRUPT" }, `bit at byte ${at}`);
    assert.deepEqual(await readFile(join(dir, "raft-log")), damaged);
  }
});

it("rule 47: the header alone of a later batch proves that the damaged one was synced", async (t) => {
  const { path, lengths } = await writeLog(t);
  const damaged = Buffer.from((await readFile(path)).subarray(0, lengths[2]! + 52));
  damaged[lengths[1]! + 60]! ^= 1;
  await assert.rejects(openRaftStorage(await variant(t, damaged)), { code: "STORAGE_CORRUPT" });
});

it("after a restart nothing of the log can pass for torn any more", async (t) => {
  const { dir, path } = await writeLog(t);
  const copy = await temporaryDir(t);
  await copyFile(path, join(copy, "raft-log"));
  await (await openRaftStorage(copy)).close();
  const whole = await readFile(join(copy, "raft-log"));
  whole[whole.length - 1]! ^= 1;
  await assert.rejects(openRaftStorage(await variant(t, whole)), { code: "STORAGE_CORRUPT" });
  await assert.rejects(openRaftStorage(await variant(t, Buffer.alloc(0))), { code: "STORAGE_CORRUPT" });
  assert.notEqual(dir, copy);
});

it("a file that is not ours is refused", async (t) => {
  const dir = await variant(t, Buffer.from("not a log at all, but long enough to hold a header of ours...."));
  await assert.rejects(openRaftStorage(dir), { code: "STORAGE_CORRUPT" });
});

it("a newer format is named, not called damage", async (t) => {
  const { crc32c } = await import("../../../src/storage/crc32c.js");
  const { path, lengths } = await writeLog(t);
  const log = Buffer.from((await readFile(path)).subarray(0, lengths[0]!));
  log.writeUInt16LE(2, 4);
  log.writeUInt32LE(crc32c(log.subarray(0, 44)), 44);
  log.writeUInt32LE(crc32c(log.subarray(52), crc32c(log.subarray(0, 48))), 48);
  await assert.rejects(openRaftStorage(await variant(t, log)), { code: "STORAGE_FORMAT" });
});

it("crc32c gives the check value of the standard", async () => {
  const { crc32c } = await import("../../../src/storage/crc32c.js");
  assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
});

function failing(operation: keyof Disk, at: number, code: string): { disk: Disk; arm(): void } {
  let left = Number.POSITIVE_INFINITY;
  const strike = (name: keyof Disk): void => {
    if (name !== operation) return;
    left -= 1;
    if (left === 0) throw Object.assign(new Error(`${code}: injected`), { code });
  };
  const disk: Disk = {
    async write(...args) {
      strike("write");
      return realDisk.write(...args);
    },
    async sync(handle) {
      strike("sync");
      return realDisk.sync(handle);
    },
    async rename(from, to) {
      strike("rename");
      return realDisk.rename(from, to);
    },
    async syncDirectory(dir) {
      strike("syncDirectory");
      return realDisk.syncDirectory(dir);
    },
  };
  return {
    disk,
    arm: () => {
      left = at;
    },
  };
}

for (const [operation, code] of [
  ["write", "ENOSPC"],
  ["sync", "EIO"],
] as const) {
  it(`rule 46: ${code} on ${operation} is final`, async (t) => {
    const dir = await temporaryDir(t);
    const { disk, arm } = failing(operation, 1, code);
    const storage = await openRaftStorage(dir, disk);
    await storage.persist({ entries: [data(1, 1)], mustSync: true });
    arm();
    const failed = { code: "STORAGE_IO" };
    await assert.rejects(storage.persist({ entries: [data(2, 1)], mustSync: true }), failed);
    await assert.rejects(storage.persist({ entries: [data(2, 1)], mustSync: true }), failed);
    await assert.rejects(storage.compact({ index: 1, term: 1, config, data: new Uint8Array() }), failed);
    await storage.close();
    const after = await openRaftStorage(dir);
    assert.deepEqual(after.initial.entries[0], data(1, 1));
    await after.close();
  });
}

const steps: ReadonlyArray<readonly [keyof Disk, number]> = [
  ["write", 1],
  ["sync", 1],
  ["rename", 1],
  ["syncDirectory", 1],
  ["write", 2],
  ["sync", 2],
  ["rename", 2],
  ["syncDirectory", 2],
];
for (const [operation, at] of steps) {
  it(`rule 42: a compaction that stops at ${operation} ${at} leaves a startable node`, async (t) => {
    const dir = await temporaryDir(t);
    const { disk, arm } = failing(operation, at, "EIO");
    const storage = await openRaftStorage(dir, disk);
    const all = [1, 2, 3, 4].map((i) => data(i, 1));
    await storage.persist({ hardState: { term: 1, vote: 2, commit: 3 }, entries: all, mustSync: true });
    arm();
    const snapshot = { index: 3, term: 1, config, data: new Uint8Array([3]) };
    await assert.rejects(storage.compact(snapshot), { code: "STORAGE_IO" });
    await storage.close();
    const after = await openRaftStorage(dir);
    const { initial } = after;
    assert.ok(initial.snapshot.index === 0 || initial.snapshot.index === 3);
    assert.deepEqual(initial.entries, all.slice(initial.snapshot.index));
    assert.deepEqual(initial.hardState, { term: 1, vote: 2, commit: 3 });
    await after.close();
    assert.ok(!(await readdir(dir)).some((name) => name.endsWith(".tmp")));
  });

  it(`rule 42: an installed snapshot that stops at ${operation} ${at} leaves a startable node`, async (t) => {
    const dir = await temporaryDir(t);
    const { disk, arm } = failing(operation, at, "EIO");
    const storage = await openRaftStorage(dir, disk);
    const old = [1, 2].map((i) => data(i, 1));
    await storage.persist({ hardState: { term: 1, vote: 2, commit: 2 }, entries: old, mustSync: true });
    arm();
    const snapshot = { index: 9, term: 4, config, data: new Uint8Array([3]) };
    const hardState = { term: 4, vote: 0, commit: 9 };
    await assert.rejects(storage.persist({ hardState, snapshot, entries: [], mustSync: true }), { code: "STORAGE_IO" });
    await storage.close();
    const after = await openRaftStorage(dir);
    const { initial } = after;
    if (initial.snapshot.index === 0) assert.deepEqual(initial.entries, old);
    else {
      assert.deepEqual(initial.entries, []);
      assert.deepEqual(initial.hardState, hardState);
    }
    await after.close();
  });
}

it("rule 42: a log that starts behind the snapshot's reach is refused", async (t) => {
  const dir = await temporaryDir(t);
  const storage = await openRaftStorage(dir);
  await storage.persist({ entries: [1, 2, 3].map((i) => data(i, 1)), mustSync: true });
  await storage.compact({ index: 2, term: 1, config, data: new Uint8Array() });
  await storage.close();
  const log = await readFile(join(dir, "raft-log"));
  await assert.rejects(openRaftStorage(await variant(t, log)), { code: "STORAGE_CORRUPT" });
});

it("a damaged snapshot halts at any byte", async (t) => {
  const dir = await temporaryDir(t);
  const storage = await openRaftStorage(dir);
  await storage.persist({ entries: [data(1, 1)], mustSync: true });
  await storage.compact({ index: 1, term: 1, config, data: new Uint8Array([1, 2, 3]) });
  await storage.close();
  const whole = await readFile(join(dir, "snapshot"));
  for (let at = 0; at < whole.length; at++) {
    const damaged = Buffer.from(whole);
    damaged[at]! ^= 4;
    await writeFile(join(dir, "snapshot"), damaged);
    await assert.rejects(openRaftStorage(dir), { code: "STORAGE_CORRUPT" }, `byte ${at}`);
  }
});

it("left-overs of a crashed write are removed and never read", async (t) => {
  const dir = await temporaryDir(t);
  await writeFile(join(dir, ".raft-log.tmp"), "garbage");
  await writeFile(join(dir, ".snapshot.tmp"), "garbage");
  await (await openRaftStorage(dir)).close();
  assert.deepEqual(await readdir(dir), ["raft-log"]);
});

it("size on disk is bounded while entries are overwritten and hard states change", async (t) => {
  const dir = await temporaryDir(t);
  const storage = await openRaftStorage(dir, { ...realDisk, sync: async () => undefined });
  const big = "x".repeat(200_000);
  for (let term = 1; term <= 60; term++) {
    await storage.persist({ hardState: { term, vote: 0, commit: 0 }, entries: [data(1, term, big)], mustSync: true });
  }
  assert.ok((await stat(join(dir, "raft-log"))).size < 8 * 1024 * 1024);
  await storage.close();
});

it("a commit index alone is not written before something else is, and survives an orderly close", async (t) => {
  const dir = await temporaryDir(t);
  let writes = 0;
  const counting: Disk = {
    ...realDisk,
    async write(...args) {
      writes += 1;
      return realDisk.write(...args);
    },
  };
  const storage = await openRaftStorage(dir, counting);
  await storage.persist({ hardState: { term: 1, vote: 1, commit: 0 }, entries: [data(1, 1)], mustSync: true });
  const before = writes;
  await storage.persist({ hardState: { term: 1, vote: 1, commit: 1 }, entries: [], mustSync: false });
  assert.equal(writes, before);
  await storage.close();
  const after = await openRaftStorage(dir);
  assert.equal(after.initial.hardState.commit, 1);
  await after.close();
});

it("the state directory is made with mode 0700", async (t) => {
  const dir = join(await temporaryDir(t), "state");
  await mkdir(dir, { mode: 0o755 });
  await (await openRaftStorage(dir)).close();
  assert.equal((await stat(dir)).mode & 0o777, 0o700);
});
