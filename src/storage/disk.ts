/**
 * The few disk operations that durability rests on, behind one small interface, so that tests can make each of them
 * fail or stop half-way and look at what a power cut would leave. Everything that must survive one goes through here.
 */
import { access, chmod, type FileHandle, mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { errorCode, ioError } from "./errors.js";

export interface DiskFile {
  /** All of `bytes`. Not durable before {@link DiskFile.sync}. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** Contents and size are on the medium when it resolves. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface Disk {
  /** With the directories above it, mode 0700, and durable. */
  makeDirectory(dir: string): Promise<void>;
  /** Null when there is no such file. */
  read(path: string): Promise<Buffer | null>;
  exists(path: string): Promise<boolean>;
  /** A new file; fails when there is one. Its name is not durable before {@link Disk.syncDirectory}. */
  create(path: string, mode: number): Promise<DiskFile>;
  rename(from: string, to: string): Promise<void>;
  /** Nothing happens when there is no such file. */
  remove(path: string): Promise<void>;
  syncDirectory(dir: string): Promise<void>;
}

class RealFile implements DiskFile {
  readonly #handle: FileHandle;

  constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await this.#handle.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  }

  sync(): Promise<void> {
    return this.#handle.datasync();
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

export const realDisk: Disk = {
  async makeDirectory(dir) {
    const first = await mkdir(dir, { recursive: true, mode: 0o700 });
    await chmod(dir, 0o700);
    if (first === undefined) return;
    // From the new directory up to the one that was there before: each of these names is new.
    for (let at = dir; ; at = dirname(at)) {
      await syncRealDirectory(dirname(at));
      if (at === first || at === dirname(at)) return;
    }
  },
  async read(path) {
    return await absentIsNull(readFile(path));
  },
  async exists(path) {
    return (await absentIsNull(access(path).then(() => true))) ?? false;
  },
  async create(path, mode) {
    const handle = await open(path, "wx", mode);
    // The umask of the process has no say.
    await handle.chmod(mode);
    return new RealFile(handle);
  },
  rename,
  remove: (path) => rm(path, { force: true }),
  syncDirectory: syncRealDirectory,
};

async function absentIsNull<T>(found: Promise<T>): Promise<T | null> {
  try {
    return await found;
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
}

async function syncRealDirectory(dir: string): Promise<void> {
  const handle = await open(dir, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Where {@link replaceFile} prepares a file; a left-over of a crash is never read. */
export function temporaryPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.tmp`);
}

/**
 * Replaces `path` as a whole: after a crash it has the old or the new contents, and the new ones once this resolves
 * (temporary file, sync, rename, sync of the directory).
 *
 * @returns the open file.
 * @throws whatever the disk throws.
 */
export async function replaceFile(
  disk: Disk,
  path: string,
  parts: readonly Uint8Array[],
  mode: number,
): Promise<DiskFile> {
  const temporary = temporaryPath(path);
  await disk.remove(temporary);
  const file = await disk.create(temporary, mode);
  try {
    let position = 0;
    for (const part of parts) {
      if (part.length > 0) await file.write(part, position);
      position += part.length;
    }
    await file.sync();
    await disk.rename(temporary, path);
    await disk.syncDirectory(dirname(path));
    return file;
  } catch (error) {
    // The first error is the one to report; on a full disk the half-written file must not stay in the way.
    await file.close().catch(() => undefined);
    await disk.remove(temporary).catch(() => undefined);
    throw error;
  }
}

/**
 * {@link replaceFile} for a small file that is not kept open.
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
  try {
    const file = await replaceFile(disk, path, [typeof data === "string" ? Buffer.from(data) : data], mode);
    await file.close();
  } catch (error) {
    throw ioError(path, "writing", error);
  }
}
