/** What one durable append costs here without anything around it: the limit of a commit. */
import { open, rm, statfs } from "node:fs/promises";
import { join } from "node:path";

/** @returns milliseconds of each append of so many bytes followed by fdatasync */
export async function bareAppends(directory: string, count: number, bytes: number): Promise<number[]> {
  const path = join(directory, "bare");
  const block = Buffer.alloc(bytes, 0x61);
  const handle = await open(path, "wx", 0o600);
  try {
    const times: number[] = [];
    for (let number = 0; number < count; number++) {
      const startMs = performance.now();
      await handle.write(block, 0, bytes, number * bytes);
      await handle.datasync();
      times.push(performance.now() - startMs);
    }
    return times;
  } finally {
    await handle.close();
    await rm(path, { force: true });
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
