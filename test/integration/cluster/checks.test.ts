// The checks themselves: each planted violation is found, and what asynchronous mode allows is not taken for one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { expectOneWriterAtATime, expectRows } from "./checks.js";
import type { Acknowledged } from "./session-writer.js";

function row(id: number, server: string, token: string, sentMs: number): Acknowledged {
  return { id, server, token, sentMs, ackedMs: sentMs + 2 };
}

const handedOver = [row(1, "a", "2.4", 0), row(2, "a", "2.4", 10), row(3, "b", "3.9", 20), row(4, "b", "3.9", 30)];

test("a statement sent to the old primary after the new one's first acknowledgement is found", () => {
  expectOneWriterAtATime(handedOver);
  // Sent before and answered after: the old primary may have committed it in time.
  expectOneWriterAtATime([...handedOver, { ...row(5, "a", "2.4", 15), ackedMs: 40 }]);
  assert.throws(() => expectOneWriterAtATime([...handedOver, row(5, "a", "2.4", 25)]), /sent 3\.0 ms after b/);
});

test("one token acknowledged by two servers is found", () => {
  assert.throws(() => expectOneWriterAtATime([...handedOver, row(5, "c", "3.9", 40)]), /acknowledged on b and c/);
});

test("tokens are compared as numbers: 10.1 is newer than 9.1", () => {
  expectOneWriterAtATime([row(1, "a", "9.1", 0), row(2, "b", "10.1", 10)]);
  assert.throws(() => expectOneWriterAtATime([row(1, "a", "9.1", 10), row(2, "b", "10.1", 0)]), /token 9\.1/);
});

test("an acknowledged row that is gone is found when nothing may be lost", () => {
  const clients = { acknowledged: handedOver, indeterminate: [7] };
  expectRows(clients, new Set([1, 2, 3, 4]), "none");
  expectRows(clients, new Set([1, 2, 3, 4, 7]), "none");
  assert.throws(() => expectRows(clients, new Set([1, 3, 4]), "none"), /1 are gone/);
});

test("only the end of a replaced primary's rows may be gone", () => {
  const clients = { acknowledged: handedOver, indeterminate: [] };
  expectRows(clients, new Set([1, 3, 4]), "unreplicated");
  expectRows(clients, new Set([3, 4]), "unreplicated");
  assert.throws(() => expectRows(clients, new Set([2, 3, 4]), "unreplicated"), /1 rows are gone and later ones/);
  assert.throws(() => expectRows(clients, new Set([1, 2, 3]), "unreplicated"), /no newer primary/);
});

test("a row that was refused and is there all the same is found", () => {
  const clients = { acknowledged: handedOver, indeterminate: [] };
  assert.throws(() => expectRows(clients, new Set([1, 2, 3, 4, 99]), "unreplicated"), /whose insert was refused/);
});
