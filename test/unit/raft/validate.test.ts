import assert from "node:assert/strict";
import { test } from "node:test";
import { MalformedMessageError, validateMessage } from "../../../src/raft/index.js";
import { votersOf } from "./network.js";

const base = { from: 2, to: 1, term: 5 };
const append = { ...base, type: "AppendEntries", prevIndex: 3, prevTerm: 2, commit: 3 };
const noop = { type: "noop", index: 4, term: 5 };

function refuses(value: unknown, field: string): void {
  assert.throws(
    () => validateMessage(value),
    (error) => error instanceof MalformedMessageError && error.field === field && error.message.length > 20,
    `should name ${field}`,
  );
}

test("R61: entries must follow each other from prevIndex on, with terms that never fall", () => {
  assert.equal(validateMessage({ ...append, entries: [noop] }).type, "AppendEntries");
  refuses({ ...append, entries: [{ ...noop, index: 5 }] }, "entries[0].index");
  refuses({ ...append, entries: [{ ...noop, term: 1 }] }, "entries[0].term");
  refuses({ ...append, entries: [{ ...noop, term: 6 }] }, "entries[0].term");
  refuses({ ...append, entries: [noop, { ...noop, index: 5, term: 4 }] }, "entries[1].term");
  refuses({ ...append, entries: "none" }, "entries");
});

test("R53: numbers must be safe integers and terms leave room for elections", () => {
  for (const term of [-1, 1.5, Number.NaN, "5", 2 ** 53, Number.MAX_SAFE_INTEGER]) {
    refuses({ ...base, term, type: "HeartbeatResponse", round: 0 }, "term");
  }
  refuses({ ...base, from: 0, type: "HeartbeatResponse", round: 0 }, "from");
  refuses({ ...base, type: "Heartbeat", commit: 0, round: -1 }, "round");
});

test("payloads are bytes and configurations make sense", () => {
  refuses({ ...append, entries: [{ ...noop, type: "data", data: "x" }] }, "entries[0].data");
  const config = { ...votersOf(1, 2), learners: [2] };
  refuses({ ...append, entries: [{ ...noop, type: "config", config }] }, "entries[0].config");
  const snapshot = { index: 3, term: 9, config: votersOf(1), data: new Uint8Array(0) };
  refuses({ ...base, type: "InstallSnapshot", snapshot }, "snapshot.term");
});

test("unknown types and shapes are refused", () => {
  refuses(null, "");
  refuses([], "");
  refuses({ ...base, type: "Propose" }, "type");
  refuses({ ...base, type: "RequestVote", lastIndex: 1, lastTerm: 1, transfer: 1 }, "transfer");
  refuses({ ...base, to: 2, type: "HeartbeatResponse", round: 0 }, "to");
});

test("what comes out is fresh and frozen, without the fields that the protocol does not know", () => {
  const message = validateMessage({ ...append, entries: [{ ...noop, extra: 1 }], extra: 2 });
  assert.ok(message.type === "AppendEntries");
  assert.deepEqual(message, { ...append, entries: [noop] });
  assert.ok(Object.isFrozen(message.entries[0]));
});
