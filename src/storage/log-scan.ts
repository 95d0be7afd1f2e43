/**
 * Reads `raft-log` and decides, for the first batch that is not intact, between a torn tail (written but never
 * acknowledged: dropped) and damage to acknowledged data (halt). Rule 47: the next batch is written only after the
 * previous one is synced, so only the very last one can be legitimately incomplete.
 *
 * The file is allocated ahead of the log: behind the last batch come zeros, or the seal and zeros. What is known to have
 * been synced is said by the batch itself (the first one of a file: it was synced before the file had its name), by the
 * next batch, or by the seal. A file that is shorter than a batch in it says was cut.
 *
 * Not decidable here: damage to exactly the last batch and its seal, or before the seal has reached the disk. Every open
 * rewrites the file into one first batch.
 */
import type { ScannedBatch } from "./batch-codec.js";
import { baseFlag, batchFormatVersion, batchMagic, readBatch, readHeader, sealFlag } from "./batch-codec.js";
import { corrupt, StorageError } from "./errors.js";

export interface LogScan {
  readonly batches: readonly ScannedBatch[];
  /** Bytes of an unacknowledged last batch that are to be dropped; the zeros of the allocation do not count. */
  readonly tornBytes: number;
  /** The last batch is known to be synced by a seal. */
  readonly sealed: boolean;
}

/**
 * Pure: the same bytes give the same verdict.
 *
 * @param path for the messages.
 * @throws StorageError STORAGE_CORRUPT, STORAGE_FORMAT
 */
export function scanLog(path: string, file: Buffer): LogScan {
  const batches: ScannedBatch[] = [];
  let end = 0;
  let sealed = false;
  while (end < file.length) {
    const batch = read(path, file, end);
    if (batch === null) break;
    checkVersion(path, batch.version, end);
    if (!fits(batch, batches.at(-1))) {
      throw corrupt(path, `the batch at byte ${end} does not follow the one before it`);
    }
    checkLength(path, file, batch);
    sealed = (batch.flags & sealFlag) !== 0;
    if (sealed) break;
    batches.push(batch);
    end = batch.end;
  }
  const last = batches.at(-1);
  if (last === undefined) throw damagedStart(path, file);
  // Behind an intact seal there may be the later sectors of a batch that was to overwrite it.
  checkTorn(path, file, end, last);
  return { batches, tornBytes: sealed ? 0 : endOfWritten(file, end) - end, sealed };
}

/** The file without the zeros at its end, but not less than `from`. */
function endOfWritten(file: Buffer, from: number): number {
  let end = file.length;
  while (end > from && file[end - 1] === 0) end--;
  return end;
}

function read(path: string, file: Buffer, offset: number): ScannedBatch | null {
  try {
    return readBatch(file, offset);
  } catch (error) {
    // The checksum is right and the contents are not: this was written so, and no disk did it.
    throw corrupt(path, `the batch at byte ${offset} cannot be decoded (${String(error)})`);
  }
}

function fits(batch: ScannedBatch, previous: ScannedBatch | undefined): boolean {
  const isBase = (batch.flags & baseFlag) !== 0;
  if (isBase !== (batch.body.base !== undefined)) return false;
  if (previous === undefined) return isBase;
  if ((batch.flags & sealFlag) !== 0 && batch.bodyBytes !== 0) return false;
  return !isBase && batch.sequence === previous.sequence + 1 && batch.previousCrc === previous.crc;
}

/** The size is synced before a batch is written into it: no crash makes a file shorter again. */
function checkLength(path: string, file: Buffer, batch: ScannedBatch): void {
  if (file.length >= batch.allocatedBytes) return;
  throw corrupt(
    path,
    `the file has ${file.length} bytes, but had ${batch.allocatedBytes} when batch ${batch.sequence} was written: it was cut`,
  );
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
    // The batch's own, half-written header, or a mark in its place.
    if (header.sequence <= sequence && header.knownSynced < sequence) continue;
    throw corrupt(
      path,
      `batch ${sequence} at byte ${damaged} is damaged, but batch ${header.sequence} at byte ${at} proves that it was durable once`,
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
