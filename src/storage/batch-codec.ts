/**
 * Bytes of one batch of `raft-log` (docs/raft-rules.md R47). All integers little-endian.
 *
 *   0  magic "PGRL"            28  first index (u64, 0: none)
 *   4  format version (u16)    36  newest sequence known to be synced (u64)
 *   6  flags (u16)             44  CRC of bytes 0..43
 *   8  sequence (u64)          48  CRC of bytes 0..47 and the body
 *  16  body length (u32)       52  body
 *  20  bytes allocated to the file before this batch (u32)
 *  24  CRC of the previous batch (u32)
 *
 * The second header CRC tells a damaged header from a damaged body, so that the synced mark of a half-written batch
 * still counts as evidence about its predecessor.
 */
import type { Configuration, Entry, HardState } from "../raft/types.js";
import { crc32c } from "./crc32c.js";

export const batchMagic = Buffer.from("PGRL", "latin1");
export const batchHeaderBytes = 52;
export const batchFormatVersion = 1;
/** First batch of a file: made by temp file and rename, so it was synced before it had a name. */
export const baseFlag = 1;
/**
 * No batch: a mark, without a body, where the next batch will be. It is written after its predecessor was synced and
 * says so, and the next batch overwrites it. Until then it is the second place that knows of the sync (R47).
 */
export const sealFlag = 2;

/** Where the log of a file starts: everything up to here is in the snapshot. */
export interface LogBase {
  readonly index: number;
  readonly term: number;
}

export interface BatchBody {
  readonly base?: LogBase;
  readonly hardState?: HardState;
  readonly entries: readonly Entry[];
}

export interface BatchHeader {
  readonly version: number;
  readonly flags: number;
  readonly sequence: number;
  readonly bodyBytes: number;
  /** The file was at least this long, durably, when the batch was written; 0: not known. */
  readonly allocatedBytes: number;
  readonly previousCrc: number;
  readonly firstIndex: number;
  readonly knownSynced: number;
}

export interface ScannedBatch extends BatchHeader {
  readonly crc: number;
  readonly body: BatchBody;
  readonly end: number;
}

const recordBase = 1;
const recordHardState = 2;
const recordEntry = 3;
const entryTypes = ["noop", "data", "config"] as const;

export interface NewBatchHeader {
  readonly sequence: number;
  readonly previousCrc: number;
  readonly knownSynced: number;
  readonly flags: number;
  readonly allocatedBytes?: number;
}

/** Position in the chain of batches. */
export interface Chain {
  readonly sequence: number;
  readonly crc: number;
}

/** Says that the batch `chain` stands for, the newest one, is synced. */
export function encodeSeal(chain: Chain, allocatedBytes: number): Buffer {
  const { sequence, crc } = chain;
  return encodeBatch(
    { sequence: sequence + 1, previousCrc: crc, knownSynced: sequence, flags: sealFlag, allocatedBytes },
    { entries: [] },
  ).bytes;
}

export function encodeBatch(header: NewBatchHeader, body: BatchBody): { bytes: Buffer; crc: number } {
  const records: Uint8Array[] = [];
  if (body.base !== undefined) records.push(record(recordBase, integers(body.base.index, body.base.term)));
  if (body.hardState !== undefined) {
    const { term, vote, commit } = body.hardState;
    records.push(record(recordHardState, integers(term, vote, commit)));
  }
  for (const entry of body.entries) records.push(record(recordEntry, encodeEntry(entry)));
  const bytes = Buffer.concat([Buffer.alloc(batchHeaderBytes), ...records]);
  batchMagic.copy(bytes, 0);
  bytes.writeUInt16LE(batchFormatVersion, 4);
  bytes.writeUInt16LE(header.flags, 6);
  writeInteger(bytes, header.sequence, 8);
  bytes.writeUInt32LE(bytes.length - batchHeaderBytes, 16);
  bytes.writeUInt32LE(header.allocatedBytes ?? 0, 20);
  bytes.writeUInt32LE(header.previousCrc, 24);
  writeInteger(bytes, body.entries[0]?.index ?? 0, 28);
  writeInteger(bytes, header.knownSynced, 36);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, 44)), 44);
  const crc = batchCrc(bytes);
  bytes.writeUInt32LE(crc, 48);
  return { bytes, crc };
}

function batchCrc(batch: Buffer): number {
  return crc32c(batch.subarray(batchHeaderBytes), crc32c(batch.subarray(0, 48)));
}

/** The header at `offset`, or null when what its own CRC covers is not all there and intact. */
export function readHeader(file: Buffer, offset: number): BatchHeader | null {
  if (offset + 48 > file.length) return null;
  const bytes = file.subarray(offset, offset + 48);
  if (!bytes.subarray(0, 4).equals(batchMagic) || crc32c(bytes.subarray(0, 44)) !== bytes.readUInt32LE(44)) return null;
  return {
    version: bytes.readUInt16LE(4),
    flags: bytes.readUInt16LE(6),
    sequence: readInteger(bytes, 8),
    bodyBytes: bytes.readUInt32LE(16),
    allocatedBytes: bytes.readUInt32LE(20),
    previousCrc: bytes.readUInt32LE(24),
    firstIndex: readInteger(bytes, 28),
    knownSynced: readInteger(bytes, 36),
  };
}

/** The whole batch at `offset`, or null when any byte of it is missing or damaged. */
export function readBatch(file: Buffer, offset: number): ScannedBatch | null {
  const header = readHeader(file, offset);
  if (header === null) return null;
  const end = offset + batchHeaderBytes + header.bodyBytes;
  if (end > file.length) return null;
  const bytes = file.subarray(offset, end);
  const crc = bytes.readUInt32LE(48);
  if (batchCrc(bytes) !== crc) return null;
  // A newer format has a body that this version cannot read; the scan refuses it by its version.
  const body = header.version === batchFormatVersion ? decodeBody(bytes.subarray(batchHeaderBytes)) : { entries: [] };
  return { ...header, crc, body, end };
}

function decodeBody(bytes: Buffer): BatchBody {
  let base: LogBase | undefined;
  let hardState: HardState | undefined;
  const entries: Entry[] = [];
  for (let at = 0; at < bytes.length; ) {
    const type = bytes.readUInt8(at);
    const length = bytes.readUInt32LE(at + 1);
    const payload = bytes.subarray(at + 5, at + 5 + length);
    if (payload.length !== length) throw new RangeError("a record reaches past the end of its batch");
    at += 5 + length;
    if (type === recordBase) base = { index: readInteger(payload, 0), term: readInteger(payload, 8) };
    else if (type === recordHardState) {
      hardState = { term: readInteger(payload, 0), vote: readInteger(payload, 8), commit: readInteger(payload, 16) };
    } else if (type === recordEntry) entries.push(decodeEntry(payload));
    else throw new RangeError(`unknown record type ${type}`);
  }
  return {
    ...(base === undefined ? {} : { base }),
    ...(hardState === undefined ? {} : { hardState }),
    entries,
  };
}

function encodeEntry(entry: Entry): Uint8Array {
  const head = Buffer.alloc(17);
  head.writeUInt8(entryTypes.indexOf(entry.type), 0);
  writeInteger(head, entry.term, 1);
  writeInteger(head, entry.index, 9);
  if (entry.type === "noop") return head;
  return Buffer.concat([head, entry.type === "data" ? entry.data : Buffer.from(JSON.stringify(entry.config))]);
}

function decodeEntry(bytes: Buffer): Entry {
  const type = entryTypes[bytes.readUInt8(0)];
  const term = readInteger(bytes, 1);
  const index = readInteger(bytes, 9);
  const rest = bytes.subarray(17);
  switch (type) {
    case "noop":
      return { term, index, type };
    case "data":
      return { term, index, type, data: new Uint8Array(rest) };
    case "config":
      return { term, index, type, config: parseConfiguration(rest) };
    default:
      throw new RangeError("unknown entry type");
  }
}

/** @throws SyntaxError when the bytes are not a configuration. */
export function parseConfiguration(bytes: Buffer): Configuration {
  const value: unknown = JSON.parse(bytes.toString("utf8"));
  if (!isConfiguration(value)) throw new SyntaxError("not a Raft configuration");
  return value;
}

function isConfiguration(value: unknown): value is Configuration {
  if (typeof value !== "object" || value === null) return false;
  const fields = value as Readonly<Record<string, unknown>>;
  return (
    ["voters", "votersOutgoing", "learners", "learnersNext"].every((key) => isIdList(fields[key])) &&
    typeof fields.autoLeave === "boolean"
  );
}

function isIdList(value: unknown): boolean {
  return Array.isArray(value) && value.every((id) => Number.isSafeInteger(id) && id >= 1);
}

function record(type: number, payload: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(type, 0);
  head.writeUInt32LE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

function integers(...values: number[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [at, value] of values.entries()) writeInteger(bytes, value, 8 * at);
  return bytes;
}

function writeInteger(bytes: Buffer, value: number, at: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`${value} is not a safe unsigned integer`);
  bytes.writeBigUInt64LE(BigInt(value), at);
}

/** Rule 53: an integer that a JavaScript number cannot hold exactly is damage, never rounded. */
export function readInteger(bytes: Buffer, at: number): number {
  const value = Number(bytes.readBigUInt64LE(at));
  if (!Number.isSafeInteger(value)) throw new RangeError(`integer at ${at} is out of range`);
  return value;
}
