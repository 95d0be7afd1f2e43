/** Small JSON files that people may read and nobody may edit: one line of JSON, one line with its CRC. */
import { crc32c } from "./crc32c.js";
import { type Disk, realDisk, writeFileAtomically } from "./disk.js";
import { corrupt, ioError } from "./errors.js";

/** "\ncrc32c 01234567\n" */
const trailerBytes = 17;

export function encodeCheckedJson(value: object): Buffer {
  const json = Buffer.from(JSON.stringify(value));
  return Buffer.concat([json, trailer(json)]);
}

/** Pure. @throws StorageError STORAGE_CORRUPT when a single bit is wrong. */
export function decodeCheckedJson(path: string, bytes: Buffer): unknown {
  const json = bytes.subarray(0, Math.max(0, bytes.length - trailerBytes));
  const found = bytes.subarray(json.length);
  if (!/^\ncrc32c [0-9a-f]{8}\n$/.test(found.toString("latin1"))) {
    throw corrupt(path, "this is not a file of pg_replica, or it is damaged");
  }
  if (!trailer(json).equals(found)) throw corrupt(path, "the checksum is wrong: the file was edited or damaged");
  try {
    return JSON.parse(json.toString("utf8"));
  } catch (error) {
    throw corrupt(path, `the contents are not JSON (${String(error)})`);
  }
}

function trailer(json: Buffer): Buffer {
  return Buffer.from(`\ncrc32c ${crc32c(json).toString(16).padStart(8, "0")}\n`);
}

/** @returns null when there is no such file. */
export async function readCheckedJson(path: string, disk: Disk = realDisk): Promise<unknown> {
  let bytes: Buffer | null;
  try {
    bytes = await disk.read(path);
  } catch (error) {
    throw ioError(path, "reading", error);
  }
  return bytes === null ? null : decodeCheckedJson(path, bytes);
}

export async function writeCheckedJson(path: string, value: object, disk: Disk = realDisk): Promise<void> {
  await writeFileAtomically(path, encodeCheckedJson(value), 0o600, disk);
}
