import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeState, encodeState } from "../../../src/control/command.js";
import { acksFor, neededPositions, noDurability, wantedList } from "../../../src/control/durability.js";
import { ControlError } from "../../../src/control/errors.js";
import type { Token } from "../../../src/control/types.js";
import { beginSet, newMember, quorumCluster, settleSet, steadyCluster, tags } from "./fixtures.js";

const ids = (count: number) => Array.from({ length: count }, (_, at) => at + 1);

test("k leaves a majority of the voters sufficient, is at least 1, and at most what the standbys can give", () => {
  const shapes: ReadonlyArray<readonly [data: number, witnesses: number, acks: number]> = [
    [1, 0, 0],
    [2, 0, 1],
    [3, 0, 1],
    [4, 0, 1],
    [5, 0, 2],
    [6, 0, 2],
    [7, 0, 3],
    [2, 1, 1],
    [2, 2, 1],
    [3, 1, 1],
    [3, 2, 2],
    [4, 1, 2],
    [2, 3, 1],
    [1, 2, 0],
  ];
  for (const [data, witnesses, acks] of shapes) {
    assert.equal(acksFor(ids(data + witnesses), ids(data)), acks, `${data} data nodes and ${witnesses} witnesses`);
  }
  // Voters outside the set can not be asked for positions: nosync nodes, and those that are not in it yet.
  assert.equal(acksFor([1, 2, 3, 4, 5], [1, 2, 3]), 2);
  assert.equal(acksFor([1, 2, 3, 4], [1, 2, 3]), 1);
});

test("quorum mode is asked for first, and in force only when the primary has proven the set", () => {
  const cluster = steadyCluster();
  const token = cluster.first;
  cluster.refused({ type: "beginSetChange", token, version: 0, members: [1, 2, 3], acks: 1, text: "" }, "wrong-mode");
  cluster.apply({ type: "durabilityMode", mode: "quorum" });
  assert.deepEqual(cluster.state.durability, { ...noDurability, mode: "quorum", version: 1 });
  cluster.refused({ type: "settleSetChange", token, version: 1, lsn: "0/150" }, "no-set-change");
  beginSet(cluster, [1, 2, 3], 1);
  const begun = { mode: "quorum", version: 2, members: [1, 2, 3], acks: 1 } as const;
  assert.deepEqual(cluster.state.durability, { ...begun, target: { members: [1, 2, 3], acks: 1 }, inForce: null });
  settleSet(cluster, "0/150");
  const inForce = { token, lsn: "0/150" };
  assert.deepEqual(cluster.state.durability, { ...begun, version: 3, target: null, inForce });
  assert.match(cluster.state.history.at(-1)?.text ?? "", /1 of b, c besides the primary a\. Quorum mode is in force/);
});

test("asynchronous mode ends the promise with its own entry, whatever was under way", () => {
  const cluster = quorumCluster();
  beginSet(cluster, [1, 2], 1);
  const { version } = cluster.state.durability;
  cluster.apply({ type: "durabilityMode", mode: "async" });
  assert.deepEqual(cluster.state.durability, { ...noDurability, version: version + 1 });
  cluster.refused({ type: "settleSetChange", token: cluster.first, version: version + 1, lsn: "0/1" }, "wrong-mode");
  // Said again it changes nothing, so that a proof under way stays good.
  cluster.apply({ type: "durabilityMode", mode: "async" });
  assert.equal(cluster.state.durability.version, version + 1);
});

test("step 1 demands both sets, the smaller k and the larger number of positions; step 3 only the new one", () => {
  const cluster = quorumCluster(["a", "b", "c", "d", "e"], 2);
  beginSet(cluster, [1, 2], 1);
  const { durability } = cluster.state;
  assert.deepEqual([durability.members, durability.acks], [[1, 2, 3, 4, 5], 1]);
  assert.equal(neededPositions(durability), 4);
  assert.deepEqual(wantedList(durability, 1), { members: [2], acks: 1 });
  settleSet(cluster);
  const settled = cluster.state.durability;
  assert.deepEqual([settled.members, settled.acks, settled.target], [[1, 2], 1, null]);
  assert.deepEqual(settled.inForce, durability.inForce, "the promise goes on without a gap");
});

test("a change under way is led to another target without forgetting what may have been acknowledged", () => {
  const cluster = quorumCluster(["a", "b", "c"], 1, [1, 2]);
  beginSet(cluster, [1], 0);
  beginSet(cluster, [1, 3], 1);
  const { members, acks, target } = cluster.state.durability;
  assert.deepEqual([members, acks, target], [[1, 2, 3], 0, { members: [1, 3], acks: 1 }]);
});

test("a change is conditional on token, phase and version", () => {
  const cluster = quorumCluster();
  const token = cluster.first;
  const { version } = cluster.state.durability;
  const begin = { type: "beginSetChange", token, version, members: [1, 2], acks: 1, text: "" } as const;
  cluster.refused({ ...begin, version: version - 1 }, "stale-version");
  cluster.refused({ ...begin, token: { term: 9, index: 9 } }, "stale-token");
  cluster.apply(begin);
  cluster.refused({ type: "settleSetChange", token, version, lsn: "0/1" }, "stale-version");
  const second = cluster.begin();
  cluster.refused({ type: "settleSetChange", token, version: version + 1, lsn: "0/1" }, "stale-token");
  const settle = { type: "settleSetChange", token: second, version: version + 1, lsn: "0/1" } as const;
  cluster.refused(settle, "wrong-phase");
  cluster.promote(2, token);
  cluster.refused(settle, "wrong-phase");
  cluster.grant();
  cluster.apply(settle);
});

test("a promoted node finishes a change that leads to a set with it, under its own token, before it is open", () => {
  const cluster = quorumCluster();
  beginSet(cluster, [1, 2], 1);
  const { durability } = cluster.state;
  cluster.begin();
  cluster.promote(2, cluster.first);
  assert.equal(cluster.state.durability, durability);
  cluster.grant();
  settleSet(cluster);
  assert.deepEqual(cluster.state.durability.members, [1, 2]);
});

test("promoting a node outside the target cancels the change; the union stays", () => {
  const cluster = quorumCluster();
  beginSet(cluster, [1, 2], 1);
  const { version } = cluster.state.durability;
  cluster.begin();
  const token = cluster.promote(3, cluster.first);
  const { members, acks, target, inForce } = cluster.state.durability;
  assert.deepEqual([members, acks, target], [[1, 2, 3], 1, null]);
  assert.notEqual(inForce, null);
  cluster.grant();
  cluster.refused({ type: "settleSetChange", token, version, lsn: "0/1" }, "stale-version");
});

test("a node outside the set is promoted only when an operator accepts the loss; it enters, and the promise ends", () => {
  const cluster = quorumCluster(["a", "b", "c"], 1, [1, 2]);
  const token = cluster.begin();
  const promote = { type: "promote", token, node: 3, parent: cluster.first, lsn: "0/1", text: "" } as const;
  cluster.refused(promote, "not-in-set");
  cluster.apply({ type: "amendRecruit", token, target: 3, allowDataLoss: true, text: "" });
  cluster.apply(promote);
  const { members, acks, inForce } = cluster.state.durability;
  assert.deepEqual([members, acks, inForce], [[1, 2, 3], 1, null]);
});

test("the primary is always in its set, and nobody who can not acknowledge or be promoted", () => {
  const cluster = quorumCluster(["a", "b", "c", "w"]);
  const { version } = cluster.state.durability;
  const token = cluster.first;
  const begin = (members: readonly number[], acks: number) =>
    ({ type: "beginSetChange", token, version, members, acks, text: "" }) as const;
  for (const [members, acks] of [
    [[2, 3], 1],
    [[], 0],
    [[1, 4], 1],
    [[1, 9], 1],
    [[2, 1], 1],
    [[1, 1], 1],
    [[1, 2], 0],
    [[1, 2], 2],
    [[1], 1],
  ] as const) {
    cluster.refused(begin(members, acks), "bad-set");
  }
  const b = cluster.state.members[1];
  assert.ok(b);
  for (const change of [{ nofailover: true }, { nosync: true }]) {
    cluster.apply({ type: "updateMember", member: { ...b, tags: { ...tags, ...change } } });
    cluster.refused(begin([1, 2], 1), "bad-set");
  }
  // The primary itself stays, whatever its tags say since it became one.
  const a = cluster.state.members[0];
  assert.ok(a);
  cluster.apply({ type: "updateMember", member: { ...a, tags: { ...tags, nofailover: true } } });
  cluster.apply(begin([1, 3], 1));
});

test("a member that is removed still counts until the set has changed; a primary is not removed", () => {
  const cluster = quorumCluster();
  cluster.apply({ type: "removeMember", id: 3 });
  assert.equal(neededPositions(cluster.state.durability), 2);
  assert.deepEqual(cluster.state.durability.members, [1, 2, 3]);
  cluster.refused({ type: "removeMember", id: 1 }, "is-primary");
  cluster.add(newMember("c", { incarnation: "new disk" }));
  assert.deepEqual(cluster.state.durability.members, [1, 2, 3], "a wiped disk is not what it was before");
});

test("without an open primary no member of the set is removed, except a disk that a newer one has replaced", () => {
  const cluster = quorumCluster(["a", "b", "c", "d"], 1, [1, 2, 3]);
  cluster.begin();
  cluster.refused({ type: "removeMember", id: 1 }, "needed-for-failover");
  cluster.refused({ type: "removeMember", id: 3 }, "needed-for-failover");
  cluster.apply({ type: "removeMember", id: 4 });
  cluster.add(newMember("a", { incarnation: "new disk" }));
  cluster.apply({ type: "removeMember", id: 1 });
  cluster.promote(2, cluster.first);
  cluster.refused({ type: "removeMember", id: 3 }, "needed-for-failover");
  cluster.grant();
  cluster.opened(3, "0/200");
  cluster.apply({ type: "removeMember", id: 3 });
});

test("an operator changes target and data loss of a recruit under way, and only of that one", () => {
  const cluster = steadyCluster();
  const amend = { type: "amendRecruit", target: 3, allowDataLoss: true, text: "t" } as const;
  cluster.refused({ ...amend, token: cluster.first }, "wrong-phase");
  const token = cluster.begin({ target: 2, waitLsn: "0/300" });
  cluster.refused({ ...amend, token: cluster.first }, "stale-token");
  cluster.refused({ ...amend, token, target: 9 }, "not-electable");
  cluster.apply({ ...amend, token });
  const { phase } = cluster.state;
  assert.ok(phase.kind === "recruit");
  assert.deepEqual([phase.target, phase.allowDataLoss, phase.waitLsn], [3, true, "0/300"]);
  cluster.promote(2, cluster.first);
  cluster.refused({ ...amend, token }, "wrong-phase");
});

test("marked makes the fork known before the opening; what was said first stays", () => {
  const cluster = steadyCluster();
  const token = cluster.begin();
  const marked = { type: "marked", token, timeline: 3, forkLsn: "0/200" } as const;
  cluster.refused(marked, "wrong-phase");
  cluster.promote(2, cluster.first);
  cluster.refused(marked, "wrong-phase");
  cluster.grant();
  cluster.apply(marked);
  cluster.refused({ ...marked, token: cluster.first }, "stale-token");
  assert.equal(cluster.state.phase.kind, "granted");
  cluster.opened(7, "0/999");
  const { timeline, forkLsn } = cluster.state.promotions.at(-1) ?? {};
  assert.deepEqual([timeline, forkLsn], [3, "0/200"]);
  const { state } = cluster;
  cluster.apply(marked);
  assert.equal(cluster.state, state);
});

test("a state from before there was quorum mode decodes as asynchronous; a damaged record is refused with its place", () => {
  const { state } = quorumCluster();
  const { durability, ...old } = state;
  const bytes = (value: object) => new TextEncoder().encode(JSON.stringify(value));
  assert.deepEqual(decodeState(bytes(old)), { ...state, durability: noDurability });
  assert.deepEqual(decodeState(encodeState(state)), state);
  const damaged = { ...state, durability: { ...durability, acks: "1" } };
  assert.throws(
    () => decodeState(bytes(damaged)),
    (error) => error instanceof ControlError && error.code === "bad-state" && /durability\.acks/.test(error.message),
  );
});

test("the holder of a token that is no longer current can neither begin nor settle", () => {
  const cluster = quorumCluster();
  const { version } = cluster.state.durability;
  const token: Token = cluster.first;
  cluster.failover(2, token, 3, "0/200");
  cluster.refused({ type: "beginSetChange", token, version, members: [1, 2], acks: 1, text: "" }, "stale-token");
});
