/** Damaged state files: a typed refusal or what was really written, never another error and never a wrong entry. */
import { isDeepStrictEqual } from "node:util";
import { encodeBatch } from "../src/storage/batch-codec.js";
import { encodeCheckedJson } from "../src/storage/checked-json.js";
import { crc32c } from "../src/storage/crc32c.js";
import { StorageError } from "../src/storage/errors.js";
import { decodeMeta } from "../src/storage/meta.js";
import { decodeNodeState, emptyNodeState } from "../src/storage/node-state.js";
import { recoverState } from "../src/storage/recovery.js";
import { decodeSnapshot, encodeSnapshot } from "../src/storage/snapshot-file.js";
import { type Layout, makeLayout, verdictOf } from "./damaged-logs.js";
import { damageBytes, randomBytes, splice } from "./mutations.js";
import type { Random } from "./random.js";

/** "prefix": less than all, rightly; "forged": damage under a checksum that was made right again. */
export type FuzzOutcome = "refused" | "prefix" | "whole" | "forged";

export class FuzzFailure extends Error {
  override readonly name = "FuzzFailure";
}

const layouts: readonly Layout[] = [1, 2, 3, 5, 8].flatMap((batches) => [
  makeLayout({ name: "sealed", batches, sealed: true, growthBytes: 512 }),
  makeLayout({ name: "not sealed", batches, sealed: false, growthBytes: 256 }),
  makeLayout({ name: "not allocated", batches, sealed: false, growthBytes: 0 }),
]);

const paths = { log: "raft-log", snapshot: "snapshot" };

/** Null when it is refused as it should be. */
function orRefused<T>(read: () => T): { value: T } | null {
  try {
    return { value: read() };
  } catch (error) {
    if (error instanceof StorageError && (error.code === "STORAGE_CORRUPT" || error.code === "STORAGE_FORMAT"))
      return null;
    throw error;
  }
}

function recoverLog(log: Buffer) {
  return orRefused(() => recoverState(paths, { log, snapshot: null, formatted: true }).initial);
}

function fuzzLog(random: Random): FuzzOutcome {
  const layout = random.pick(layouts);
  const { batches, images, items, file } = layout;
  let damaged = file;
  if (random.chance(0.3)) damaged = splice(damaged, random.pick(images), random);
  if (random.chance(0.3)) damaged = rearranged(layout, random);
  if (random.chance(0.7)) damaged = damageBytes(damaged, random);
  const verdict = verdictOf(layout, damaged);
  const found = recoverLog(damaged);
  if (found === null) {
    if (verdict !== "halt") throw new FuzzFailure(`refused, although ${verdict} of ${batches.length} batches are good`);
    return "refused";
  }
  if (verdict === "halt") throw new FuzzFailure(`accepted with ${found.value.entries.length} entries`);
  const wanted = recoverLog(images[verdict - 1]!);
  if (!isDeepStrictEqual(found, wanted)) throw new FuzzFailure(`not the state after ${verdict} of ${items.length}`);
  return verdict === batches.length ? "whole" : "prefix";
}

/** Whole batches in another order, some of them twice or not at all. */
function rearranged({ batches, file }: Layout, random: Random): Buffer {
  const places = Array.from({ length: random.integer(1, batches.length + 2) }, () => random.pick(batches));
  const bytes = Buffer.concat((random.chance(0.5) ? [batches[0]!, ...places] : places).map((batch) => batch.bytes));
  return Buffer.concat([bytes, Buffer.alloc(Math.max(0, file.length - bytes.length))]);
}

/** A body that no encoder makes, under checksums that are right. */
function fuzzForgedLog(random: Random): FuzzOutcome {
  const layout = random.pick(layouts);
  const first = layout.batches[0]!;
  const good = encodeBatch({ sequence: 1, previousCrc: 0, knownSynced: 1, flags: 1 }, { entries: [] }).bytes;
  const body = damageBytes(
    random.chance(0.5) ? first.bytes.subarray(52) : layout.batches.at(-1)!.bytes.subarray(52),
    random,
  );
  const forged = Buffer.concat([random.chance(0.5) ? good : first.bytes.subarray(0, 52), body]);
  forged.writeUInt32LE(random.chance(0.8) ? body.length : random.integer(0, 2 ** 31), 16);
  if (random.chance(0.3)) randomBytes(random, 8).copy(forged, random.pick([4, 8, 20, 28, 36]));
  forged.writeUInt32LE(crc32c(forged.subarray(0, 44)), 44);
  forged.writeUInt32LE(crc32c(forged.subarray(52), crc32c(forged.subarray(0, 48))), 48);
  return recoverLog(forged) === null ? "refused" : "forged";
}

function fuzzSnapshot(random: Random): FuzzOutcome {
  const voters = [1, 2, random.integer(3, 9)];
  const config = { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: random.chance(0.5) };
  const snapshot = {
    index: random.integer(1, 1e9),
    term: random.integer(1, 1e6),
    config,
    data: new Uint8Array(randomBytes(random, random.integer(0, 300))),
  };
  const bytes = encodeSnapshot(snapshot);
  const damaged = random.chance(0.02) ? bytes : Buffer.from(damageBytes(bytes, random));
  const forge = random.chance(0.3) && damaged.length >= 40;
  if (forge) damaged.writeUInt32LE(crc32c(damaged.subarray(40), crc32c(damaged.subarray(0, 36))), 36);
  const found = orRefused(() => decodeSnapshot("snapshot", damaged));
  if (found === null) return same(damaged, bytes) ? fail("a good snapshot was refused") : "refused";
  if (forge) return "forged";
  return isDeepStrictEqual(found.value, snapshot) ? "whole" : fail("a wrong snapshot was accepted");
}

const meta = {
  format: 1,
  nodeName: "a",
  incarnation: "0123456789abcdef",
  clusterId: "c1",
  systemIdentifier: "7300000000000000001",
  raftId: 3,
} as const;

function fuzzJson(random: Random): FuzzOutcome {
  const isMeta = random.chance(0.5);
  const value = isMeta ? meta : { ...emptyNodeState, pledge: "4.17" };
  const bytes = encodeCheckedJson(value);
  let damaged = damageBytes(bytes, random);
  const forge = random.chance(0.3);
  if (forge) {
    const json = damaged.subarray(0, Math.max(0, damaged.length - 17));
    damaged = Buffer.concat([json, Buffer.from(`\ncrc32c ${crc32c(json).toString(16).padStart(8, "0")}\n`)]);
  }
  const found = orRefused<object>(() =>
    isMeta ? decodeMeta("meta", damaged) : decodeNodeState("node-state", damaged),
  );
  if (found === null) return same(damaged, bytes) ? fail("a good file was refused") : "refused";
  if (forge) return "forged";
  return isDeepStrictEqual(found.value, value) ? "whole" : fail("wrong contents were accepted");
}

function same(a: Buffer, b: Buffer): boolean {
  return a.equals(b);
}

function fail(what: string): never {
  throw new FuzzFailure(what);
}

/** One case. @throws whatever is a bug. */
export function fuzzStorage(random: Random): FuzzOutcome {
  const kind = random.uniform();
  if (kind < 0.6) return fuzzLog(random);
  if (kind < 0.75) return fuzzForgedLog(random);
  return kind < 0.9 ? fuzzSnapshot(random) : fuzzJson(random);
}
