/** Swarm: a fault that is always there hides the bugs that need its absence, one that never comes finds nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { drawKnobs, type Knobs, restingKnobs } from "../../../simulation/knobs.js";

const drawn = Array.from({ length: 1000 }, (_, seed) => drawKnobs(seed, 5));

test("every fault is absent in some schedules and present in others", () => {
  for (const [name, rest] of Object.entries(restingKnobs) as Array<[keyof Knobs, unknown]>) {
    const resting = drawn.filter((knobs) => knobs[name] === rest).length;
    assert.ok(resting >= 20, `${name} is at rest in ${resting} of 1000 schedules`);
    assert.ok(resting <= 980, `${name} is in use in ${1000 - resting} of 1000 schedules`);
  }
});

test("what has no resting value takes more than one", () => {
  for (const name of Object.keys(drawn[0] as Knobs) as Array<keyof Knobs>) {
    if (name === "nodes") continue;
    const values = new Set(drawn.map((knobs) => knobs[name]));
    assert.ok(values.size > 1, `${name} is always ${[...values].join()}`);
  }
});

test("every style of partition is drawn", () => {
  const styles = new Set(drawn.map(({ partition }) => partition));
  assert.deepEqual([...styles].sort(), ["bridge", "isolate", "none", "one-way", "partial", "symmetric"]);
});

test("times keep the proportions that the product guarantees", () => {
  for (const { leaseMs, electionTimeoutMs, heartbeatIntervalMs, tickIntervalMs } of drawn) {
    assert.equal(electionTimeoutMs, Math.floor(leaseMs / 3));
    assert.ok(heartbeatIntervalMs * 3 <= electionTimeoutMs && tickIntervalMs <= heartbeatIntervalMs);
  }
});
