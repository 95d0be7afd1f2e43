import assert from "node:assert/strict";
import { test } from "node:test";
import { readRaftOptions } from "../../../bench/raft-options.js";

test("without arguments: four sizes, a million proposals through the first of them", () => {
  const options = readRaftOptions([]);
  assert.deepEqual(options?.nodes, [3, 5, 7, 9]);
  assert.equal(options?.rounds, 60);
  assert.equal(options?.proposals, 1_000_000);
  assert.equal(options?.proposalsOthers, 100_000);
  assert.equal(options?.restartEntries, 10_000);
  assert.equal(options?.json, false);
});

test("--quick makes everything small, and what is said beside it still counts", () => {
  const options = readRaftOptions(["--quick", "--nodes", "5, 3", "--json"]);
  assert.deepEqual(options?.nodes, [5, 3]);
  assert.equal(options?.rounds, 2);
  assert.equal(options?.json, true);
  assert.equal(readRaftOptions(["--quick", "--rounds", "7"])?.rounds, 7);
});

test("--help asks for the usage only", () => {
  assert.equal(readRaftOptions(["--help"]), null);
});

test("a wrong argument is named", () => {
  const cases: ReadonlyArray<readonly [readonly string[], RegExp]> = [
    [["--nodes", "3,x"], /--nodes takes a whole number from 2, not "x"/],
    [["--nodes", ""], /--nodes/],
    [["--nodes", "1"], /--nodes takes a whole number from 2, not "1"/],
    [["--nodes", "3,16"], /--nodes takes sizes up to 15/],
    [["--nodes", "3,3"], /--nodes takes each size once/],
    [["--rounds", "0"], /--rounds takes a whole number from 1, not "0"/],
    [["--rounds", "1.5"], /--rounds/],
    [["--rounds=-1"], /--rounds/],
    [["--proposals", "1e6"], /--proposals/],
    [["--lease", "499"], /--lease takes a whole number from 500/],
    [["--quick", "--docs"], /--quick measures nothing/],
    [["--round", "3"], /--round/],
    [["3"], /3/],
  ];
  for (const [args, message] of cases) assert.throws(() => readRaftOptions(args), message, args.join(" "));
});
