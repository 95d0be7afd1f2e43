import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { idealTimeouts } from "../../../bench/raft-measures.js";
import { intoDocument } from "../../../bench/raft-report.js";
import { percentile, summarize } from "../../../bench/statistics.js";

const page = readFileSync(new URL("../../../../docs/benchmarks.md", import.meta.url), "utf8");

test("the results take the place between the marks, again and again, and touch nothing else", () => {
  const once = intoDocument(page, "| first |");
  const twice = intoDocument(once, "| second |");
  assert.ok(once.includes("| first |"));
  assert.ok(!twice.includes("| first |"));
  assert.equal(intoDocument(twice, "| first |"), once);
  const [before, after] = [page.split("<!--")[0] as string, page.split("-->").at(-1) as string];
  assert.ok(twice.startsWith(before) && twice.endsWith(after));
  assert.ok(before.length > 0);
});

test("a document without the marks is refused, not overwritten", () => {
  assert.throws(() => intoDocument("# Benchmarks\n", "| first |"), /has no lines/);
});

test("percentiles lie between the values", () => {
  assert.equal(percentile([4, 1, 3, 2], 50), 2.5);
  assert.equal(percentile([5], 99), 5);
  assert.equal(percentile([10, 9, 100], 100), 100);
  assert.throws(() => percentile([], 50), /nothing to summarize/);
  assert.deepEqual(summarize([3, 1, 2]), { median: 2, min: 1, max: 3, values: [3, 1, 2] });
});

test("the timers alone: more followers notice sooner, and nobody notices a silent leader before its timeout", () => {
  const silent = [2, 3, 5, 9].map((size) => idealTimeouts("silent", size, 1000, 0));
  assert.equal(silent[0], 1.5, "one follower: the median of [E, 2E)");
  assert.deepEqual(
    [...silent].sort((a, b) => b - a),
    silent,
  );
  assert.ok(silent.every((value) => value > 1));
  assert.equal(idealTimeouts("silent", 2, 1000, 100), 1.45, "the last heartbeat was half an interval ago");
  assert.equal(idealTimeouts("killed", 2, 1000, 100), 0.2, "one follower: two heartbeat intervals");
});
