/**
 * Reads `raft-log` and decides, for the first batch that is not intact, between a torn tail (written but never
 * acknowledged: dropped) and damage to acknowledged data (halt). Rule 47: the next batch is written only after the
 * previous one is synced, so only the very last one can be legitimately incomplete.
 *
 * Not decidable here: bit rot in exactly the last batch. The first batch of a file is exempt (it was synced before the
 * file had its name), and every open rewrites the file into one first batch.
 */
import type { ScannedBatch } from "./batch-codec.js";
import { baseFlag, batchFormatVersion, batchMagic, readBatch, readHeader } from "./batch-codec.js";
import { corrupt, StorageError } from "./errors.js";

export interface LogScan {
  readonly batches: readonly ScannedBatch[];
  /** Bytes of an unacknowledged last batch that are to be dropped. */
  readonly tornBytes: number;
}

export function scanLog(path: string, file: Buffer): LogScan {
  const batches: ScannedBatch[] = [];
  let end = 0;
  while (end < file.length) {
    const batch = read(path, file, end);
    if (batch === null) break;
    checkVersion(path, batch.version, end);
    const previous = batches.at(-1);
    if (previous === undefined ? (batch.flags & baseFlag) === 0 : !follows(batch, previous)) {
      throw corrupt(path, `the batch at byte ${end} does not follow the one before it`);
    }
    batches.push(batch);
    end = batch.end;
  }
  const last = batches.at(-1);
  if (last === undefined) throw damagedStart(path, file);
  if (end < file.length) checkTorn(path, file, end, last);
  return { batches, tornBytes: file.length - end };
}

function read(path: string, file: Buffer, offset: number): ScannedBatch | null {
  try {
    return readBatch(file, offset);
  } catch (error) {
    // The checksum is right and the contents are not: this was written so, and no disk did it.
    throw corrupt(path, `the batch at byte ${offset} cannot be decoded (${String(error)})`);
  }
}

function follows(batch: ScannedBatch, previous: ScannedBatch): boolean {
  return batch.sequence === previous.sequence + 1 && batch.previousCrc === previous.crc;
}

function damagedStart(path: string, file: Buffer): StorageError {
  const header = safeHeader(file, 0);
  if (header !== null && header.version !== batchFormatVersion) return wrongVersion(path, header.version, 0);
  if (file.length >= 4 && !file.subarray(0, 4).equals(batchMagic)) {
    return corrupt(path, "this is not a Raft log, or its first bytes are damaged");
  }
  return corrupt(path, "the first batch, which was durable before the file got its name, is damaged");
}

/** Whatever is found after the damage tells whether the damaged batch was known to be synced. */
function checkTorn(path: string, file: Buffer, damaged: number, last: ScannedBatch): void {
  const sequence = last.sequence + 1;
  for (let at = file.indexOf(batchMagic, damaged); at !== -1; at = file.indexOf(batchMagic, at + 1)) {
    const header = safeHeader(file, at);
    if (header === null) continue;
    // The batch's own, half-written header.
    if (header.sequence <= sequence) continue;
    throw corrupt(
      path,
      `batch ${sequence} at byte ${damaged} is damaged, but batch ${header.sequence} at byte ${at} was written after it: it was durable once`,
    );
  }
}

function safeHeader(file: Buffer, at: number): ReturnType<typeof readHeader> {
  try {
    return readHeader(file, at);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

function checkVersion(path: string, version: number, at: number): void {
  if (version !== batchFormatVersion) throw wrongVersion(path, version, at);
}

function wrongVersion(path: string, version: number, at: number): StorageError {
  return new StorageError(
    "STORAGE_FORMAT",
    path,
    `the batch at byte ${at} has format version ${version}, this program knows version ${batchFormatVersion}`,
    "Start the version of pg_replica that wrote it.",
  );
}
