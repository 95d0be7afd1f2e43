import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigurationChangeError, enterJoint, leaveJoint, simpleChange } from "../../../src/raft/index.js";
import { votersOf } from "./network.js";

test("R32: a single-server change may move one voter only", () => {
  const next = simpleChange(votersOf(1, 2), [{ type: "addVoter", id: 10 }]);
  assert.deepEqual(next.voters, [1, 2, 10]);
  const swap = [
    { type: "addVoter", id: 4 },
    { type: "remove", id: 3 },
  ] as const;
  assert.throws(() => simpleChange(votersOf(1, 2, 3), swap), ConfigurationChangeError);
});

test("dissertation 4.3: a demoted voter waits in learnersNext until the joint configuration is left", () => {
  const ops = [
    { type: "addLearner", id: 3 },
    { type: "addVoter", id: 4 },
  ] as const;
  const joint = enterJoint(votersOf(1, 2, 3), ops, true);
  assert.deepEqual(joint, {
    voters: [1, 2, 4],
    votersOutgoing: [1, 2, 3],
    learners: [],
    learnersNext: [3],
    autoLeave: true,
  });
  assert.deepEqual(leaveJoint(joint), { ...votersOf(1, 2, 4), learners: [3] });
});

test("illegal changes are refused: no voter left, joint twice, leaving what is not joint, nothing to do", () => {
  assert.throws(() => simpleChange(votersOf(1), [{ type: "remove", id: 1 }]), /no voter/);
  const joint = enterJoint(votersOf(1, 2, 3), [{ type: "remove", id: 3 }], false);
  assert.throws(() => enterJoint(joint, [{ type: "addVoter", id: 3 }], false), /joint already/);
  assert.throws(() => leaveJoint(votersOf(1)), /not joint/);
  assert.throws(() => simpleChange(votersOf(1), []), /at least one/);
});
