import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { decodeCommand, decodeState, encodeCommand, encodeState } from "../../../src/control/command.js";
import { formatLsn, lsnDifference, parseLsn } from "../../../src/control/lsn.js";
import { applyCommand, emptyControlState } from "../../../src/control/state.js";
import { compareTokens, formatToken, parseToken } from "../../../src/control/token.js";
import type { Command, CommandBody, ControlState, Token } from "../../../src/control/types.js";
import { Cluster, newCluster, newMember, steadyCluster, tags } from "./fixtures.js";

const begin = {
  type: "begin",
  reason: "operator",
  target: null,
  waitLsn: null,
  allowDataLoss: false,
  text: "",
} as const;

test("tokens are ordered by term, then index, and read back as they were written", () => {
  assert.ok(compareTokens({ term: 1, index: 9 }, { term: 2, index: 1 }) < 0);
  assert.ok(compareTokens({ term: 2, index: 10 }, { term: 2, index: 9 }) > 0);
  assert.deepEqual(parseToken("3.17"), { term: 3, index: 17 });
  for (const bad of ["", "3", "3.", "3.x", "03.1", "-1.2", "3.17 ", "9007199254740993.1"]) {
    assert.throws(() => parseToken(bad), { code: "bad-token" });
  }
});

test("WAL positions compare as numbers, never as text", () => {
  assert.equal(lsnDifference("1/0", "0/FFFFFFFF"), 1);
  assert.equal(formatLsn(parseLsn("16/B374D848")), "16/B374D848");
  for (const bad of ["", "0", "0/", "g/0", "0/123456789"]) assert.throws(() => parseLsn(bad), { code: "bad-lsn" });
});

test("a failover walks recruit, promoted, granted, steady under the token of its begin entry", () => {
  const cluster = newCluster();
  const token = cluster.begin({ reason: "bootstrap" });
  assert.deepEqual(token, { term: 1, index: cluster.index });
  assert.equal(cluster.state.phase.kind, "recruit");
  cluster.promote(2, null);
  assert.deepEqual(cluster.state.phase, { kind: "promoted", holder: 2 });
  assert.equal(cluster.state.lastGranted, null, "a promotion alone grants nothing");
  cluster.grant();
  assert.deepEqual(cluster.state.lastGranted, { token, holder: 2 });
  cluster.opened(2, "0/100");
  assert.equal(cluster.state.phase.kind, "steady");
  assert.deepEqual(cluster.state.promotions, [{ token, parent: null, holder: 2, timeline: 2, forkLsn: "0/100" }]);
});

test("nothing but bootstrap applies before the bootstrap, and bootstrap only once", () => {
  const cluster = new Cluster();
  cluster.refused({ ...begin, from: null }, "not-bootstrapped");
  const founded = newCluster(["a"]);
  const again = { clusterId: "x", systemIdentifier: "8", serverMajor: 15, leaseMs: 1000, member: newMember("z") };
  founded.refused({ type: "bootstrap", ...again }, "already-bootstrapped");
});

test("begin is refused for any token but the current one, and while a recruit is under way", () => {
  const cluster = steadyCluster();
  cluster.refused({ ...begin, from: null }, "stale-token");
  cluster.refused({ ...begin, from: cluster.first, target: 9 }, "not-electable");
  const second = cluster.begin();
  cluster.refused({ ...begin, from: cluster.first }, "stale-token");
  cluster.refused({ ...begin, from: second }, "wrong-phase");
});

test("only the first promote of a token counts, and only for an electable data node", () => {
  const cluster = newCluster(["a", "b", "w"]);
  cluster.add(newMember("d", { tags: { ...tags, nofailover: true } }));
  const token = cluster.begin();
  const promote = { type: "promote", token, parent: null, lsn: "0/1", text: "" } as const;
  cluster.refused({ ...promote, node: 1, token: { term: 0, index: 1 } }, "stale-token");
  for (const node of [3, 4, 9]) cluster.refused({ ...promote, node }, "not-electable");
  cluster.promote(1, null);
  cluster.refused({ ...promote, node: 2 }, "wrong-phase");
});

test("grant needs a promotion, opened needs a grant, and both the current token", () => {
  const cluster = newCluster();
  const token = cluster.begin();
  const old = { term: 0, index: 1 };
  cluster.refused({ type: "grant", token }, "wrong-phase");
  cluster.promote(1, null);
  cluster.refused({ type: "grant", token: old }, "stale-token");
  cluster.refused({ type: "opened", token, timeline: 2, forkLsn: "0/1" }, "wrong-phase");
  cluster.grant();
  cluster.refused({ type: "opened", token: old, timeline: 2, forkLsn: "0/1" }, "stale-token");
  cluster.opened(2, "0/1");
  cluster.opened(2, "0/1");
});

test("a release counts only for the newest granted token", () => {
  const cluster = steadyCluster();
  const release = { type: "release", shutdownLsn: null, text: "" } as const;
  cluster.refused({ ...release, token: { term: 0, index: 1 } }, "stale-token");
  const second = cluster.begin();
  cluster.refused({ ...release, token: second }, "stale-token");
  cluster.apply({ ...release, token: cluster.first });
  assert.deepEqual(cluster.state.released?.token, cluster.first);
});

test("a handover needs the steady holder and a target that may be promoted; begin clears it", () => {
  const cluster = steadyCluster(["a", "b", "w"]);
  const from = cluster.first;
  for (const target of [1, 3, 9]) cluster.refused({ type: "handover", from, target }, "not-electable");
  cluster.refused({ type: "handover", from: { term: 0, index: 1 }, target: 2 }, "stale-token");
  cluster.apply({ type: "handover", from, target: 2 });
  cluster.refused({ type: "handover", from, target: null }, "handover-in-progress");
  cluster.begin();
  assert.equal(cluster.state.handover, null);
  cluster.refused({ type: "handover", from: cluster.state.current as Token, target: 2 }, "wrong-phase");
});

test("a handover without any other node to go to is refused", () => {
  const cluster = steadyCluster(["a", "w"]);
  cluster.refused({ type: "handover", from: cluster.first, target: null }, "no-candidate");
});

test("a handover can be cancelled until the holder has released", () => {
  const cluster = steadyCluster();
  cluster.refused({ type: "cancelHandover", from: cluster.first, text: "" }, "stale-token");
  cluster.apply({ type: "handover", from: cluster.first, target: 2 });
  cluster.apply({ type: "release", token: cluster.first, shutdownLsn: "0/300", text: "" });
  cluster.refused({ type: "cancelHandover", from: cluster.first, text: "" }, "wrong-phase");
});

test("a member keeps its id for one disk, and a new disk gets a new id that is never reused", () => {
  const cluster = newCluster(["a", "b"]);
  assert.equal(cluster.add(newMember("b")), 2);
  assert.equal(cluster.add(newMember("b", { incarnation: "disk-2" })), 3);
  assert.deepEqual(
    cluster.state.members.map(({ id }) => id),
    [1, 2, 3],
  );
  cluster.apply({ type: "removeMember", id: 3 });
  assert.equal(cluster.add(newMember("c")), 4);
});

test("a server of another database or another major version can not join", () => {
  const cluster = newCluster(["a"]);
  const add = { type: "addMember", member: newMember("b") } as const;
  cluster.refused({ ...add, systemIdentifier: "8", serverMajor: 15 }, "wrong-system-identifier");
  cluster.refused({ ...add, systemIdentifier: null, serverMajor: 15 }, "wrong-system-identifier");
  cluster.refused({ ...add, systemIdentifier: "7", serverMajor: 16 }, "wrong-major");
});

test("the primary, the last data node and an unknown id can not be removed", () => {
  const cluster = steadyCluster(["a", "w"]);
  cluster.refused({ type: "removeMember", id: 1 }, "is-primary");
  cluster.refused({ type: "removeMember", id: 9 }, "unknown-member");
  cluster.begin();
  cluster.refused({ type: "removeMember", id: 1 }, "last-data-node");
});

test("an update changes neither name, disk nor kind of an id", () => {
  const cluster = newCluster(["a"]);
  const member = { id: 1, ...newMember("a") };
  cluster.refused({ type: "updateMember", member: { ...member, incarnation: "other" } }, "identity");
  cluster.refused({ type: "updateMember", member: { ...member, id: 5 } }, "unknown-member");
  cluster.apply({ type: "updateMember", member: { ...member, dsn: "host=elsewhere" } });
  assert.equal(cluster.state.members[0]?.dsn, "host=elsewhere");
});

test("a shorter lease does not shorten the wait for a holder that may still count with the longer one", () => {
  const cluster = steadyCluster();
  cluster.refused({ type: "settings", leaseMs: 499 }, "bad-lease");
  cluster.apply({ type: "settings", leaseMs: 500 });
  assert.deepEqual([cluster.state.leaseMs, cluster.state.leaseCeilingMs], [500, 1000]);
  cluster.failover(2, cluster.first, 3, "0/200");
  assert.equal(cluster.state.leaseCeilingMs, 500);
});

test("history and promotions are bounded and keep the newest", () => {
  const cluster = steadyCluster();
  for (let i = 0; i < 80; i++) cluster.failover(1 + (i % 3), cluster.state.current, 3 + i, "0/200");
  assert.equal(cluster.state.history.length, 200);
  assert.equal(cluster.state.promotions.length, 64);
  assert.deepEqual(cluster.state.promotions.at(-1)?.token, cluster.state.current);
  assert.ok(cluster.state.history.every(({ text }) => text !== ""));
});

test("commands that are not exactly what their type says are refused when decoded and when encoded", () => {
  const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const grant = { atMs: 1, by: "a", type: "grant", token: { term: 1, index: 2 } };
  assert.deepEqual(decodeCommand(bytes(grant)), grant);
  const bad: unknown[] = [
    null,
    [],
    "grant",
    { ...grant, type: "toString" },
    { ...grant, extra: 1 },
    { ...grant, atMs: undefined },
    { ...grant, token: { term: 1 } },
    { ...grant, token: { term: 1.5, index: 2 } },
    { atMs: 1, by: "a", type: "opened", token: grant.token, timeline: 2, forkLsn: "zzz" },
  ];
  for (const value of bad) assert.throws(() => decodeCommand(bytes(value)), { code: "bad-command" });
  assert.throws(() => decodeCommand(new Uint8Array([0xff, 0x7b])), { code: "bad-command" });
  assert.throws(() => encodeCommand({ ...grant, token: { term: -1, index: 2 } } as Command), { code: "bad-command" });
  assert.throws(() => decodeState(bytes({ ...emptyControlState(), format: 2 })), { code: "bad-state" });
});

const smallToken = fc
  .tuple(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 60 }))
  .map(([term, index]) => ({ term, index }));
const aim = fc.constantFrom("current", "granted", "other");
const lsn = fc.constantFrom("0/10", "0/200", "1/0");
const node = fc.integer({ min: 1, max: 6 });
const orNull = <T>(of: fc.Arbitrary<T>) => fc.option(of, { nil: null });

/** Commands that mostly aim at the real tokens, so that random sequences get somewhere. */
const step = fc.record({
  kind: fc.constantFrom(
    "begin",
    "promote",
    "grant",
    "opened",
    "release",
    "handover",
    "cancelHandover",
    "addMember",
    "removeMember",
    "pause",
    "settings",
  ),
  aim: fc.oneof({ weight: 6, arbitrary: fc.constant("current") }, { weight: 1, arbitrary: aim }),
  token: smallToken,
  node,
  target: orNull(node),
  lsn,
  waitLsn: orNull(lsn),
  name: fc.constantFrom("a", "b", "c", "d"),
  disk: fc.constantFrom("1", "2"),
  flag: fc.boolean(),
  leaseMs: fc.integer({ min: 400, max: 3000 }),
  termUp: fc.boolean(),
});
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function toBody(state: ControlState, s: Step): CommandBody {
  const aimed =
    s.aim === "current" ? state.current : s.aim === "granted" ? (state.lastGranted?.token ?? null) : s.token;
  const token = aimed ?? s.token;
  const text = "";
  switch (s.kind) {
    case "begin":
      return {
        type: "begin",
        from: aimed,
        reason: "operator",
        target: s.target,
        waitLsn: s.waitLsn,
        allowDataLoss: s.flag,
        text,
      };
    case "promote":
      return { type: "promote", token, node: s.node, parent: aimed, lsn: s.lsn, text };
    case "grant":
      return { type: "grant", token };
    case "opened":
      return { type: "opened", token, timeline: s.node, forkLsn: s.lsn };
    case "release":
      return { type: "release", token, shutdownLsn: s.waitLsn, text };
    case "handover":
      return { type: "handover", from: token, target: s.target };
    case "cancelHandover":
      return { type: "cancelHandover", from: token, text };
    case "addMember":
      return {
        type: "addMember",
        systemIdentifier: "7",
        serverMajor: 15,
        member: newMember(s.name, { incarnation: s.disk }),
      };
    case "removeMember":
      return { type: "removeMember", id: s.node };
    case "pause":
      return { type: "pause", paused: s.flag };
    default:
      return { type: "settings", leaseMs: s.leaseMs };
  }
}

const legalNext: Readonly<Record<string, readonly string[]>> = {
  empty: ["empty", "recruit"],
  recruit: ["recruit", "promoted"],
  promoted: ["promoted", "granted", "recruit"],
  granted: ["granted", "steady", "recruit"],
  steady: ["steady", "recruit"],
};

test("random commands keep the invariants: one holder a token, tokens grow, phases are legal, apply is deterministic", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
      let { state } = newCluster(["a", "b"]);
      const holders = new Map<string, number>();
      let [term, index] = [1, 10];
      for (const s of steps) {
        index += 1;
        if (s.termUp) term += 1;
        const command: Command = { ...toBody(state, s), atMs: index, by: "a" };
        assert.deepEqual(decodeCommand(encodeCommand(command)), command);
        const before = encodeState(state);
        const { state: next, outcome } = applyCommand(state, command, { term, index });
        assert.deepEqual(encodeState(state), before, "the given state is not changed in place");
        assert.deepEqual(applyCommand(decodeState(before), command, { term, index }).state, next);
        if (!outcome.ok) assert.equal(next, state);
        assert.ok(legalNext[state.phase.kind]?.includes(next.phase.kind), `${state.phase.kind} -> ${next.phase.kind}`);
        if (state.current !== null) assert.ok(next.current !== null && compareTokens(next.current, state.current) >= 0);
        if (state.lastGranted !== null && next.lastGranted !== null) {
          assert.ok(compareTokens(next.lastGranted.token, state.lastGranted.token) >= 0);
        }
        for (const { token, holder } of next.promotions) {
          const known = holders.get(formatToken(token));
          assert.ok(known === undefined || known === holder, "a token has one holder for ever");
          holders.set(formatToken(token), holder);
        }
        assert.ok(next.leaseCeilingMs >= next.leaseMs);
        assert.equal(new Set(next.members.map(({ id }) => id)).size, next.members.length);
        assert.ok(next.members.every(({ id }) => id < next.nextNodeId));
        assert.deepEqual(decodeState(encodeState(next)), next);
        state = next;
      }
    }),
    { numRuns: 200 },
  );
});
