import assert from "node:assert/strict";
import { test } from "node:test";
import type { RaftDriver } from "../../../src/agent/raft-driver.js";
import { Submitter } from "../../../src/agent/submitter.js";
import type { CommandBody, Outcome } from "../../../src/control/types.js";
import type { AppMessage, Transport } from "../../../src/transport/types.js";
import { accepted, settle, until } from "./fakes.js";

const release: CommandBody = { type: "release", token: { term: 2, index: 7 }, shutdownLsn: null, text: "t" };

function submitter(answers: Outcome[]) {
  const status = { role: "leader", leader: 1 };
  const sent: Array<{ to: number; message: AppMessage }> = [];
  const proposed: unknown[] = [];
  const driver = {
    status: () => status,
    propose: async (command: unknown) => {
      proposed.push(command);
      return answers.shift() ?? accepted;
    },
  };
  const transport = { sendApp: (to: number, message: AppMessage) => sent.push({ to, message }) };
  const made = new Submitter(1, "a", driver as unknown as RaftDriver, () => transport as unknown as Transport);
  return { made, status, sent, proposed };
}

test("a release that comes while leadership is being handed over is brought in afterwards", async () => {
  const { made, proposed } = submitter([
    { ok: false, code: "transferring", message: "leadership is being transferred" },
    { ok: false, code: "not-leader", message: "this node does not lead" },
  ]);
  assert.deepEqual(await made.submit(release), accepted);
  assert.equal(proposed.length, 3);
});

test("a command that was decided against is not submitted again", async () => {
  const refused: Outcome = { ok: false, code: "stale-token", message: "no" };
  const { made, proposed } = submitter([refused]);
  assert.deepEqual(await made.submit(release), refused);
  assert.equal(proposed.length, 1);
});

test("a command waits for a leader to be elected, and goes to it", async () => {
  const { made, status, sent } = submitter([]);
  Object.assign(status, { role: "follower", leader: 0 });
  const outcome = made.submit(release);
  await settle();
  assert.deepEqual(sent, []);
  status.leader = 2;
  await until(() => sent.length === 1, "it is sent to the new leader");
  const { to, message } = sent[0] as unknown as {
    to: number;
    message: Extract<AppMessage, { kind: "propose" }>;
  };
  assert.equal(to, 2);
  made.answered(message.requestId, accepted);
  assert.deepEqual(await outcome, accepted);
});

test("an answer nobody waits for any more is dropped", () => {
  const { made } = submitter([]);
  made.answered(99, accepted);
});
