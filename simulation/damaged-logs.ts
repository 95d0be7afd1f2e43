/**
 * Logs of known layout, and what must be said of any damage to them. The verdict is worked out from the layout by
 * comparing bytes, without a checksum or anything else of the code under test.
 */
import { encodeBatch, encodeSeal } from "../src/storage/batch-codec.js";
import { encodeFirstBatch } from "../src/storage/recovery.js";

/** A batch or a seal, as it was written. */
export interface Item {
  readonly sequence: number;
  readonly isSeal: boolean;
  readonly start: number;
  readonly bytes: Buffer;
  readonly allocatedBytes: number;
}

export interface Layout {
  readonly name: string;
  /** What is on the disk. */
  readonly file: Buffer;
  readonly batches: readonly Item[];
  /** What was on the disk after each batch; the last one is `file`. */
  readonly images: readonly Buffer[];
  /** Seals that batches overwrote, too. */
  readonly items: readonly Item[];
}

export interface LayoutOptions {
  readonly name: string;
  readonly batches: number;
  readonly sealed: boolean;
  /** The file grows by this; 0: it is as long as what is in it, as the first version made it. */
  readonly growthBytes: number;
}

export function makeLayout({ name, batches: count, sealed, growthBytes }: LayoutOptions): Layout {
  const hardStateOf = (term: number) => ({ term, vote: 1, commit: 0 });
  const batches: Item[] = [];
  const items: Item[] = [];
  const images: Buffer[] = [];
  let file: Buffer = Buffer.alloc(growthBytes);
  let end = 0;
  const base = encodeFirstBatch(
    { base: { index: 0, term: 0 }, hardState: hardStateOf(1), entries: [] },
    { sequence: 40, crc: 7 },
    file.length,
  );
  let { chain } = base;
  const put = (bytes: Buffer, sequence: number, isSeal: boolean): void => {
    const item = { sequence, isSeal, start: end, bytes, allocatedBytes: file.length };
    items.push(item);
    if (!isSeal) batches.push(item);
    const needed = end + bytes.length;
    if (file.length < needed) file = Buffer.concat([file, Buffer.alloc(needed - file.length)]);
    bytes.copy(file, end);
    if (!isSeal) end = needed;
  };
  const settle = (): void => {
    if (sealed) put(encodeSeal(chain, growthBytes === 0 ? 0 : file.length), chain.sequence + 1, true);
    images.push(Buffer.from(file));
  };
  put(base.bytes, chain.sequence, false);
  settle();
  for (let index = 1; index < count; index++) {
    const encode = () =>
      encodeBatch(
        {
          sequence: chain.sequence + 1,
          previousCrc: chain.crc,
          knownSynced: chain.sequence,
          flags: 0,
          allocatedBytes: growthBytes === 0 ? 0 : file.length,
        },
        {
          hardState: hardStateOf(index),
          entries: [{ index, term: index, type: "data", data: Buffer.from("entry".repeat(index)) }],
        },
      );
    const size = end + encode().bytes.length + 52;
    if (growthBytes > 0) {
      while (file.length < size) file = Buffer.concat([file, Buffer.alloc(growthBytes)]);
    } else file = file.subarray(0, end);
    const { bytes, crc } = encode();
    chain = { sequence: chain.sequence + 1, crc };
    put(bytes, chain.sequence, false);
    settle();
  }
  return { name, file, batches, images, items: items.map((item) => fixAllocation(item, growthBytes)) };
}

function fixAllocation(item: Item, growthBytes: number): Item {
  return growthBytes === 0 ? { ...item, allocatedBytes: 0 } : item;
}

/** What its checksum of the header covers, with it. */
const headerEvidenceBytes = 48;

/** The number of batches to be kept, or "halt". */
export function verdictOf(layout: Layout, damaged: Buffer): number | "halt" {
  const { batches, items } = layout;
  const holds = (item: Item, at: number): boolean =>
    damaged.subarray(at, at + item.bytes.length).equals(item.bytes) && at + item.bytes.length <= damaged.length;
  const wasLonger = (item: Item): boolean => item.allocatedBytes > damaged.length;
  let kept = 0;
  let at = 0;
  for (; kept < batches.length && holds(batches[kept]!, at); kept++) {
    if (wasLonger(items.find((item) => item.bytes === batches[kept]!.bytes)!)) return "halt";
    at += batches[kept]!.bytes.length;
  }
  if (kept === 0) return "halt";
  const next = batches[0]!.sequence + kept;
  for (const item of items) {
    if (!holds(item, at)) continue;
    // Whole, and not what belongs here; a seal in its own place is at home.
    if (!item.isSeal || item.sequence !== next || wasLonger(item)) return "halt";
  }
  for (const item of items) {
    if (item.sequence <= next) continue;
    if (damaged.indexOf(item.bytes.subarray(0, headerEvidenceBytes), at) !== -1) return "halt";
  }
  return kept;
}
