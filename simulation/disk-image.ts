/**
 * The bytes that a simulated disk holds after a crash: encoded by the product's own codec, with what was not synced lost
 * or torn, and damage laid over them. Only made at a crash; while a node runs, its disk is objects.
 */
import type { Entry, HardState, Snapshot } from "../src/raft/types.js";
import { batchHeaderBytes, type Chain, encodeBatch, encodeSeal, type LogBase } from "../src/storage/batch-codec.js";
import { encodeFirstBatch } from "../src/storage/recovery.js";
import { encodeSnapshot } from "../src/storage/snapshot-file.js";
import type { Random } from "./random.js";

export interface LoggedBatch {
  readonly hardState: HardState;
  readonly entries: readonly Entry[];
}

/** What the log file was made of when it got its name. */
export interface FirstBatch extends LoggedBatch {
  readonly base: LogBase;
  readonly chain: Chain;
}

export interface LogImage {
  readonly bytes: Buffer;
  readonly chain: Chain;
  /** Up to here damage must be noticed: everything in front of it is provably synced. */
  readonly provenBytes: number;
}

/** How much of a batch that was not synced is on the medium. */
export type Survival = "all" | "prefix" | "sectors" | "none";

const sectorBytes = 512;
/** As the product allocates its log ahead, in smaller steps. */
const growthBytes = 4096;

/**
 * @param unsynced the batch that was on its way; it lies over the seal, if there is one.
 * @param sealed the mark behind the newest synced batch has reached the medium.
 */
export function logImage(
  first: FirstBatch,
  synced: readonly LoggedBatch[],
  unsynced: { readonly batch: LoggedBatch; readonly survival: Survival } | null,
  sealed: boolean,
  random: Random,
): LogImage {
  const head = encodeFirstBatch(first, first.chain, growthBytes);
  let { chain } = head;
  const parts: Buffer[] = [head.bytes];
  let end = head.bytes.length;
  let lastStart = 0;
  let lastIsFirst = true;
  for (const batch of synced) {
    const bytes = encoded(batch, chain, allocatedFor(end));
    lastStart = end;
    lastIsFirst = false;
    parts.push(bytes.bytes);
    chain = bytes.chain;
    end += bytes.bytes.length;
  }
  const newest = unsynced === null ? null : encoded(unsynced.batch, chain, allocatedFor(end));
  const tailBytes = Math.max(newest?.bytes.length ?? 0, batchHeaderBytes);
  const bytes = Buffer.alloc(Math.max(growthBytes, roundUp(end + tailBytes)));
  Buffer.concat(parts).copy(bytes);
  if (sealed) encodeSeal(chain, allocatedFor(end)).copy(bytes, end);
  if (unsynced !== null && newest !== null) lay(bytes, newest.bytes, end, unsynced.survival, random);
  const sealStands = sealed && unsynced === null;
  return { bytes, chain, provenBytes: sealStands || lastIsFirst ? end : lastStart };
}

export function snapshotImage(snapshot: Snapshot): Buffer | null {
  return snapshot.index === 0 ? null : encodeSnapshot(snapshot);
}

function encoded({ hardState, entries }: LoggedBatch, { sequence, crc }: Chain, allocatedBytes: number) {
  const header = { sequence: sequence + 1, previousCrc: crc, knownSynced: sequence, flags: 0, allocatedBytes };
  const result = encodeBatch(header, { hardState, entries });
  return { bytes: result.bytes, chain: { sequence: sequence + 1, crc: result.crc } };
}

/** The file's length, durable, before anything is written behind `end`. */
function allocatedFor(end: number): number {
  return Math.max(growthBytes, roundUp(end) - growthBytes);
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / growthBytes) * growthBytes;
}

function lay(file: Buffer, batch: Buffer, at: number, survival: Survival, random: Random): void {
  if (survival === "all") batch.copy(file, at);
  else if (survival === "prefix") batch.copy(file, at, 0, random.integer(0, batch.length - 1));
  else if (survival === "sectors") {
    // The medium writes sectors in any order: any set of them may be there.
    for (let from = 0; from < batch.length; ) {
      const to = Math.min(batch.length, (Math.floor((at + from) / sectorBytes) + 1) * sectorBytes - at);
      if (random.chance(0.5)) batch.copy(file, at + from, from, to);
      from = to;
    }
  }
}

export type Damage = "bit flip" | "misdirected sector" | "lost sector" | "cut";
export const damages: readonly Damage[] = ["bit flip", "misdirected sector", "lost sector", "cut"];

/** Spoils what is provably durable. @returns the file as it is read back, or null when nothing changed. */
export function damaged(file: Buffer, provenBytes: number, damage: Damage, random: Random): Buffer | null {
  const at = random.integer(0, provenBytes - 1);
  if (damage === "cut") return Buffer.from(file.subarray(0, at));
  const result = Buffer.from(file);
  if (damage === "bit flip") {
    result[at] = (result[at] as number) ^ (1 << random.integer(0, 7));
    return result;
  }
  const from = at - (at % sectorBytes);
  const to = Math.min(from + sectorBytes, provenBytes);
  if (damage === "lost sector") result.fill(0, from, to);
  else {
    const source = random.integer(0, Math.floor((file.length - 1) / sectorBytes)) * sectorBytes;
    file.copy(result, from, source, source + to - from);
  }
  return result.equals(file) ? null : result;
}
