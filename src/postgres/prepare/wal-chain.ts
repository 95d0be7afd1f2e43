/**
 * Is all the WAL there that the rewound node will replay? Without this check a node whose WAL was recycled sits for ever
 * in "requested WAL segment has already been removed".
 */
import { timelineName } from "./source.js";

export interface WalChain {
  /** Where replay begins: backup_label, or the redo position of pg_control. */
  readonly startLsn: bigint;
  /** Where the source is. */
  readonly endLsn: bigint;
  readonly timeline: number;
  /** Content of the timeline's history file on the source; "" for timeline 1. */
  readonly history: string;
  readonly segmentBytes: number;
  readonly localFiles: ReadonlySet<string>;
  /** Local files of later segments are recycled ones, with a name but no content; null: all are good. */
  readonly localEndLsn: bigint | null;
  readonly sourceFiles: ReadonlySet<string>;
}

interface Piece {
  readonly timeline: number;
  readonly firstSegment: bigint;
  readonly lastSegment: bigint;
}

/** Names the first segment that is nowhere, or null when the chain is complete. */
export function findMissingSegment(chain: WalChain): string | null {
  const size = BigInt(chain.segmentBytes);
  const pieces = timelinePieces(chain.history, chain.timeline, size);
  const localLast = chain.localEndLsn === null ? null : chain.localEndLsn / size;
  for (let segment = chain.startLsn / size; segment <= chain.endLsn / size; segment += 1n) {
    const names = pieces
      .filter((piece) => piece.firstSegment <= segment && segment <= piece.lastSegment)
      .map((piece) => segmentName(piece.timeline, segment, size));
    const here = localLast === null || segment <= localLast;
    const found = names.some((name) => (here && chain.localFiles.has(name)) || chain.sourceFiles.has(name));
    // A position exactly on the boundary: the next segment holds nothing yet and need not exist.
    const empty = segment * size === chain.endLsn;
    if (!found && !empty) return names.at(-1) ?? segmentName(chain.timeline, segment, size);
  }
  return null;
}

/** Which segments a timeline's files are valid for: at a fork, both sides have the segment. */
function timelinePieces(history: string, last: number, size: bigint): Piece[] {
  const pieces: Piece[] = [];
  let first = 0n;
  for (const line of history.split("\n")) {
    const match = /^\s*(\d+)\s+([0-9A-Fa-f]+)\/([0-9A-Fa-f]+)/.exec(line);
    if (match === null) continue;
    const fork = ((BigInt(`0x${match[2]}`) << 32n) | BigInt(`0x${match[3]}`)) / size;
    pieces.push({ timeline: Number(match[1]), firstSegment: first, lastSegment: fork });
    first = fork;
  }
  pieces.push({ timeline: last, firstSegment: first, lastSegment: 2n ** 64n });
  return pieces;
}

export function segmentName(timeline: number, segment: bigint, segmentBytes: bigint): string {
  const perId = 0x1_0000_0000n / segmentBytes;
  const hex = (value: bigint) => value.toString(16).toUpperCase().padStart(8, "0");
  return `${timelineName(timeline)}${hex(segment / perId)}${hex(segment % perId)}`;
}

/** START WAL LOCATION of a backup_label. */
export function startOfBackupLabel(text: string): bigint | null {
  const match = /^START WAL LOCATION: ([0-9A-Fa-f]+)\/([0-9A-Fa-f]+)/m.exec(text);
  return match === null ? null : (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`);
}
