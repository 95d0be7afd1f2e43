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
  /** What batches say of the file's length, and where each batch ends. */
  readonly lengths: readonly RecordedLength[];
}

interface RecordedLength {
  readonly end: number;
  readonly allocated: number;
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
  const length = encodeFirstBatch(first, first.chain).bytes.length;
  const head = encodeFirstBatch(first, first.chain, allocatedFor(length));
  const firstBytes = head.bytes;
  let { chain } = head;
  const parts: Buffer[] = [firstBytes];
  let end = firstBytes.length;
  let allocated = allocatedFor(end);
  let lastStart = 0;
  const lengths: RecordedLength[] = [{ end, allocated }];
  for (const batch of synced) {
    const next = encoded(batch, chain, end, allocated);
    lastStart = end;
    parts.push(next.bytes);
    ({ chain, allocated } = next);
    end += next.bytes.length;
    lengths.push({ end, allocated });
  }
  const newest = unsynced === null ? null : encoded(unsynced.batch, chain, end, allocated);
  if (newest !== null) ({ allocated } = newest);
  const bytes = Buffer.alloc(allocated);
  Buffer.concat(parts).copy(bytes);
  if (sealed && synced.length > 0) encodeSeal(chain, allocatedFor(end)).copy(bytes, end);
  if (unsynced !== null && newest !== null) lay(bytes, newest.bytes, end, unsynced.survival, random);
  const sealStands = sealed && unsynced === null;
  return { bytes, chain, provenBytes: sealStands || synced.length === 0 ? end : lastStart, lengths };
}

export function snapshotImage(snapshot: Snapshot): Buffer | null {
  return snapshot.index === 0 ? null : encodeSnapshot(snapshot);
}

function encoded({ hardState, entries }: LoggedBatch, { sequence, crc }: Chain, at: number, allocatedBytes: number) {
  const header = { sequence: sequence + 1, previousCrc: crc, knownSynced: sequence, flags: 0, allocatedBytes };
  let result = encodeBatch(header, { hardState, entries });
  // The file grows, durably, before the batch that needs it is written.
  const allocated = Math.max(allocatedBytes, allocatedFor(at + result.bytes.length));
  if (allocated > allocatedBytes)
    result = encodeBatch({ ...header, allocatedBytes: allocated }, { hardState, entries });
  return { bytes: result.bytes, chain: { sequence: sequence + 1, crc: result.crc }, allocated };
}

/** The file's length when batches reach up to `end`: there is room for the seal. */
function allocatedFor(end: number): number {
  return Math.ceil((end + batchHeaderBytes) / growthBytes) * growthBytes;
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

/** Spoils what is provably durable. @returns the log as it is read back, or null when nothing changed. */
export function damagedLog({ bytes, provenBytes, lengths }: LogImage, damage: Damage, random: Random): Buffer | null {
  if (damage !== "cut") return damaged(bytes, provenBytes, damage, random);
  const at = random.integer(0, provenBytes - 1);
  // A cut in front of the first batch of a new allocation is not decidable (docs/storage.md section 7).
  const isNoticed =
    at < (lengths[0] as RecordedLength).end || lengths.some(({ end, allocated }) => end <= at && at < allocated);
  return isNoticed ? Buffer.from(bytes.subarray(0, at)) : null;
}

/** @returns null when nothing changed. */
export function damaged(
  file: Buffer,
  provenBytes: number,
  damage: Exclude<Damage, "cut">,
  random: Random,
): Buffer | null {
  const at = random.integer(0, provenBytes - 1);
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
