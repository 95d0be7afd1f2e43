import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import type { Command, Outcome } from "../../../src/control/types.js";
import type { Message } from "../../../src/raft/types.js";
import { settle, type TestDriver, testDriver, until, votersOf } from "./fakes.js";

const running: TestDriver[] = [];
afterEach(async () => {
  for (const { driver } of running.splice(0)) await driver.stop();
});

const pause: Command = { type: "pause", paused: true, atMs: 1, by: "a" };

async function leaderOfOne(): Promise<TestDriver> {
  const made = testDriver(1, votersOf(1));
  running.push(made);
  made.driver.start();
  made.driver.campaign();
  await until(() => made.driver.status().termCommitted, "the only voter leads");
  return made;
}

/** Node 1 of three, made leader of term 2 by node 2's votes. */
async function leaderOfThree(): Promise<TestDriver> {
  const made = testDriver(1, votersOf(1, 2, 3));
  running.push(made);
  const { driver } = made;
  driver.start();
  driver.campaign();
  await until(() => made.sent.some(({ type }) => type === "PreVote"), "it asks for pre-votes");
  driver.step({ type: "PreVoteResponse", from: 2, to: 1, term: 2, granted: true });
  await until(() => made.sent.some(({ type }) => type === "RequestVote"), "it asks for votes");
  driver.step({ type: "RequestVoteResponse", from: 2, to: 1, term: 2, granted: true, elapsedMs: 0 });
  await until(() => driver.status().role === "leader", "node 1 leads");
  return made;
}

function outcomeOf(proposal: Promise<Outcome>): { value: Outcome | null } {
  const box: { value: Outcome | null } = { value: null };
  proposal.then((outcome) => {
    box.value = outcome;
  });
  return box;
}

test("a command that can not be encoded is refused, and the node goes on", async () => {
  const { driver, fatal } = await leaderOfOne();
  const bad = { type: "begin", from: { term: 1, index: -1 }, atMs: 1, by: "a" } as unknown as Command;
  const outcome = await driver.propose(bad);
  assert.equal(outcome.ok ? "accepted" : outcome.code, "bad-command");
  assert.deepEqual(fatal, []);
  assert.equal(driver.status().role, "leader");
  const after = await driver.propose(pause);
  assert.equal(after.ok ? "accepted" : after.code, "not-bootstrapped", "the next proposal is decided as ever");
});

test("a proposal that another leader's shorter log cuts off is known to be lost although nothing takes its index", async () => {
  const { driver } = await leaderOfThree();
  const { lastIndex: noop } = driver.status();
  const proposals = [pause, pause, pause].map((command) => outcomeOf(driver.propose(command)));
  await settle();
  assert.ok(proposals.every(({ value }) => value === null));
  // The leader of term 3 never got any of it: its own first entry takes the place of node 1's.
  const entries = [{ term: 3, index: noop, type: "noop" as const }];
  const append: Message = {
    type: "AppendEntries",
    from: 2,
    to: 1,
    term: 3,
    prevIndex: noop - 1,
    prevTerm: 1,
    entries,
    commit: noop,
  };
  driver.step(append);
  await until(() => proposals.every(({ value }) => value !== null), "each proposal has an outcome");
  for (const { value } of proposals) assert.equal(value?.ok === false ? value.code : "accepted", "lost");
  assert.equal(driver.status().lastIndex, noop);
});

test("proposals that come while a write is under way share the next one", async () => {
  const { driver, storage } = await leaderOfOne();
  const persist = storage.persist.bind(storage);
  const written: number[] = [];
  let letGo = () => {};
  const held = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  storage.persist = async (batch) => {
    if (batch.entries.length > 0) written.push(batch.entries.length);
    if (written.length === 1) await held;
    return persist(batch);
  };
  const first = driver.propose(pause);
  await until(() => written.length === 1, "the first is being written");
  const others = Array.from({ length: 10 }, () => driver.propose(pause));
  letGo();
  await Promise.all([first, ...others]);
  assert.deepEqual(written, [1, 10]);
});

test("a storage failure ends the node and leaves nobody waiting", async () => {
  const made = await leaderOfOne();
  made.storage.persist = () => Promise.reject(new Error("no space left"));
  const outcome = await made.driver.propose(pause);
  assert.equal(outcome.ok ? "accepted" : outcome.code, "lost");
  assert.equal(made.fatal.length, 1);
  const later = await made.driver.propose(pause);
  assert.equal(later.ok ? "accepted" : later.code, "lost", "nothing is promised afterwards");
});

test("R28: a leader whose storage write never ends steps down and sends nothing more, however much its peers answer", async () => {
  const made = await leaderOfThree();
  const { driver, storage, sent } = made;
  const persist = storage.persist.bind(storage);
  let release = () => {};
  const stalled = new Promise<void>((resolve) => {
    release = resolve;
  });
  storage.persist = async (batch) => {
    await stalled;
    await persist(batch);
  };
  const proposal = outcomeOf(driver.propose(pause));
  await settle();
  const before = sent.length;
  await until(() => {
    driver.step({ type: "HeartbeatResponse", from: 2, to: 1, term: 2, round: 0 });
    return driver.status().role !== "leader";
  }, "it steps down by itself");
  assert.equal(sent.length, before, "nothing that keeps the others quiet");
  assert.equal(proposal.value, null, "its entry may still be committed by another leader");
  const refused = await driver.propose(pause);
  assert.equal(refused.ok ? "accepted" : refused.code, "not-leader");
  release();
});
