/**
 * The real file storage over a simulated file system, cut off after each of its operations in every way in which the
 * unsynced ones may have been lost or torn: a fresh start finds the state before or after the step under way, and what
 * had been acknowledged.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { crashImages, FaultyDiskFiles } from "../../../simulation/faulty-disk-files.js";
import { Random } from "../../../simulation/random.js";
import type { PersistentState } from "../../../src/raft/types.js";
import { openRaftStorage } from "../../../src/storage/index.js";
import { data } from "./helpers.js";
import { asText, emptyState, isState, makeHistory, smallSteps } from "./history.js";

const dir = "/state";

interface Phase {
  readonly name: string;
  /** Operations after which the phase was over; a cut before that may leave any of `allowed`. */
  readonly end: number;
  readonly allowed: readonly PersistentState[];
}

async function record(): Promise<{ disk: FaultyDiskFiles; phases: Phase[] }> {
  const disk = new FaultyDiskFiles();
  const storage = await openRaftStorage(dir, disk, smallSteps);
  const phases: Phase[] = [{ name: "open", end: disk.operations.length, allowed: [emptyState] }];
  let before = emptyState;
  for (const step of makeHistory()) {
    await step.run(storage);
    phases.push({ name: step.name, end: disk.operations.length, allowed: [before, ...step.between, step.after] });
    before = step.after;
  }
  phases.push({ name: "at rest", end: disk.operations.length + 1, allowed: [before] });
  return { disk, phases };
}

async function check(files: ReadonlyMap<string, Buffer>, allowed: readonly PersistentState[], where: string) {
  const disk = new FaultyDiskFiles(files);
  const storage = await openRaftStorage(dir, disk, smallSteps);
  const found = storage.initial;
  assert.ok(
    allowed.some((state) => isState(found, state)),
    `${where}: found ${asText(found)}`,
  );
  return { disk, storage, found };
}

it("rules 42, 47, 50: a power cut after any operation leaves the state before or after", async () => {
  const { disk, phases } = await record();
  const random = new Random(42, 0);
  let images = 0;
  let phase = 0;
  for (let cut = 0; cut <= disk.operations.length; cut++) {
    while (cut >= phases[phase]!.end) phase++;
    const { name, allowed } = phases[phase]!;
    for (const { files, what } of crashImages(disk, cut, random)) {
      images += 1;
      await check(files, allowed, `${name}, cut after operation ${cut}, ${what}`);
    }
  }
  assert.ok(images > 3000, `${images} states were looked at`);
});

it("rule 42: a power cut during the start after a power cut is no worse", async () => {
  const { disk, phases } = await record();
  const random = new Random(43, 0);
  let phase = 0;
  for (let cut = 0; cut <= disk.operations.length; cut++) {
    while (cut >= phases[phase]!.end) phase++;
    const { name, allowed } = phases[phase]!;
    const images = [...crashImages(disk, cut, random)];
    const { files, what } = random.pick(images);
    const first = await check(files, allowed, `${name}, cut after operation ${cut}, ${what}`);
    for (let again = 0; again <= first.disk.operations.length; again++) {
      for (const next of crashImages(first.disk, again, random)) {
        if (!random.chance(0.05)) continue;
        // What one start has found, the next one finds too: it was on the disk already.
        await check(next.files, [first.found], `${name}, cuts after ${cut} and ${again}, ${what}, ${next.what}`);
      }
    }
  }
});

it("rule 1: after any power cut the node goes on, and what it acknowledges then is kept", async () => {
  const { disk, phases } = await record();
  const random = new Random(44, 0);
  let phase = 0;
  for (let cut = 0; cut <= disk.operations.length; cut++) {
    while (cut >= phases[phase]!.end) phase++;
    const { name, allowed } = phases[phase]!;
    const { files, what } = random.pick([...crashImages(disk, cut, random)]);
    const where = `${name}, cut after operation ${cut}, ${what}`;
    const { disk: second, storage, found } = await check(files, allowed, where);
    const index = found.snapshot.index + found.entries.length + 1;
    const hardState = { term: 9, vote: 5, commit: found.hardState.commit };
    const more = [data(index, 9, "after the cut")];
    await storage.persist({ hardState, entries: more, mustSync: true });
    const wanted = { hardState, snapshot: found.snapshot, entries: [...found.entries, ...more] };
    for (const next of crashImages(second, second.operations.length, random)) {
      if (!random.chance(0.1)) continue;
      await check(next.files, [wanted], `${where}, then ${next.what}`);
    }
  }
});
