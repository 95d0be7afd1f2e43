import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  findMissingSegment,
  segmentName,
  startOfBackupLabel,
  type WalChain,
} from "../../../src/postgres/prepare/wal-chain.js";

const size = 16n * 1024n * 1024n;
const name = (timeline: number, segment: number) => segmentName(timeline, BigInt(segment), size);

/** Fork from timeline 1 to 2 in the middle of segment 5; replay from segment 3, the source is in segment 8. */
function chain(more: Partial<WalChain>): WalChain {
  return {
    startLsn: 3n * size + 40n,
    endLsn: 8n * size + 100n,
    timeline: 2,
    history: "1\t0/5800000\tno recovery target specified\n",
    segmentBytes: Number(size),
    localFiles: new Set(),
    localEndLsn: null,
    sourceFiles: new Set(),
    ...more,
  };
}

const complete = [name(1, 3), name(1, 4), name(2, 5), name(2, 6), name(2, 7), name(2, 8)];

describe("the check of the WAL chain", () => {
  it("is content when each segment is here or on the source", () => {
    assert.equal(findMissingSegment(chain({ localFiles: new Set(complete) })), null);
    assert.equal(findMissingSegment(chain({ sourceFiles: new Set(complete) })), null);
    const half = { localFiles: new Set(complete.slice(0, 3)), sourceFiles: new Set(complete.slice(3)) };
    assert.equal(findMissingSegment(chain(half)), null);
  });

  it("names the segment that is nowhere", () => {
    for (const missing of complete) {
      const files = new Set(complete.filter((file) => file !== missing));
      assert.equal(findMissingSegment(chain({ localFiles: files })), missing);
    }
  });

  it("takes the old timeline's file at the fork, but not beyond it", () => {
    const atFork = new Set([...complete.filter((file) => file !== name(2, 5)), name(1, 5)]);
    assert.equal(findMissingSegment(chain({ localFiles: atFork })), null);
    const beyond = new Set([...complete.filter((file) => file !== name(2, 6)), name(1, 6)]);
    assert.equal(findMissingSegment(chain({ localFiles: beyond })), name(2, 6));
  });

  it("does not take local files behind the local end for WAL: they are recycled ones", () => {
    const files = { localFiles: new Set(complete), localEndLsn: 5n * size + 10n };
    assert.equal(findMissingSegment(chain(files)), name(2, 6));
    assert.equal(findMissingSegment(chain({ ...files, sourceFiles: new Set(complete.slice(3)) })), null);
  });

  it("does not ask for a segment that the source has not begun", () => {
    assert.equal(findMissingSegment(chain({ endLsn: 8n * size, localFiles: new Set(complete.slice(0, 5)) })), null);
  });

  it("names segments as PostgreSQL does", () => {
    assert.equal(segmentName(0x1a, 0x1_05n, size), "0000001A0000000100000005");
    assert.equal(segmentName(1, 5n, 1n << 30n), "000000010000000100000001");
  });

  it("reads the start from a backup_label", () => {
    assert.equal(
      startOfBackupLabel("START WAL LOCATION: 1/2000028 (file 000000010000000100000002)\nX: 1\n"),
      0x102000028n,
    );
    assert.equal(startOfBackupLabel("CHECKPOINT LOCATION: 0/1\n"), null);
  });
});
