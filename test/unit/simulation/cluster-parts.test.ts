import assert from "node:assert/strict";
import { test } from "node:test";
import {
  acceptsStart,
  Branch,
  branchAt,
  commonEnd,
  forkFrom,
  holds,
  markerAt,
} from "../../../simulation/cluster/wal.js";

/** Timeline 1 to 10; 2 from 10 with a marker at 12; two promotions from there that do not know of each other. */
function tree() {
  const first = new Branch(null, 10, 1, 0);
  const second = new Branch(first, 10, 2, 1);
  second.end = 20;
  second.markers.push({ at: 12, token: { term: 1, index: 2 } });
  const left = new Branch(second, 15, 3, 2);
  const right = new Branch(second, 18, 3, 3);
  return { first, second, left, right };
}

test("two branches hold the same records up to where the earlier one leaves", () => {
  const { second, left, right } = tree();
  assert.equal(commonEnd(left, right), 15);
  assert.equal(commonEnd(left, second), 15);
  assert.equal(commonEnd(left, left), Number.POSITIVE_INFINITY);
  assert.ok(holds(right, 18, second, 17));
  assert.ok(!holds(left, 18, second, 17), "the same position of another branch is another record");
});

test("a position belongs to the branch that wrote it, and its marker is the newest before it", () => {
  const { first, second, left } = tree();
  assert.equal(branchAt(left, 15), second);
  assert.equal(branchAt(left, 16), left);
  assert.equal(branchAt(left, 10), first);
  assert.deepEqual(markerAt(left, 16), { term: 1, index: 2 });
  assert.equal(markerAt(left, 11), null);
});

test("a walsender knows timelines by their numbers only", () => {
  const { left, right } = tree();
  assert.ok(acceptsStart(left, 30, 2, 15));
  assert.ok(!acceptsStart(left, 30, 2, 16), "it has left timeline 2 before");
  assert.ok(acceptsStart(left, 30, right.timeline, 20), "the number is the same, the WAL is not");
});

test("a fork is measured from the timeline that is shared", () => {
  const { left } = tree();
  const unmarked = new Branch(left, 16, 4, 2);
  assert.equal(forkFrom(unmarked, 2), 15);
  assert.equal(forkFrom(unmarked, 3), 16);
  assert.equal(forkFrom(unmarked, null), 16);
});
