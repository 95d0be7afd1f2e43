import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  describeMissing,
  nextPledgeStage,
  type PledgeLook,
  type PledgeStage,
} from "../../../src/postgres/pledge-proof.js";

const rules = { generation: 7, retrySleepMs: 100, parkedWaitEvent: "Parked" };
const parked: PledgeLook = {
  startupGeneration: 7,
  configurationCleared: true,
  receiverPid: null,
  startupWaitEvent: "Parked",
  replayedAllReceived: true,
};
const run = (looks: readonly PledgeLook[], stepMs = 1) => {
  let stage: PledgeStage = { kind: "ending" };
  let wakes = 0;
  looks.forEach((look, index) => {
    const step: { stage: PledgeStage; wake: boolean } = nextPledgeStage(stage, look, rules, index * stepMs);
    stage = step.stage;
    if (step.wake) wakes += 1;
  });
  return { kind: (stage as PledgeStage).kind, wakes };
};

describe("proof of the pledge", () => {
  it("counts parking only in a look after the end of streaming was seen", () => {
    assert.deepEqual(run([parked]), { kind: "ended", wakes: 0 });
    assert.deepEqual(run([parked, parked]), { kind: "proven", wakes: 0 });
  });

  it("needs the startup process's own acknowledgement", () => {
    const unread = { ...parked, startupGeneration: 6 };
    assert.deepEqual(run([unread, unread, unread]), { kind: "ending", wakes: 0 });
  });

  it("begins again when a receiver is seen, or the configuration is not cleared", () => {
    assert.equal(run([parked, { ...parked, receiverPid: 99 }, parked]).kind, "ended");
    assert.equal(run([parked, { ...parked, configurationCleared: false }]).kind, "ending");
  });

  it("wakes the startup process once more when received WAL is not replayed, and waits for the next parking", () => {
    const tail = { ...parked, replayedAllReceived: false };
    assert.deepEqual(run([parked, tail, tail, tail]), { kind: "woken", wakes: 1 });
    assert.deepEqual(run([parked, tail, { ...tail, startupGeneration: 8, startupWaitEvent: null }]), {
      kind: "woken",
      wakes: 1,
    });
    assert.deepEqual(run([parked, tail, { ...tail, startupGeneration: 8 }]), { kind: "proven", wakes: 1 });
  });

  it("without acknowledgements waits longer than a sleep can last", () => {
    const tail = { ...parked, startupGeneration: null, replayedAllReceived: false };
    assert.equal(run([tail, tail, tail], 50).kind, "woken");
    assert.equal(run([tail, tail, tail, tail, tail, tail, tail], 50).kind, "proven");
  });

  it("says what is missing", () => {
    const text = describeMissing({ kind: "ending" }, { ...parked, startupGeneration: 6, receiverPid: 99 }, rules);
    assert.match(text, /generation 7/);
    assert.match(text, /receiver 99/);
    const replaying = { ...parked, startupWaitEvent: "RecoveryConflictSnapshot" };
    assert.match(describeMissing({ kind: "ended" }, replaying, rules), /RecoveryConflictSnapshot/);
  });
});
