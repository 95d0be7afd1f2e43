import assert from "node:assert/strict";
import { test } from "node:test";
import type { ScheduleResult } from "../../../simulation/world.js";
import { runSchedule } from "../../../simulation/world.js";

function run(seed: number, nodes: number): ScheduleResult {
  const result = runSchedule({ seed, nodes, stack: "whole" });
  assert.equal(result.violation, null, `seed ${seed} with ${nodes} nodes: ${result.violation?.message}`);
  return result;
}

test("a cluster of every size keeps its promises and lives again after the faults", () => {
  const marks: Record<string, number> = {};
  for (let seed = 1; seed <= 30; seed++) {
    const result = run(seed, [2, 3, 3, 4, 5][seed % 5] as number);
    for (const [name, count] of Object.entries(result.marks)) marks[name] = (marks[name] ?? 0) + count;
  }
  for (const name of [
    "opened",
    "writeAcked",
    "writePromised",
    "setChanged",
    "rejoinDone",
    "begunReleased",
    "hostCrash",
  ]) {
    assert.ok((marks[name] ?? 0) > 0, `${name} never happened`);
  }
});

test("the same seed gives the same schedule", () => {
  const [a, b] = [run(7, 3), run(7, 3)];
  assert.equal(a.hash, b.hash);
  assert.equal(a.events, b.events);
});
