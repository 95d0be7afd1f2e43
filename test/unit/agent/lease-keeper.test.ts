import assert from "node:assert/strict";
import { afterEach, test } from "node:test";
import { LeaseKeeper } from "../../../src/agent/lease-keeper.js";
import type { Token } from "../../../src/control/types.js";
import { FakeSupervisor, LogLines, settle } from "./fakes.js";

const token: Token = { term: 2, index: 7 };
const newer: Token = { term: 3, index: 1 };
/** Renewals are asked for by the tests, not by the keeper's timer. */
const leaseMs = 60_000;

const keepers: LeaseKeeper[] = [];
afterEach(() => {
  for (const keeper of keepers.splice(0)) keeper.forget();
});

function keeper(supervisor = new FakeSupervisor()) {
  const sent: Array<{ token: Token; stampNs: string }> = [];
  const log = new LogLines();
  const made = { unfit: null as string | null, leaderKnown: true };
  const lease = new LeaseKeeper({
    link: supervisor.link,
    log: log.logger,
    leaseMs: () => leaseMs,
    unfit: () => made.unfit,
    sendRenewal: (of, stampNs) => {
      if (made.leaderKnown) sent.push({ token: of, stampNs });
      return made.leaderKnown;
    },
  });
  keepers.push(lease);
  return Object.assign(made, { supervisor, lease, sent, log });
}

test("the lease counts from the stamp taken before the request, however late its confirmation comes", async () => {
  const { supervisor, lease, sent } = keeper();
  await lease.hold(token);
  await settle();
  const stamped = supervisor.nowMs;
  supervisor.nowMs += 10_000;
  lease.confirmed(token, sent[0]?.stampNs ?? "");
  await settle();
  assert.equal(supervisor.deadlineMs, stamped + leaseMs);
});

test("the stamp is taken before the renewal is sent", async () => {
  const { supervisor, lease, sent } = keeper();
  supervisor.hold();
  const held = lease.hold(token);
  supervisor.release();
  await held;
  supervisor.hold();
  await settle();
  assert.equal(sent.length, 1);
  lease.renew();
  await settle();
  assert.equal(sent.length, 1, "nothing is sent before the stamp is there");
  supervisor.nowMs += 5000;
  supervisor.release();
  await settle();
  assert.equal(sent[1]?.stampNs, "1000000000", "and the stamp is of the time of the request");
});

test("a confirmation that comes after the token was forgotten does not reach the word", async () => {
  const { supervisor, lease, sent } = keeper();
  await lease.hold(token);
  await settle();
  lease.forget();
  await supervisor.link.expire();
  lease.confirmed(token, sent[0]?.stampNs ?? "");
  await settle();
  assert.equal(supervisor.names().includes("renew"), false);
  assert.equal(supervisor.deadlineMs, 0);
});

test("a renewal on its way to the supervisor when the word is expired is undone by the order of the two", async () => {
  const { supervisor, lease, sent } = keeper();
  await lease.hold(token);
  await settle();
  lease.confirmed(token, sent[0]?.stampNs ?? "");
  lease.forget();
  await supervisor.link.expire();
  await settle();
  assert.deepEqual(supervisor.names().slice(-2), ["renew", "expire"]);
  assert.equal(supervisor.deadlineMs, 0);
});

test("a token that is forgotten while its stamp is under way is not renewed", async () => {
  const { supervisor, lease, sent } = keeper();
  await lease.hold(token);
  await settle();
  sent.length = 0;
  supervisor.hold();
  lease.renew();
  lease.forget();
  supervisor.release();
  await settle();
  assert.deepEqual(sent, []);
});

test("a confirmation of an earlier token moves nothing under a newer one", async () => {
  const { supervisor, lease, sent } = keeper();
  await lease.hold(token);
  await settle();
  await lease.hold(newer);
  lease.confirmed(token, sent[0]?.stampNs ?? "");
  await settle();
  assert.equal(supervisor.deadlineMs, 0);
  assert.equal(lease.live, false);
});

test("a thawed agent's old confirmations revive nothing", async () => {
  const { supervisor, lease, sent } = keeper();
  await lease.hold(token);
  await settle();
  supervisor.nowMs += 3 * leaseMs;
  lease.confirmed(token, sent[0]?.stampNs ?? "");
  await settle();
  assert.equal(supervisor.writable, false);
  assert.equal(supervisor.word().remainingMs, 0);
  assert.equal(lease.live, false);
});

test("an agent that is started again finds the word as it is and only renews", async () => {
  const supervisor = new FakeSupervisor();
  Object.assign(supervisor, { token, deadlineMs: 5000, open: true });
  const { lease, sent } = keeper(supervisor);
  await lease.hold(token);
  await settle();
  assert.equal(lease.open, true);
  assert.equal(lease.live, true);
  assert.equal(supervisor.deadlineMs, 5000);
  assert.equal(sent.length, 1);
});

test("a token that is older than the word's is not held", async () => {
  const supervisor = new FakeSupervisor();
  Object.assign(supervisor, { token: newer });
  const { lease, sent, log } = keeper(supervisor);
  await lease.hold(token);
  await settle();
  assert.equal(lease.token, null);
  assert.deepEqual(sent, []);
  assert.ok(log.has("carries a newer token"));
});

test("an unfit server's lease is not renewed, and neither is one without a leader; both are said once", async () => {
  const made = keeper();
  await made.lease.hold(token);
  await settle();
  made.sent.length = 0;
  made.unfit = "the local server is gone";
  made.lease.renew();
  made.lease.renew();
  await settle();
  made.unfit = null;
  made.leaderKnown = false;
  made.lease.renew();
  await settle();
  assert.deepEqual(made.sent, []);
  assert.equal(made.log.lines.filter((line) => line.includes("the local server is gone")).length, 1);
  assert.ok(made.log.has("no Raft leader is known"));
});

test("a supervisor that fails once does not end the renewals", async () => {
  const { supervisor, lease, sent } = keeper();
  await lease.hold(token);
  await settle();
  sent.length = 0;
  supervisor.failNext.set("stamp", new Error("the supervisor did not answer"));
  lease.renew();
  await settle();
  lease.renew();
  await settle();
  assert.equal(sent.length, 1);
});
