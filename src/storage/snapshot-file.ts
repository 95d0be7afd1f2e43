/**
 * Bytes of the `snapshot` file, little-endian. Index, term and configuration are under the same checksum as the data
 * (rule 45).
 *
 *   0  magic "PGRS"         16  term (u64)                   36  CRC of bytes 0..35, configuration and data
 *   4  format version (u32) 24  configuration length (u32)   40  configuration (JSON), then data
 *   8  index (u64)          28  data length (u64)
 */
import type { Configuration, Snapshot } from "../raft/types.js";
import { parseConfiguration, readInteger } from "./batch-codec.js";
import { crc32c } from "./crc32c.js";
import { corrupt, StorageError } from "./errors.js";

const magic = Buffer.from("PGRS", "latin1");
const headerBytes = 40;
const formatVersion = 1;

const emptyConfiguration: Configuration = {
  voters: [],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
};

/** Stands for "no snapshot yet". */
export const noSnapshot: Snapshot = { index: 0, term: 0, config: emptyConfiguration, data: new Uint8Array(0) };

export function encodeSnapshot(snapshot: Snapshot): Buffer {
  const config = Buffer.from(JSON.stringify(snapshot.config));
  const bytes = Buffer.concat([Buffer.alloc(headerBytes), config, snapshot.data]);
  magic.copy(bytes, 0);
  bytes.writeUInt32LE(formatVersion, 4);
  bytes.writeBigUInt64LE(BigInt(snapshot.index), 8);
  bytes.writeBigUInt64LE(BigInt(snapshot.term), 16);
  bytes.writeUInt32LE(config.length, 24);
  bytes.writeBigUInt64LE(BigInt(snapshot.data.length), 28);
  bytes.writeUInt32LE(snapshotCrc(bytes), 36);
  return bytes;
}

function snapshotCrc(bytes: Buffer): number {
  return crc32c(bytes.subarray(headerBytes), crc32c(bytes.subarray(0, 36)));
}

/** Pure. @throws StorageError when a single bit is wrong. */
export function decodeSnapshot(path: string, bytes: Buffer): Snapshot {
  if (bytes.length < headerBytes || !bytes.subarray(0, 4).equals(magic)) {
    throw corrupt(path, "this is not a snapshot, or its first bytes are damaged");
  }
  if (snapshotCrc(bytes) !== bytes.readUInt32LE(36)) throw corrupt(path, "the snapshot's checksum is wrong");
  const version = bytes.readUInt32LE(4);
  if (version !== formatVersion) {
    throw new StorageError(
      "STORAGE_FORMAT",
      path,
      `format version ${version}, this program knows version ${formatVersion}`,
      "Start the version of pg_replica that wrote it.",
    );
  }
  try {
    return decodeBody(bytes);
  } catch (error) {
    // The checksum is right and the contents are not: this was written so, and no disk did it.
    throw corrupt(path, `the snapshot cannot be decoded (${String(error)})`);
  }
}

function decodeBody(bytes: Buffer): Snapshot {
  const configBytes = bytes.readUInt32LE(24);
  const dataBytes = readInteger(bytes, 28);
  if (bytes.length !== headerBytes + configBytes + dataBytes) throw new RangeError("its length is wrong");
  return {
    index: readInteger(bytes, 8),
    term: readInteger(bytes, 16),
    config: parseConfiguration(bytes.subarray(headerBytes, headerBytes + configBytes)),
    data: new Uint8Array(bytes.subarray(headerBytes + configBytes)),
  };
}
