/** A schedule is its seed: nothing of the machine, the process or an earlier schedule may leak into it. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import type { Stack } from "../../../simulation/stacks.js";
import { clusterSize } from "../../../simulation/worker.js";
import { runSchedule } from "../../../simulation/world.js";

interface Case {
  readonly seed: number;
  readonly nodes: number;
  readonly stack: Stack;
}

const cases: Case[] = [];
for (const nodes of [1, 3, 5, 7]) {
  for (const stack of ["raft", "whole", "mixed"] as const) {
    if (nodes === 1 && stack !== "raft") continue;
    for (let seed = 40; seed < 44; seed++) cases.push({ seed, nodes, stack });
  }
}

function outcome(one: Case): [number, number, number] {
  const { hash, events, simulatedMs } = runSchedule(one);
  return [hash, events, simulatedMs];
}

test("the same seeds give the same runs in another process, in another order", () => {
  const here = cases.map(outcome);
  const world = new URL("../../../simulation/world.js", import.meta.url).href;
  const program =
    `import { runSchedule } from ${JSON.stringify(world)};` +
    `const cases = ${JSON.stringify(cases)};` +
    "const run = (one) => { const { hash, events, simulatedMs } = runSchedule(one); return [hash, events, simulatedMs]; };" +
    "console.log(JSON.stringify(cases.reverse().map(run).reverse()));";
  const output = execFileSync(process.execPath, ["--input-type=module", "--eval", program], { encoding: "utf8" });
  assert.deepEqual(JSON.parse(output), here);
});

test("the seed chooses the size of the cluster, the first of a list most often", () => {
  const counts = new Map<number, number>();
  for (let seed = 1; seed <= 2000; seed++) {
    const size = clusterSize(seed, [3, 5, 7]);
    assert.equal(clusterSize(seed, [3, 5, 7]), size);
    counts.set(size, (counts.get(size) ?? 0) + 1);
  }
  const share = (size: number): number => (counts.get(size) ?? 0) / 2000;
  assert.ok(Math.abs(share(3) - 0.6) < 0.05 && Math.abs(share(5) - 0.3) < 0.05 && Math.abs(share(7) - 0.1) < 0.05);
  assert.equal(clusterSize(5, [9]), 9);
});
