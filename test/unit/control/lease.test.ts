import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { LeaseGrantor, LeaseHolder, leaseTimings } from "../../../src/control/lease.js";
import type { Token } from "../../../src/control/types.js";
import { steadyCluster } from "./fixtures.js";

const leaseMs = 1000;
const waitMs = 1021;

function leading(elapsedMs = 0, electedAtMs = 0, term = 5): LeaseGrantor {
  const grantor = new LeaseGrantor();
  grantor.becomeLeader({ term, electedAtMs, electionElapsedMs: elapsedMs });
  return grantor;
}

test("the wait is longer than the lease by what two clocks can drift apart", () => {
  assert.equal(leaseTimings(leaseMs).waitOutMs, waitMs);
  fc.assert(
    fc.property(fc.integer({ min: 500, max: 600_000 }), (d) => {
      const { waitOutMs, suspectAfterMs, electionTimeoutMs, renewEveryMs, heartbeatIntervalMs } = leaseTimings(d);
      // W on the fastest grantor's clock is at least D on the slowest holder's.
      assert.ok(waitOutMs * 99 >= d * 101);
      assert.ok(2 * electionTimeoutMs <= d && suspectAfterMs < d && renewEveryMs * 9 <= d);
      assert.ok(heartbeatIntervalMs * 4 < electionTimeoutMs);
    }),
  );
});

test("a grant waits until strictly after W from the last accepted renewal", () => {
  const { state, first } = steadyCluster();
  const grantor = leading(waitMs);
  assert.ok(grantor.request({ state, from: 1, token: first, stampNs: "1", now: 5000 }).ok);
  assert.equal(grantor.mayGrant(state, 5000 + waitMs).ok, false);
  assert.equal(grantor.mayGrant(state, 5000 + waitMs + 1).ok, true);
});

test("an accepted renewal counts although its round never ended", () => {
  const { state, first } = steadyCluster();
  const grantor = leading(waitMs);
  grantor.request({ state, from: 1, token: first, stampNs: "1", now: 100 });
  assert.equal(grantor.lastAcceptedMs, 100);
  assert.equal(grantor.mayGrant(state, 500).ok, false);
});

test("a new leader holds for W less the time its voters had not heard of any leader", () => {
  const { state } = steadyCluster();
  assert.equal(leading(0).mayGrant(state, waitMs).ok, false);
  assert.equal(leading(0).mayGrant(state, waitMs + 1).ok, true);
  assert.equal(leading(600).mayGrant(state, waitMs - 600).ok, false);
  assert.equal(leading(600).mayGrant(state, waitMs - 599).ok, true);
  assert.equal(leading(99_999).mayGrant(state, 1).ok, true);
});

test("a leader that leads again keeps nothing of its earlier leadership", () => {
  const { state, first } = steadyCluster();
  const grantor = leading(waitMs);
  grantor.request({ state, from: 1, token: first, stampNs: "1", now: 10 });
  grantor.roundStarted({ term: 5, sequence: 1 }, [{ from: 1, token: first, stampNs: "1" }]);
  grantor.stepDown();
  assert.equal(grantor.mayGrant(state, 1e9).ok, false, "a follower grants nothing");
  assert.equal(grantor.suspectAtMs(state), Number.POSITIVE_INFINITY);
  grantor.becomeLeader({ term: 7, electedAtMs: 20, electionElapsedMs: 0 });
  assert.equal(grantor.lastAcceptedMs, null);
  assert.deepEqual(grantor.roundConfirmed({ term: 5, sequence: 1 }, state), []);
  assert.deepEqual(grantor.roundConfirmed({ term: 7, sequence: 1 }, state), []);
  assert.equal(grantor.mayGrant(state, 20 + waitMs).ok, false);
});

test("a renewal is confirmed only by a round that started after it", () => {
  const { state, first } = steadyCluster();
  const grantor = leading();
  const renewal = { from: 1, token: first, stampNs: "1" };
  grantor.request({ state, ...renewal, now: 1 });
  grantor.roundStarted({ term: 5, sequence: 4 }, [renewal]);
  assert.deepEqual(grantor.roundConfirmed({ term: 5, sequence: 3 }, state), [], "an older round proves nothing");
  assert.deepEqual(grantor.roundConfirmed({ term: 4, sequence: 9 }, state), [], "nor does one of another term");
  assert.deepEqual(grantor.roundConfirmed({ term: 5, sequence: 5 }, state), [renewal], "a later one does");
  assert.deepEqual(grantor.roundConfirmed({ term: 5, sequence: 5 }, state), [], "once");
});

test("renewals are refused, and confirmed ones not answered, from the moment begin is applied", () => {
  const cluster = steadyCluster();
  const grantor = leading();
  const renewal = { from: 1, token: cluster.first, stampNs: "1" };
  assert.ok(grantor.request({ state: cluster.state, ...renewal, now: 1 }).ok);
  grantor.roundStarted({ term: 5, sequence: 1 }, [renewal]);
  cluster.begin();
  assert.deepEqual(grantor.roundConfirmed({ term: 5, sequence: 1 }, cluster.state), []);
  assert.equal(grantor.request({ state: cluster.state, ...renewal, now: 2 }).ok, false);
  assert.equal(grantor.lastAcceptedMs, 1, "a refused renewal does not put the grant off");
});

test("a promoted node renews nothing before its grant is applied", () => {
  const cluster = steadyCluster();
  const grantor = leading();
  cluster.begin();
  const token = cluster.promote(2, cluster.first);
  const ask = () => grantor.request({ state: cluster.state, from: 2, token, stampNs: "1", now: 1 }).ok;
  assert.equal(ask(), false);
  cluster.grant();
  assert.equal(ask(), true);
});

test("only the holder renews, and not a token it has released", () => {
  const cluster = steadyCluster();
  const grantor = leading();
  const ask = (from: number, token: Token) =>
    grantor.request({ state: cluster.state, from, token, stampNs: "1", now: 1 }).ok;
  assert.equal(ask(2, cluster.first), false);
  assert.equal(ask(1, { term: 0, index: 1 }), false);
  assert.equal(ask(1, cluster.first), true);
  cluster.apply({ type: "release", token: cluster.first, shutdownLsn: null, text: "" });
  assert.equal(ask(1, cluster.first), false);
});

test("a release of the newest granted token waives the wait, an older one does not", () => {
  const cluster = steadyCluster();
  cluster.apply({ type: "release", token: cluster.first, shutdownLsn: null, text: "" });
  assert.equal(leading().mayGrant(cluster.state, 0).ok, true);
  cluster.failover(2, cluster.first, 3, "0/200");
  assert.equal(leading().mayGrant(cluster.state, 0).ok, false);
});

test("the grant waits for the longest lease that the holder may still count with", () => {
  const cluster = steadyCluster();
  cluster.apply({ type: "settings", leaseMs: 500 });
  assert.equal(leading().mayGrant(cluster.state, waitMs).ok, false);
  assert.equal(leading().mayGrant(cluster.state, waitMs + 1).ok, true);
});

test("the holder is suspect 0.9 D after it was last heard of, which a grant does not rest on", () => {
  const { state, first } = steadyCluster();
  const grantor = leading(300, 1000);
  assert.equal(grantor.suspectAtMs(state), 700 + 900);
  grantor.request({ state, from: 1, token: first, stampNs: "1", now: 1200 });
  assert.equal(grantor.suspectAtMs(state), 1200 + 900);
  assert.equal(grantor.mayGrant(state, 1200 + 900).ok, false);
});

test("answers for a token that was forgotten are dropped", () => {
  const holder = new LeaseHolder();
  const token = { term: 1, index: 2 };
  assert.equal(holder.accepts(token), false);
  holder.hold(token);
  assert.equal(holder.accepts({ term: 1, index: 2 }), true);
  assert.equal(holder.accepts({ term: 1, index: 3 }), false);
  holder.forget();
  assert.equal(holder.accepts(token), false);
});
