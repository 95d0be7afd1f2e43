/** The simulated disk: bytes of the product's codec, faults over them, and what the product's recovery makes of it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Disk, type DiskWatcher, type DiskWrite } from "../../../simulation/disk.js";
import { damages } from "../../../simulation/disk-image.js";
import { Marks } from "../../../simulation/marks.js";
import { Random } from "../../../simulation/random.js";
import type { Entry, PersistentState, Snapshot } from "../../../src/raft/types.js";

const config = { voters: [1, 2, 3], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
const snapshot: Snapshot = { index: 1, term: 1, config, data: new Uint8Array([7]) };
const watcher: DiskWatcher = { entriesDurable: () => {}, snapshotDurable: () => {} };

function entry(index: number, term = 2): Entry {
  return { index, term, type: "data", data: new Uint8Array(40).fill(index) };
}

function newDisk(marks = new Marks()): Disk {
  const initial: PersistentState = { hardState: { term: 1, vote: 0, commit: 1 }, snapshot, entries: [] };
  return new Disk(1, initial, watcher, marks);
}

function append(...entries: Entry[]): DiskWrite {
  return { hardState: { term: 2, vote: 1, commit: 1 }, entries, mustSync: true };
}

function store(disk: Disk, write: DiskWrite): void {
  disk.begin(write);
  disk.written();
  disk.sync();
}

/** A disk that holds entries 2 to 21, each in a batch of its own. */
function filledDisk(marks = new Marks()): Disk {
  const disk = newDisk(marks);
  for (let index = 2; index <= 21; index++) store(disk, append(entry(index)));
  return disk;
}

describe("after a crash", () => {
  test("everything that was synced is there", () => {
    for (let seed = 1; seed <= 50; seed++) {
      const disk = filledDisk();
      disk.crash(new Random(seed, 1), "machine");
      assert.ok(disk.recover(null, new Random(seed, 2)));
      assert.deepEqual(
        disk.read().entries,
        Array.from({ length: 20 }, (_, i) => entry(i + 2)),
      );
      assert.deepEqual(disk.hardState, { term: 2, vote: 1, commit: 1 });
    }
  });

  test("a batch under way is there as a whole or not at all, and both happen", () => {
    const marks = new Marks();
    const last = new Set<number>();
    for (let seed = 1; seed <= 100; seed++) {
      const disk = filledDisk(marks);
      disk.begin(append(entry(22), entry(23)));
      disk.written();
      disk.crash(new Random(seed, 1), "machine");
      assert.ok(disk.recover(null, new Random(seed, 2)));
      last.add(disk.lastIndex);
    }
    assert.deepEqual([...last].sort(), [21, 23]);
    assert.ok(marks.tornTail > 0 && marks.unsyncedLost > 0 && marks.unsyncedSurvived > 0);
  });

  test("what the process had written survives its own end", () => {
    for (let seed = 1; seed <= 50; seed++) {
      const disk = filledDisk();
      disk.begin(append(entry(22)));
      disk.written();
      disk.crash(new Random(seed, 1), "agent");
      assert.ok(disk.recover(null, new Random(seed, 2)));
      assert.equal(disk.lastIndex, 22);
    }
  });

  test("at every step of installing a snapshot the disk is before it, behind it, or in between as the product allows", () => {
    const outcomes = new Set<string>();
    const leaders: Snapshot = { index: 15, term: 2, config, data: new Uint8Array([9]) };
    for (let seed = 1; seed <= 200; seed++) {
      const disk = filledDisk();
      disk.begin({ hardState: { term: 3, vote: 0, commit: 15 }, entries: [], snapshot: leaders, mustSync: true });
      disk.written();
      disk.crash(new Random(seed, 1), "machine");
      assert.ok(disk.recover(null, new Random(seed, 2)));
      outcomes.add(`term ${disk.hardState.term} snapshot ${disk.snapshot.index} last ${disk.lastIndex}`);
    }
    assert.deepEqual([...outcomes].sort(), [
      "term 2 snapshot 1 last 21",
      "term 3 snapshot 1 last 21",
      "term 3 snapshot 15 last 15",
      "term 3 snapshot 15 last 21",
    ]);
  });

  test("a commit index alone is not written, and the next batch carries it", () => {
    const disk = filledDisk();
    disk.begin({ hardState: { term: 2, vote: 1, commit: 20 }, entries: [], mustSync: false });
    store(disk, { entries: [entry(22)], mustSync: true });
    assert.equal(disk.hardState.commit, 20);
    disk.crash(new Random(1, 1), "machine");
    assert.ok(disk.recover(null, new Random(1, 2)));
    assert.equal(disk.hardState.commit, 20);
  });
});

describe("damage to what is provably synced", () => {
  for (const damage of damages) {
    test(`${damage}: refused, or harmless`, () => {
      let refused = 0;
      for (let seed = 1; seed <= 200; seed++) {
        const disk = filledDisk();
        disk.crash(new Random(seed, 1), "machine");
        if (!disk.recover(damage, new Random(seed, 2))) refused++;
        else assert.equal(disk.lastIndex, 21);
      }
      assert.ok(refused > 150, `${refused} of 200 were refused`);
    });
  }

  test("a bit of the snapshot file: always refused", () => {
    for (let seed = 1; seed <= 100; seed++) {
      const disk = filledDisk();
      disk.crash(new Random(seed, 1), "machine");
      assert.equal(disk.recover("snapshot", new Random(seed, 2)), false);
    }
  });
});

test("a rolled-back disk has what it had when its image was kept", () => {
  const disk = filledDisk();
  disk.keepImage();
  assert.equal(disk.older, null);
  store(disk, append(entry(22)));
  const { older } = disk;
  assert.ok(older !== null);
  disk.rollBack(older);
  assert.equal(disk.lastIndex, 21);
});
