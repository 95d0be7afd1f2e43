/**
 * Brings the WAL that a rewound node needs before it is consistent. pg_rewind copies the source's pg_wal file by file and
 * then notes the source's position as the point of consistency: what was written in between is in no file it has copied.
 * The server starts without an upstream and lets nobody in until it is consistent, so the WAL must be here before.
 */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { fsyncDirectory } from "../durable-file.js";
import { readSourceSegment, type Source } from "./source.js";
import { segmentName } from "./wal-chain.js";

export interface WalWish {
  readonly source: Source;
  /** pg_wal of the rewound directory. */
  readonly directory: string;
  /** Where the source was before pg_rewind looked at it: everything before is in the files that it copied. */
  readonly fromLsn: bigint;
  /** The rewound node's point of consistency. */
  readonly toLsn: bigint;
  readonly segmentBytes: number;
}

/** Null when all of it is here; otherwise the segment that the source does not have any more. */
export async function fetchWal(wish: WalWish): Promise<string | null> {
  const size = BigInt(wish.segmentBytes);
  for (let segment = wish.fromLsn / size; segment * size < wish.toLsn; segment += 1n) {
    const name = segmentName(wish.source.timeline, segment, size);
    const left = wish.toLsn - segment * size;
    const needed = Number(left < size ? left : size);
    if ((await fetchSegment(wish, name)) < needed) return name;
  }
  return null;
}

/** Whole, under another name until it is durable. */
async function fetchSegment(wish: WalWish, name: string): Promise<number> {
  const temporary = join(wish.directory, `${name}.fetching`);
  const file = openSync(temporary, "w", 0o600);
  let bytes: number;
  try {
    bytes = await readSourceSegment(wish.source, name, wish.segmentBytes, (piece) => {
      for (let at = 0; at < piece.length; ) at += writeSync(file, piece, at);
    });
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  if (bytes === wish.segmentBytes) {
    renameSync(temporary, join(wish.directory, name));
    fsyncDirectory(wish.directory);
  } else {
    rmSync(temporary);
  }
  return bytes;
}
