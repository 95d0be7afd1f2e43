/** Commands of every kind in any order: applying them is total, the same everywhere, and keeps the set's invariants. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeCommand, decodeState, encodeCommand, encodeState } from "../../../src/control/command.js";
import { ControlError } from "../../../src/control/errors.js";
import { currentHolder } from "../../../src/control/membership.js";
import { applyCommand, emptyControlState } from "../../../src/control/state.js";
import type { Command, CommandBody, ControlState, Durability, Token } from "../../../src/control/types.js";
import { newCluster, newMember } from "./fixtures.js";

const anyToken = fc.record({ term: fc.integer({ min: 0, max: 3 }), index: fc.integer({ min: 0, max: 60 }) });
const lsn = fc.constantFrom("0/10", "0/200", "1/0", "FFFFFFFF/FFFFFFFF");
const id = fc.integer({ min: 1, max: 6 });
const maybe = <T>(of: fc.Arbitrary<T>) => fc.option(of, { nil: null });
const text = fc.constantFrom("", "t");
const name = fc.constantFrom("a", "b", "c", "w");
const reason = fc.constantFrom("lease-expired", "operator", "open-timeout" as const);
const newNode = fc
  .record({ name, incarnation: fc.constantFrom("1", "2"), nofailover: fc.boolean(), nosync: fc.boolean() })
  .map(({ name: called, incarnation, nofailover, nosync }) =>
    newMember(called, {
      incarnation,
      kind: called === "w" ? "witness" : "data",
      tags: { nofailover, nosync, failoverPriority: 100, noloadbalance: false },
    }),
  );

const kinds: readonly fc.Arbitrary<CommandBody>[] = [
  fc.record({
    type: fc.constant("bootstrap" as const),
    clusterId: fc.constant("x"),
    systemIdentifier: fc.constant("7"),
    serverMajor: fc.constant(15),
    leaseMs: fc.integer({ min: 1, max: 3000 }),
    member: newNode,
  }),
  fc.record({
    type: fc.constant("addMember" as const),
    systemIdentifier: fc.constantFrom("7", "8", null),
    serverMajor: fc.constantFrom(15, 16, null),
    member: newNode,
  }),
  fc.record({
    type: fc.constant("updateMember" as const),
    member: fc.tuple(id, newNode).map(([i, m]) => ({ id: i, ...m })),
  }),
  fc.record({ type: fc.constant("removeMember" as const), id }),
  fc.record({
    type: fc.constant("begin" as const),
    from: maybe(anyToken),
    reason,
    target: maybe(id),
    waitLsn: maybe(lsn),
    allowDataLoss: fc.boolean(),
    text,
  }),
  fc.record({ type: fc.constant("promote" as const), token: anyToken, node: id, parent: maybe(anyToken), lsn, text }),
  fc.record({ type: fc.constant("grant" as const), token: anyToken }),
  fc.record({ type: fc.constantFrom("marked", "opened" as const), token: anyToken, timeline: id, forkLsn: lsn }),
  fc.record({ type: fc.constant("release" as const), token: anyToken, shutdownLsn: maybe(lsn), text }),
  fc.record({ type: fc.constant("handover" as const), from: anyToken, target: maybe(id) }),
  fc.record({ type: fc.constant("cancelHandover" as const), from: anyToken, text }),
  fc.record({ type: fc.constant("pause" as const), paused: fc.boolean() }),
  fc.record({ type: fc.constant("settings" as const), leaseMs: fc.integer({ min: 1, max: 3000 }) }),
  fc.record({
    type: fc.constant("amendRecruit" as const),
    token: anyToken,
    target: maybe(id),
    allowDataLoss: fc.boolean(),
    text,
  }),
  fc.record({
    type: fc.constant("durabilityMode" as const),
    mode: fc.constantFrom("async", "quorum", "quorum" as const),
  }),
  fc.record({
    type: fc.constant("beginSetChange" as const),
    token: anyToken,
    version: fc.integer({ min: 0, max: 9 }),
    members: fc.oneof(fc.subarray([1, 2, 3, 4, 5]), fc.array(id, { maxLength: 4 })),
    acks: fc.integer({ min: 0, max: 3 }),
    text,
  }),
  fc.record({
    type: fc.constant("settleSetChange" as const),
    token: anyToken,
    version: fc.integer({ min: 0, max: 9 }),
    lsn,
  }),
];

/** The steps of a failover and of a set change often, what throws the cluster back seldom. */
const seldom: ReadonlySet<number> = new Set([0, 1, 2, 3, 4, 9, 10, 12]);
const bodies: fc.Arbitrary<CommandBody> = fc.oneof(
  ...kinds.map((arbitrary, at) => ({ weight: seldom.has(at) ? 1 : 5, arbitrary })),
);

/** Mostly aimed at the real token and version, so that random sequences get somewhere. */
function aimed(body: CommandBody, state: ControlState): CommandBody {
  const token: Token = state.current ?? { term: 0, index: 0 };
  if (body.type === "beginSetChange") {
    const known = new Set(state.members.map((member) => member.id));
    const members = [...new Set([...body.members, currentHolder(state) ?? 1])].filter((one) => known.has(one)).sort();
    const acks = Math.max(0, Math.min(members.length - 1, Math.max(1, body.acks)));
    return { ...body, token, version: state.durability.version, members, acks };
  }
  const own = body.type === "release" ? (state.lastGranted?.token ?? token) : token;
  return {
    ...body,
    ...("token" in body ? { token: own } : {}),
    ...("from" in body ? { from: body.type === "begin" ? state.current : token } : {}),
    ...("version" in body ? { version: state.durability.version } : {}),
  } as CommandBody;
}

const includes = (all: readonly number[], some: readonly number[]) => some.every((one) => all.includes(one));

/** As it comes out of JSON: fast-check makes objects without a prototype too. */
function plain(command: Command): Command {
  return JSON.parse(JSON.stringify(command)) as Command;
}

/** What holds of the durability set in every state, and between a state and the next one. */
function checkSet(before: ControlState, after: ControlState, command: Command): void {
  const old: Durability = before.durability;
  const now: Durability = after.durability;
  if (now !== old) assert.ok(now.version > old.version, "every change has a new version");
  assert.deepEqual(
    now.members,
    [...new Set(now.members)].sort((a, b) => a - b),
  );
  if (now.mode === "async") assert.deepEqual([now.members, now.target, now.inForce], [[], null, null]);
  if (now.members.length === 0) assert.equal(now.inForce, null, "a promise needs a set");
  const holder = currentHolder(after);
  if (now.members.length > 0 && holder !== null) {
    assert.ok(now.members.includes(holder), "the primary is in its set");
    assert.ok(now.target === null || now.target.members.includes(holder), "and in the one that it leads to");
  }
  if (now.target !== null) {
    assert.ok(includes(now.members, now.target.members), "a target only inside the committed union");
    assert.ok(now.acks <= now.target.acks, "and never asking less than elections count with");
  }
  assert.ok(now.members.length === 0 || (now.acks >= 0 && now.acks < now.members.length));
  // Members leave, and k grows, only by a settle, which the primary proves first; or the promise ends.
  if (command.type !== "settleSetChange" && now.mode === "quorum" && old.members.length > 0) {
    assert.ok(includes(now.members, old.members) && now.acks <= old.acks, `${command.type} narrowed the set`);
  }
  if (old.inForce === null && now.inForce !== null) assert.equal(command.type, "settleSetChange");
}

const run = fc.array(fc.record({ body: bodies, strays: fc.nat(9).map((one) => one === 0), termUp: fc.boolean() }), {
  minLength: 30,
  maxLength: 150,
  size: "max",
});

test("random commands: nothing throws, every node gets the same, and the set keeps its invariants", () => {
  const reached = new Map<string, number>();
  fc.assert(
    fc.property(run, (steps) => {
      let { state } = newCluster(["a", "b", "c", "d"]);
      let [term, index] = [1, 10];
      for (const { body, strays, termUp } of steps) {
        index += 1;
        if (termUp) term += 1;
        const command = plain({ ...(strays ? body : aimed(body, state)), atMs: index, by: "a" });
        const decoded = decodeCommand(encodeCommand(command));
        assert.deepEqual(decoded, command);
        const frozen = encodeState(state);
        const { state: after, outcome } = applyCommand(state, command, { term, index });
        assert.deepEqual(encodeState(state), frozen, "the given state is not changed in place");
        const elsewhere = applyCommand(decodeState(frozen), decoded, { term, index });
        assert.deepEqual(elsewhere, { state: after, outcome }, "another node gets the same");
        if (outcome.ok) reached.set(command.type, (reached.get(command.type) ?? 0) + 1);
        else assert.equal(after, state, "a refusal changes nothing");
        checkSet(state, after, command);
        state = after;
      }
    }),
    { numRuns: 60, seed: 11 },
  );
  for (const type of ["settleSetChange", "beginSetChange", "marked", "amendRecruit", "opened"]) {
    assert.ok((reached.get(type) ?? 0) > 10, `${type} was accepted only ${reached.get(type) ?? 0} times`);
  }
});

test("before the bootstrap every other command is refused in the same way", () => {
  fc.assert(
    fc.property(bodies, (body) => {
      fc.pre(body.type !== "bootstrap");
      const state = emptyControlState();
      const applied = applyCommand(state, { ...body, atMs: 1, by: "a" }, { term: 1, index: 1 });
      assert.equal(applied.state, state);
      assert.equal(applied.outcome.ok ? "" : applied.outcome.code, "not-bootstrapped");
    }),
  );
});

const bytes = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));

/** Decoded or refused with the code that names it; nothing else may come out. */
function decodes(decode: (data: Uint8Array) => unknown, data: Uint8Array, code: string): boolean {
  try {
    decode(data);
    return true;
  } catch (error) {
    assert.ok(error instanceof ControlError && error.code === code, String(error));
    return false;
  }
}

test("junk is refused as junk: bytes, JSON of any shape, and commands with one field changed", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (data) => void decodes(decodeCommand, data, "bad-command")));
  fc.assert(
    fc.property(fc.json(), (json) => {
      const data = new TextEncoder().encode(json);
      assert.equal(decodes(decodeCommand, data, "bad-command"), false);
      assert.equal(decodes(decodeState, data, "bad-state"), false);
    }),
  );
  const junk = fc.constantFrom<unknown>(undefined, null, -1, 1.5, "x", [], {}, true, 2 ** 60, "9/9/9");
  fc.assert(
    fc.property(bodies, fc.nat(20), junk, (body, at, value) => {
      const command: Record<string, unknown> = { ...body, atMs: 1, by: "a" };
      const keys = Object.keys(command);
      command[keys[at % keys.length] as string] = value;
      if (!decodes(decodeCommand, bytes(command), "bad-command")) return;
      // Where the junk happens to fit the field it is a command like any other.
      applyCommand(newCluster().state, decodeCommand(bytes(command)), { term: 1, index: 9 });
    }),
  );
  assert.equal(decodes(decodeCommand, bytes({ type: "fromTheFuture", atMs: 1, by: "a" }), "bad-command"), false);
});
