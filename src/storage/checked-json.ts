/** Small JSON files that people may read and nobody may edit: one line of JSON, one line with its CRC. */
import { readFile } from "node:fs/promises";
import { crc32c } from "./crc32c.js";
import { writeFileAtomically } from "./disk.js";
import { corrupt, errorCode, ioError } from "./errors.js";

/** @returns null when there is no such file. */
export async function readCheckedJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw ioError(path, "reading", error);
  }
  const match = /^(.*)\ncrc32c ([0-9a-f]{8})\n$/s.exec(text);
  if (match === null) throw corrupt(path, "this is not a file of pg_replica, or it is damaged");
  if (checksum(match[1]!) !== match[2]) throw corrupt(path, "the checksum is wrong: the file was edited or damaged");
  try {
    return JSON.parse(match[1]!);
  } catch (error) {
    throw corrupt(path, `the contents are not JSON (${String(error)})`);
  }
}

export async function writeCheckedJson(path: string, value: object): Promise<void> {
  const json = JSON.stringify(value);
  await writeFileAtomically(path, `${json}\ncrc32c ${checksum(json)}\n`, 0o600);
}

function checksum(text: string): string {
  return crc32c(Buffer.from(text)).toString(16).padStart(8, "0");
}
