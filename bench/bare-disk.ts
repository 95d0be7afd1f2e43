/** What one durable append costs here without anything around it: the limit of a commit. */
import { type FileHandle, open, rm, statfs } from "node:fs/promises";
import { join } from "node:path";

/** @returns milliseconds of each append of so many bytes followed by fdatasync */
export function bareAppends(directory: string, count: number, bytes: number): Promise<number[]> {
  return bareMajorityAppends(directory, count, bytes, 1);
}

/**
 * The same for so many files at once, as when all nodes of a group have their logs on one disk: each time ends when most
 * of the files are durable. Needs a libuv thread for each file (UV_THREADPOOL_SIZE).
 */
export async function bareMajorityAppends(
  directory: string,
  count: number,
  bytes: number,
  files: number,
): Promise<number[]> {
  const block = Buffer.alloc(bytes, 0x61);
  const paths = Array.from({ length: files }, (_, at) => join(directory, `bare${at}`));
  const handles: FileHandle[] = [];
  try {
    for (const path of paths) handles.push(await open(path, "wx", 0o600));
    const times: number[] = [];
    for (let number = 0; number < count; number++) {
      const startMs = performance.now();
      const ends = await Promise.all(
        handles.map(async (handle) => {
          await handle.write(block, 0, bytes, number * bytes);
          await handle.datasync();
          return performance.now();
        }),
      );
      times.push((ends.sort((a, b) => a - b)[files >> 1] as number) - startMs);
    }
    return times;
  } finally {
    for (const handle of handles) await handle.close();
    for (const path of paths) await rm(path, { force: true });
  }
}

const fileSystems: ReadonlyMap<number, string> = new Map([
  [0xef53, "ext4"],
  [0x58465342, "xfs"],
  [0x9123683e, "btrfs"],
  [0x2fc12fc1, "zfs"],
  [0x794c7630, "overlayfs"],
  [0x01021994, "tmpfs"],
]);

export async function fileSystemOf(directory: string): Promise<string> {
  const { type } = await statfs(directory);
  return fileSystems.get(type) ?? `type 0x${type.toString(16)}`;
}
