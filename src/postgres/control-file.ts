/** Reads global/pg_control of PostgreSQL 13 to 18 while the server is down. Source: src/include/catalog/pg_control.h. */
import { readFileSync } from "node:fs";
import { endianness } from "node:os";
import { join } from "node:path";
import { formatLsn } from "../control/lsn.js";
import { crc32c } from "../storage/crc32c.js";
import type { ControlFile } from "./types.js";

export class ControlFileError extends Error {
  override readonly name = "ControlFileError";
  constructor(
    readonly code: "CONTROL_FILE_UNREADABLE" | "CONTROL_FILE_VERSION" | "CONTROL_FILE_DAMAGED",
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** What the rejoin needs beyond `ControlFile`. */
export interface ControlFileDetails extends ControlFile {
  /** Bytes in one WAL segment. */
  readonly walSegmentBytes: number;
  readonly walLogHints: boolean;
  /** How far a standby must replay to be consistent; "0/0" on a primary. */
  readonly minRecoveryPoint: string;
  readonly minRecoveryPointTimeline: number;
}

/** enum DBState. */
const states = [
  "starting up",
  "shut down",
  "shut down in recovery",
  "shutting down",
  "in crash recovery",
  "in archive recovery",
  "in production",
] as const;

/** Byte offset of the CRC by pg_control version; everything read below lies at the same place in all of them. */
const crcOffset: Readonly<Record<number, number>> = {
  1300: 288, // 13 to 16
  1700: 288, // 17
  1800: 292, // 18 added default_char_signedness before the nonce
};

/** floatFormat: a constant that comes out wrong when the layout or the byte order is another one. */
const floatProbe = 1234567.0;

/**
 * @param pgdata the data directory, or a directory that holds a copy of its `global/`
 * @throws ControlFileError when the file cannot be read, is of another version, or its CRC is wrong. The server writes it
 *   without a lock against readers: a reader of a running server repeats a read that found damage.
 */
export function readControlFile(pgdata: string): ControlFileDetails {
  const path = join(pgdata, "global", "pg_control");
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ControlFileError("CONTROL_FILE_UNREADABLE", `cannot read ${path}: ${why}`, { cause: error });
  }
  return parseControlFile(bytes, path);
}

/** As `readControlFile`, for content that is already in memory; `path` is for messages only. */
export function parseControlFile(bytes: Buffer, path: string): ControlFileDetails {
  const little = endianness() === "LE";
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const int32 = (offset: number) => view.getUint32(offset, little);
  const int64 = (offset: number) => view.getBigUint64(offset, little);
  if (bytes.length < 296) {
    throw new ControlFileError("CONTROL_FILE_DAMAGED", `${path} has only ${bytes.length} bytes`);
  }
  const version = int32(8);
  const crcAt = crcOffset[version];
  if (crcAt === undefined) {
    const message = `${path} has pg_control version ${version}; known are 1300, 1700 and 1800 (PostgreSQL 13 to 18)`;
    throw new ControlFileError("CONTROL_FILE_VERSION", message);
  }
  const computed = crc32c(bytes.subarray(0, crcAt));
  if (computed !== int32(crcAt) || view.getFloat64(208, little) !== floatProbe) {
    throw new ControlFileError("CONTROL_FILE_DAMAGED", `${path} is damaged: its checksum does not match its content`);
  }
  const state = states[int32(16)];
  if (state === undefined) {
    throw new ControlFileError("CONTROL_FILE_DAMAGED", `${path} holds an unknown state ${int32(16)}`);
  }
  return {
    systemIdentifier: int64(0).toString(),
    state,
    checkpointLsn: formatLsn(int64(32)),
    redoLsn: formatLsn(int64(40)),
    timeline: int32(48),
    minRecoveryPoint: formatLsn(int64(136)),
    minRecoveryPointTimeline: int32(144),
    walLogHints: bytes[176] === 1,
    walSegmentBytes: int32(228),
    dataChecksums: int32(252) !== 0,
  };
}
