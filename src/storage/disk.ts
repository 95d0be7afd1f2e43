/**
 * The few disk operations that durability rests on, behind one small interface so that tests can make each of them
 * fail or stop half-way. Everything that must survive a power cut goes through here.
 */
import type { FileHandle } from "node:fs/promises";
import { open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { ioError } from "./errors.js";

export interface Disk {
  write(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void>;
  /** File contents and size are on the medium when it resolves. */
  sync(handle: FileHandle): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  syncDirectory(dir: string): Promise<void>;
}

export const realDisk: Disk = {
  async write(handle, bytes, position) {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await handle.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  },
  sync: (handle) => handle.datasync(),
  rename,
  async syncDirectory(dir) {
    const handle = await open(dir, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  },
};

/** Where {@link writeFileAtomically} prepares a file; a left-over of a crash is never read. */
export function temporaryPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.tmp`);
}

/**
 * Replaces `path` as a whole: after a crash it has the old or the new contents, and the new ones once this resolves
 * (temporary file, sync, rename, sync of the directory).
 *
 * @param mode permission bits, 0600 when left out.
 * @throws StorageError STORAGE_IO
 */
export async function writeFileAtomically(
  path: string,
  data: Uint8Array | string,
  mode = 0o600,
  disk: Disk = realDisk,
): Promise<void> {
  const temporary = temporaryPath(path);
  try {
    await rm(temporary, { force: true });
    const handle = await open(temporary, "wx", mode);
    try {
      await handle.chmod(mode);
      await disk.write(handle, typeof data === "string" ? Buffer.from(data) : data, 0);
      await disk.sync(handle);
    } finally {
      await handle.close();
    }
    await disk.rename(temporary, path);
    await disk.syncDirectory(dirname(path));
  } catch (error) {
    throw ioError(path, "writing", error);
  }
}
