import assert from "node:assert/strict";
import { test } from "node:test";
import { committedIndex, emptyConfiguration, tallyVotes } from "../../../src/raft/index.js";
import { votersOf } from "./network.js";

const joint = { ...emptyConfiguration, voters: [1, 2, 3], votersOutgoing: [3, 4, 5] };

test("R63: the quorum index sorts numbers, not strings", () => {
  const acked = new Map([
    [1, 9],
    [2, 10],
    [3, 11],
  ]);
  assert.equal(committedIndex(votersOf(1, 2, 3), acked), 10);
});

test("paper 5.3: an even number of voters needs more than half", () => {
  const acked = new Map([
    [1, 8],
    [2, 8],
    [3, 5],
  ]);
  assert.equal(committedIndex(votersOf(1, 2, 3, 4), acked), 5);
});

test("R32: a joint configuration commits what both halves hold", () => {
  assert.equal(
    committedIndex(
      joint,
      new Map([
        [1, 9],
        [2, 9],
        [3, 9],
        [4, 2],
      ]),
    ),
    2,
  );
  assert.equal(
    committedIndex(
      joint,
      new Map([
        [1, 9],
        [2, 9],
        [3, 9],
      ]),
    ),
    0,
  );
});

test("without voters nothing is committed and nobody is elected", () => {
  assert.equal(committedIndex(emptyConfiguration, new Map([[1, 5]])), 0);
  assert.equal(tallyVotes(emptyConfiguration, new Map([[1, true]])), "lost");
});

test("R32: an election under a joint configuration needs both halves; votes of others do not count", () => {
  assert.equal(
    tallyVotes(
      joint,
      new Map([
        [1, true],
        [2, true],
      ]),
    ),
    "pending",
  );
  assert.equal(
    tallyVotes(
      joint,
      new Map([
        [1, true],
        [2, true],
        [4, true],
        [5, true],
      ]),
    ),
    "won",
  );
  assert.equal(
    tallyVotes(
      joint,
      new Map([
        [1, true],
        [2, true],
        [4, false],
        [5, false],
      ]),
    ),
    "lost",
  );
  assert.equal(
    tallyVotes(
      votersOf(1, 2, 3),
      new Map([
        [1, true],
        [8, true],
        [9, true],
      ]),
    ),
    "pending",
  );
});
