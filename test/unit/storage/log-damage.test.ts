/** Rule 47, exhaustively: every byte of a log damaged in every way, and each verdict compared with the layout's. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Layout, makeLayout, verdictOf } from "../../../simulation/damaged-logs.js";
import { Random } from "../../../simulation/random.js";
import { encodeBatch } from "../../../src/storage/batch-codec.js";
import { StorageError } from "../../../src/storage/errors.js";
import { scanLog } from "../../../src/storage/log-scan.js";
import { recoverState } from "../../../src/storage/recovery.js";

const layouts = [
  makeLayout({ name: "allocated and sealed", batches: 5, sealed: true, growthBytes: 1024 }),
  makeLayout({ name: "allocated, the last batch not sealed", batches: 5, sealed: false, growthBytes: 1024 }),
  makeLayout({ name: "grown between batches", batches: 7, sealed: true, growthBytes: 256 }),
  makeLayout({ name: "as long as its batches", batches: 4, sealed: false, growthBytes: 0 }),
  makeLayout({ name: "one batch", batches: 1, sealed: false, growthBytes: 256 }),
];

function found(file: Buffer): number | "halt" {
  try {
    const { batches } = scanLog("raft-log", file);
    const { state } = recoverState(
      { log: "raft-log", snapshot: "snapshot" },
      { log: file, snapshot: null, formatted: true },
    );
    // Each batch but the first holds one entry of its own index and term.
    assert.deepEqual(
      state.entries.map(({ index, term }) => [index, term]),
      batches.slice(1).map((_, at) => [at + 1, at + 1]),
    );
    return batches.length;
  } catch (error) {
    if (error instanceof StorageError && error.code === "STORAGE_CORRUPT") return "halt";
    throw error;
  }
}

/** How often each verdict was right, so that a test that damages nothing does not pass. */
class Tally {
  readonly counts = { halt: 0, shorter: 0, whole: 0 };

  check(layout: Layout, damaged: Buffer, what: string): void {
    const wanted = verdictOf(layout, damaged);
    assert.equal(found(damaged), wanted, `${layout.name}: ${what}`);
    this.counts[wanted === "halt" ? "halt" : wanted < layout.batches.length ? "shorter" : "whole"] += 1;
  }
}

function patched(file: Buffer, at: number, bytes: Uint8Array): Buffer {
  const copy = Buffer.from(file);
  copy.set(bytes.subarray(0, Math.max(0, copy.length - at)), at);
  return copy;
}

for (const layout of layouts) {
  const { file, batches, images, name } = layout;
  const last = batches.at(-1)!;
  const written = last.start + last.bytes.length + 60;
  describe(`rule 47: a log ${name}`, () => {
    it("undamaged, it is read whole", () => {
      for (const [at, image] of images.entries()) assert.equal(found(image), at + 1);
      assert.equal(verdictOf(layout, file), batches.length);
    });

    it("any byte flipped", () => {
      const tally = new Tally();
      for (let at = 0; at < Math.min(written, file.length); at++) {
        for (const mask of [1, 0x10, 0xff]) {
          tally.check(layout, patched(file, at, Buffer.from([file[at]! ^ mask])), `byte ${at} ^ ${mask}`);
        }
      }
      assert.ok(tally.counts.halt > 100);
    });

    it("any stretch zeroed or filled, from any byte", () => {
      const tally = new Tally();
      for (let at = 0; at < Math.min(written, file.length); at++) {
        for (const length of [1, 16, 52, 130, 512, file.length]) {
          tally.check(layout, patched(file, at, Buffer.alloc(length)), `${length} zeros at ${at}`);
          tally.check(layout, patched(file, at, Buffer.alloc(length, 0xff)), `${length} ones at ${at}`);
        }
      }
      assert.ok(tally.counts.halt > 100);
    });

    it("cut at any length", () => {
      const tally = new Tally();
      for (let length = 0; length <= file.length; length++)
        tally.check(layout, file.subarray(0, length), `cut at ${length}`);
      if (name === "allocated and sealed") assert.deepEqual(tally.counts, { halt: file.length, shorter: 0, whole: 1 });
    });

    it("parts of an older image in it, from any byte", () => {
      const tally = new Tally();
      for (const [age, image] of images.slice(0, -1).entries()) {
        for (let at = 0; at < Math.min(written, image.length); at++) {
          for (const length of [52, file.length]) {
            tally.check(
              layout,
              patched(file, at, image.subarray(at, at + length)),
              `image ${age}, ${length} bytes at ${at}`,
            );
          }
          tally.check(layout, patched(file, 0, image.subarray(0, at)), `image ${age} up to byte ${at}`);
        }
      }
      // Without an allocation each older image is the beginning of the newest one.
      if (images.length > 1 && file.length > written) assert.ok(tally.counts.halt > 100);
    });

    it("batches repeated, left out and swapped", () => {
      const tally = new Tally();
      const order = batches.map((_, at) => at);
      const arranged = (places: readonly number[]): Buffer => {
        const bytes = Buffer.concat(places.map((at) => batches[at]!.bytes));
        return Buffer.concat([bytes, Buffer.alloc(Math.max(0, file.length - bytes.length))]);
      };
      for (const a of order) {
        tally.check(layout, arranged(order.toSpliced(a, 1)), `without ${a}`);
        for (const b of order) {
          tally.check(layout, arranged(order.toSpliced(a, 0, b)), `${b} again before ${a}`);
          tally.check(layout, arranged([...order, ...order.slice(a, b)]), `${a} to ${b} again at the end`);
          tally.check(layout, arranged(order.with(a, b).with(b, a)), `${a} and ${b} swapped`);
        }
      }
      if (batches.length > 1) assert.ok(tally.counts.halt > 5);
    });

    it("garbage and zeros behind it", () => {
      const tally = new Tally();
      const random = new Random(7, 0);
      for (let length = 0; length < 200; length++) {
        const garbage = Buffer.from(Array.from({ length }, () => random.integer(0, 255)));
        tally.check(layout, Buffer.concat([file, garbage]), `${length} bytes of garbage at the end of the file`);
        tally.check(layout, Buffer.concat([file, Buffer.alloc(length)]), `${length} zeros more`);
        tally.check(layout, patched(file, last.start + last.bytes.length, garbage), `${length} bytes of garbage`);
      }
      assert.equal(tally.counts.whole, 600);
    });

    it("two damages at once", () => {
      const tally = new Tally();
      const random = new Random(8, 0);
      for (let round = 0; round < 4000; round++) {
        let damaged = file;
        for (let times = 0; times < 2; times++) {
          const at = random.integer(0, Math.min(written, file.length) - 1);
          const length = random.integer(1, 80);
          damaged = patched(damaged, at, Buffer.alloc(length, random.pick([0, 0xff, 0x50])));
        }
        tally.check(layout, damaged, `round ${round}`);
      }
    });
  });
}

describe("rule 47: the four cells of the table", () => {
  const body = (index: number) => ({
    hardState: { term: index, vote: 1, commit: 0 },
    entries: [{ index, term: index, type: "noop" as const }],
  });
  const { file, batches } = makeLayout({ name: "", batches: 3, sealed: false, growthBytes: 0 });
  const damagedLast = patched(file, file.length - 1, Buffer.from([file.at(-1)! ^ 1]));
  const { sequence } = batches.at(-1)!;
  const later = (knownSynced: number, number = sequence + 1) =>
    encodeBatch({ sequence: number, previousCrc: 99, knownSynced, flags: 0 }, body(9)).bytes;

  it("not known to be synced, nothing valid after it: cut off", () => {
    const { batches: kept, tornBytes } = scanLog("raft-log", damagedLast);
    assert.equal(kept.length, 2);
    assert.equal(tornBytes, batches.at(-1)!.bytes.length);
  });

  it("not known to be synced, a valid batch with a higher sequence anywhere after it: halt", () => {
    for (let gap = 0; gap < 700; gap += 7) {
      assert.equal(found(Buffer.concat([damagedLast, Buffer.alloc(gap, gap), later(sequence - 2)])), "halt");
    }
  });

  it("known to be synced, nothing valid after it: halt", () => {
    // Its own header says so, as in the first batch of a file.
    const own = encodeBatch({ sequence, previousCrc: 1, knownSynced: sequence, flags: 0 }, body(2)).bytes;
    const damaged = patched(own, own.length - 1, Buffer.from([own.at(-1)! ^ 1]));
    assert.equal(found(Buffer.concat([file.subarray(0, batches.at(-1)!.start), damaged])), "halt");
    // A seal says so, which is no batch.
    const sealed = makeLayout({ name: "", batches: 3, sealed: true, growthBytes: 512 });
    const at = sealed.batches.at(-1)!.start + 60;
    assert.equal(found(patched(sealed.file, at, Buffer.from([sealed.file[at]! ^ 1]))), "halt");
  });

  it("known to be synced, and a valid batch after it: halt", () => {
    assert.equal(found(Buffer.concat([damagedLast, later(sequence)])), "halt");
    assert.equal(found(Buffer.concat([damagedLast, later(sequence, sequence + 5)])), "halt");
  });

  it("a header that is damaged hides the length, and what follows is found all the same", () => {
    const headless = patched(damagedLast, batches.at(-1)!.start, Buffer.alloc(52));
    assert.equal(found(headless), 2);
    assert.equal(found(Buffer.concat([headless, later(0)])), "halt");
  });

  it("a header that ends with its own CRC at the end of the file is evidence too", () => {
    const cut = later(sequence).subarray(0, 48);
    assert.equal(found(Buffer.concat([damagedLast, cut])), "halt");
    assert.equal(found(Buffer.concat([damagedLast, cut.subarray(0, 47)])), 2);
  });

  it("an intact batch that does not follow the one before it: halt", () => {
    const { crc } = scanLog("raft-log", file).batches.at(-1)!;
    const next = (number: number, previousCrc: number) =>
      Buffer.concat([
        file,
        encodeBatch({ sequence: number, previousCrc, knownSynced: sequence, flags: 0 }, body(3)).bytes,
      ]);
    assert.equal(found(next(sequence + 1, crc)), 4);
    assert.equal(found(next(sequence + 1, (crc ^ 1) >>> 0)), "halt");
    assert.equal(found(next(sequence + 2, crc)), "halt");
    assert.equal(found(next(sequence, crc)), "halt");
  });

  it("an older batch after it proves nothing", () => {
    assert.equal(found(Buffer.concat([damagedLast, later(0, sequence)])), 2);
    assert.equal(found(Buffer.concat([damagedLast, later(0, sequence - 1)])), 2);
  });
});
