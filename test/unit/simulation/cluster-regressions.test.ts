import assert from "node:assert/strict";
import { test } from "node:test";
import { regressions, reproduce } from "../../../simulation/cluster/regressions.js";

for (const regression of regressions) {
  test(`${regression.name}: ${regression.text}`, () => {
    const found = reproduce(regression);
    assert.notEqual(found, null, `no schedule from seed ${regression.seed} on shows ${regression.flaw}`);
    assert.ok(regression.codes.includes(found?.flawed.violation?.code ?? ""));
    assert.equal(found?.sound.violation, null, "without the flaw the same schedule is clean");
  });
}
