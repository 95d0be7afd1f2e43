import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { it } from "node:test";
import {
  checkMeta,
  emptyNodeState,
  formatStateDir,
  lockStateDir,
  type Meta,
  openRaftStorage,
  readMeta,
  readNodeState,
  refuseCopy,
  writeFileAtomically,
  writeMeta,
  writeNodeState,
} from "../../../src/storage/index.js";
import { config, data, temporaryDir } from "./helpers.js";

const meta: Meta = {
  format: 1,
  nodeName: "a",
  incarnation: "0123456789abcdef",
  clusterId: "",
  systemIdentifier: "7300000000000000001",
  raftId: 0,
};

it("meta is bound once and completed once", async (t) => {
  const dir = await temporaryDir(t);
  assert.equal(await readMeta(dir), null);
  await formatStateDir(dir, meta);
  assert.deepEqual(await readMeta(dir), meta);
  assert.equal((await stat(dir)).mode & 0o777, 0o700);
  await assert.rejects(formatStateDir(dir, meta), { code: "STORAGE_IN_USE" });
  const joined = { ...meta, clusterId: "c1", raftId: 3 };
  await writeMeta(dir, joined);
  await assert.rejects(writeMeta(dir, { ...joined, raftId: 4 }), { code: "STORAGE_FOREIGN" });
  await assert.rejects(writeMeta(dir, { ...joined, incarnation: "ff" }), { code: "STORAGE_FOREIGN" });
  assert.deepEqual(await readMeta(dir), joined);
});

it("rule 51: a formatted directory that lost its log is refused", async (t) => {
  const dir = await temporaryDir(t);
  await formatStateDir(dir, meta);
  await (await openRaftStorage(dir)).close();
  await rm(join(dir, "raft-log"));
  await assert.rejects(openRaftStorage(dir), { code: "STORAGE_MISSING" });
});

it("rule 51: a copy of a state directory is refused, the directory itself under another name is not", async (t) => {
  const parent = await temporaryDir(t);
  const [own, copy, moved] = [join(parent, "own"), join(parent, "copy"), join(parent, "moved")];
  await formatStateDir(own, meta);
  await refuseCopy(own);
  await cp(own, copy, { recursive: true });
  await assert.rejects(refuseCopy(copy), { code: "STORAGE_FOREIGN", message: /is a copy or was restored/ });
  await rename(own, moved);
  await refuseCopy(moved);
  // Completing the identity binds it to the directory again.
  await writeMeta(moved, { ...meta, clusterId: "c1", raftId: 3 });
  await refuseCopy(moved);
});

it("rule 51: two directories made for one node differ in their incarnation, which is never changed", async (t) => {
  const dir = await temporaryDir(t);
  await formatStateDir(dir, meta);
  await assert.rejects(writeMeta(dir, { ...meta, incarnation: "another" }), {
    code: "STORAGE_FOREIGN",
    message: /incarnation would change/,
  });
});

it("rule 51: a snapshot that was rolled back under its log, or lost, is refused", async (t) => {
  const dir = await temporaryDir(t);
  const storage = await openRaftStorage(dir);
  const hardState = { term: 1, vote: 1, commit: 3 };
  await storage.persist({ hardState, entries: [1, 2, 3].map((index) => data(index, 1)), mustSync: true });
  await storage.compact({ index: 2, term: 1, config, data: new Uint8Array([2]) });
  const older = await readFile(join(dir, "snapshot"));
  await storage.compact({ index: 3, term: 1, config, data: new Uint8Array([3]) });
  await storage.close();
  // The snapshot alone was rolled back: the log starts behind it.
  await writeFile(join(dir, "snapshot"), older);
  await assert.rejects(openRaftStorage(dir), { code: "STORAGE_CORRUPT", message: /entries are missing/ });
  await rm(join(dir, "snapshot"));
  await assert.rejects(openRaftStorage(dir), { code: "STORAGE_CORRUPT", message: /entries are missing/ });
});

it("corrupt, foreign and newer meta files are told apart and left alone", async (t) => {
  const dir = await temporaryDir(t);
  await formatStateDir(dir, meta);
  const path = join(dir, "meta");
  const good = await readFile(path);
  for (let at = 0; at < good.length; at++) {
    const bad = Buffer.from(good);
    bad[at]! ^= 2;
    await writeFile(path, bad);
    await assert.rejects(readMeta(dir), { code: "STORAGE_CORRUPT" }, `byte ${at}`);
    await assert.rejects(formatStateDir(dir, meta), { code: "STORAGE_CORRUPT" });
    assert.deepEqual(await readFile(path), bad);
  }
  await writeFile(path, "hello\n");
  await assert.rejects(readMeta(dir), { code: "STORAGE_CORRUPT" });
  await rm(path);
  const { writeCheckedJson } = await import("../../../src/storage/checked-json.js");
  await writeCheckedJson(path, { ...meta, format: 2 });
  await assert.rejects(readMeta(dir), { code: "STORAGE_FORMAT" });
  await rm(path);
  const { mkdir } = await import("node:fs/promises");
  await mkdir(path);
  await assert.rejects(readMeta(dir), { code: "STORAGE_IO" });
});

it("a directory of another node, server or cluster is refused with both names", () => {
  const joined = { ...meta, clusterId: "c1" };
  checkMeta(joined, { nodeName: "a", systemIdentifier: meta.systemIdentifier, clusterId: "c1" });
  checkMeta(meta, { clusterId: "anything" });
  assert.throws(() => checkMeta(joined, { nodeName: "b" }), { code: "STORAGE_FOREIGN", message: /"a".*"b"/ });
  assert.throws(() => checkMeta(joined, { systemIdentifier: "99" }), { message: /7300000000000000001.*"99"/ });
  assert.throws(() => checkMeta(joined, { clusterId: "c2" }), { message: /"c1".*"c2"/ });
});

it("pledges survive, and damage to them halts", async (t) => {
  const dir = await temporaryDir(t);
  assert.deepEqual(await readNodeState(dir), emptyNodeState);
  const state = { ...emptyNodeState, pledge: "4.17", pointedAt: "3.9" };
  await writeNodeState(dir, state);
  assert.deepEqual(await readNodeState(dir), state);
  const path = join(dir, "node-state");
  await writeFile(path, (await readFile(path, "utf8")).replace("4.17", "4.16"));
  await assert.rejects(readNodeState(dir), { code: "STORAGE_CORRUPT" });
});

it("a file is replaced as a whole, with its mode", async (t) => {
  const path = join(await temporaryDir(t), "file");
  await writeFileAtomically(path, "one", 0o640);
  await writeFileAtomically(path, "two", 0o600);
  assert.equal(await readFile(path, "utf8"), "two");
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  await assert.rejects(writeFileAtomically(join(path, "below"), "x"), { code: "STORAGE_IO" });
});

it("a state directory is locked once, and free again after release", async (t) => {
  const dir = await temporaryDir(t);
  const lock = await lockStateDir(dir, 0);
  await assert.rejects(lockStateDir(dir, 0), { code: "STORAGE_IN_USE", message: new RegExp(`process ${process.pid}`) });
  await lock.release();
  await (await lockStateDir(dir, 0)).release();
});

it("the lock of a killed holder is taken over", async (t) => {
  const dir = await temporaryDir(t);
  const module = new URL("../../../src/storage/index.js", import.meta.url).href;
  const program = `const { lockStateDir } = await import(${JSON.stringify(module)});
    await lockStateDir(${JSON.stringify(dir)}, 0); console.log("locked"); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  await once(child.stdout, "data");
  await assert.rejects(lockStateDir(dir, 0), { code: "STORAGE_IN_USE", message: new RegExp(`process ${child.pid}`) });
  const waiting = lockStateDir(dir, 10_000);
  child.kill("SIGKILL");
  await (await waiting).release();
});
