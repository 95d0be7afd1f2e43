import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { failing, failureReport } from "../../../simulation/report.js";
import { runSchedule } from "../../../simulation/world.js";

function runSeeds(nodes: number, from: number, count: number): void {
  for (let seed = from; seed < from + count; seed++) {
    const { violation } = runSchedule({ seed, nodes });
    if (violation !== null) assert.fail(failureReport(failing(seed, nodes)));
  }
}

/** The rolling hashes of some schedules, as another process computes them. */
function hashesOfAnotherProcess(seeds: readonly number[], nodes: number): number[] {
  const world = new URL("../../../simulation/world.js", import.meta.url).href;
  const program =
    `import { runSchedule } from ${JSON.stringify(world)};` +
    `console.log(JSON.stringify(${JSON.stringify(seeds)}.map((seed) => runSchedule({ seed, nodes: ${nodes} }).hash)));`;
  const output = execFileSync(process.execPath, ["--input-type=module", "--eval", program], { encoding: "utf8" });
  return JSON.parse(output) as number[];
}

describe("simulated schedules break no invariant and live again after the faults", () => {
  for (const [nodes, count] of [
    [1, 20],
    [3, 200],
    [5, 80],
  ] as const) {
    test(`${count} schedules of ${nodes} nodes`, () => runSeeds(nodes, 10_000, count));
  }
});

describe("a schedule is decided by its seed alone", () => {
  test("the same seed gives the same run in two processes", () => {
    const seeds = [1, 2, 3, 4, 5, 6, 7, 8];
    const here = seeds.map((seed) => runSchedule({ seed, nodes: 3 }).hash);
    assert.deepEqual(hashesOfAnotherProcess(seeds, 3), here);
  });

  test("another seed gives another run", () => {
    assert.notEqual(runSchedule({ seed: 1, nodes: 3 }).hash, runSchedule({ seed: 2, nodes: 3 }).hash);
  });
});

describe("the command line", () => {
  test("refuses what it does not understand with exit status 2 and its usage", () => {
    const main = fileURLToPath(new URL("../../../simulation/main.js", import.meta.url));
    assert.throws(
      () => execFileSync(process.execPath, [main, "--nodes", "three"], { encoding: "utf8", stdio: "pipe" }),
      (error: { status?: number; stderr?: string }) => error.status === 2 && /--nodes must be/.test(error.stderr ?? ""),
    );
  });
});
