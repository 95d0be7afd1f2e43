/** What is in pg_wal, by file name: 8 hex digits of timeline, 8 of the high half of the LSN, 8 of the segment in it. */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Lsn } from "../control/types.js";

const segmentName = /^[0-9A-F]{24}$/;

/**
 * Where the oldest WAL segment that this server still has begins, on whatever timeline; null when it has none. A standby
 * that needs something older can not stream from here any more.
 */
export async function oldestWalLsn(pgdata: string): Promise<Lsn | null> {
  const directory = join(pgdata, "pg_wal");
  const segments = (await readdir(directory)).filter((name) => segmentName.test(name));
  const oldest = segments.reduce<string | null>(
    (best, name) => (best === null || name.slice(8) < best.slice(8) ? name : best),
    null,
  );
  if (oldest === null) return null;
  // Every segment file has the full size from the moment it carries its name.
  const { size } = await stat(join(directory, oldest)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return { size: 0 };
    throw error;
  });
  if (size === 0) return null;
  const high = Number.parseInt(oldest.slice(8, 16), 16);
  const low = Number.parseInt(oldest.slice(16), 16) * size;
  return `${high.toString(16).toUpperCase()}/${low.toString(16).toUpperCase()}`;
}
