import assert from "node:assert/strict";
import { test } from "node:test";
import type { NodeAction, NodeInput } from "../../../src/control/decisions.js";
import { decideNode } from "../../../src/control/follow.js";
import type { ControlState, Token } from "../../../src/control/types.js";
import { memberViews } from "../../../src/control/view.js";
import { beginSet, type Cluster, gossip, nodeInput, quorumCluster, settleSet, steadyCluster } from "./fixtures.js";

function is<K extends NodeAction["type"]>(action: NodeAction, type: K): Extract<NodeAction, { type: K }> {
  assert.equal(action.type, type, action.text);
  return action as Extract<NodeAction, { type: K }>;
}

/** b is chosen and granted; what it was told and did so far is in `change`. */
function granted(cluster: Cluster & { readonly first: Token }): Token {
  cluster.begin();
  const token = cluster.promote(2, cluster.first);
  cluster.grant();
  return token;
}

type Change = Parameters<typeof nodeInput>[1];
const ofB = { members: [1, 3], acks: 1 } as const;

/** b, out of recovery under its token, with the lease live; not open. */
function primary(state: ControlState, token: Token, change: Change = {}): NodeInput {
  return nodeInput(state, {
    promotedUnder: token,
    lease: { token, live: true, open: false },
    ...change,
    server: { inRecovery: false, timeline: 3, ...change.server },
  });
}

test("quorum mode: list before the promotion, then marker, proof and opening, one after the other", () => {
  const cluster = quorumCluster();
  const token = granted(cluster);
  const { state } = cluster;
  assert.deepEqual(is(decideNode(nodeInput(state)), "promote").list, ofB);
  assert.deepEqual(is(decideNode(primary(state, token)), "setSyncList").list, ofB);
  const listed = { sync: { list: ofB, provenLsn: null } };
  assert.deepEqual(is(decideNode(primary(state, token, listed)), "mark").parent, cluster.first);
  const marked = { ...listed, server: { markerToken: token } };
  is(decideNode(primary(state, token, marked)), "mark");
  cluster.apply({ type: "marked", token, timeline: 3, forkLsn: "0/200" });
  is(decideNode(primary(cluster.state, token, listed)), "mark");
  assert.deepEqual(is(decideNode(primary(cluster.state, token, marked)), "proveSyncList").list, ofB);
  const proven = { ...marked, sync: { list: ofB, provenLsn: "0/210" } };
  const open = is(decideNode(primary(cluster.state, token, proven)), "open");
  assert.deepEqual([open.timeline, open.forkLsn], [3, "0/200"]);
  // Opened in its own server but not in the log: it says so again.
  const opened = { ...proven, lease: { token, live: true, open: true } };
  is(decideNode(primary(cluster.state, token, opened)), "open");
  cluster.opened(3, "0/200");
  is(decideNode(primary(cluster.state, token, opened)), "none");
});

test("an agent that was started again beside its primary takes up the renewals before anything that may take long", () => {
  const cluster = quorumCluster();
  const token = cluster.first;
  const input = (change: Change) => decideNode(primary(cluster.state, token, { selfId: 1, ...change }));
  is(input({ lease: { token: null, live: false, open: false } }), "promote");
  const again = { lease: { token, live: true, open: true }, server: { markerToken: token } };
  const list = is(input(again), "setSyncList").list;
  assert.deepEqual(list, { members: [2, 3], acks: 1 });
  is(input({ ...again, sync: { list, provenLsn: null } }), "none");
});

test("a set change: the target's list as soon as step 1 is applied, a proof, then step 3 under the version it began with", () => {
  const cluster = quorumCluster();
  const token = cluster.first;
  const act = (change: Change = {}) =>
    decideNode(
      primary(cluster.state, token, {
        selfId: 1,
        lease: { token, live: true, open: true },
        server: { markerToken: token },
        ...change,
      }),
    );
  const old = { list: { members: [2, 3], acks: 1 }, provenLsn: "0/150" };
  is(act({ sync: old }), "none");
  beginSet(cluster, [1, 2], 1);
  const target = { members: [2], acks: 1 };
  assert.deepEqual(is(act({ sync: old }), "setSyncList").list, target);
  assert.deepEqual(is(act({ sync: { list: target, provenLsn: null } }), "proveSyncList").list, target);
  const settle = is(act({ sync: { list: target, provenLsn: "0/300" } }), "settle");
  assert.deepEqual([settle.version, settle.lsn, settle.token], [cluster.state.durability.version, "0/300", token]);
  settleSet(cluster, "0/300");
  is(act({ sync: { list: target, provenLsn: "0/300" } }), "none");
});

test("a promoted node uses the target's list of a change that is under way, and opens before it settles", () => {
  const cluster = quorumCluster();
  beginSet(cluster, [1, 2], 1);
  const token = granted(cluster);
  const list = { members: [1], acks: 1 };
  assert.deepEqual(is(decideNode(nodeInput(cluster.state)), "promote").list, list);
  cluster.apply({ type: "marked", token, timeline: 3, forkLsn: "0/200" });
  const proven = { server: { markerToken: token }, sync: { list, provenLsn: "0/210" } };
  is(decideNode(primary(cluster.state, token, proven)), "open");
  cluster.opened(3, "0/200");
  is(decideNode(primary(cluster.state, token, { ...proven, lease: { token, live: true, open: true } })), "settle");
});

test("a promoted node outside the target keeps to the union", () => {
  const cluster = quorumCluster();
  beginSet(cluster, [1, 3], 1);
  granted(cluster);
  assert.deepEqual(is(decideNode(nodeInput(cluster.state)), "promote").list, ofB);
});

test("a set of one is proven and opened without any list", () => {
  const cluster = quorumCluster(["a", "b", "w"], 0, [1]);
  const token = cluster.first;
  const none = { members: [], acks: 0 };
  const input = { selfId: 1, server: { markerToken: token } };
  assert.deepEqual(is(decideNode(primary(cluster.state, token, input)), "setSyncList").list, none);
  const proven = { ...input, sync: { list: none, provenLsn: "0/1" } };
  is(decideNode(primary(cluster.state, token, proven)), "open");
});

test("asynchronous mode: the list goes only when the promise has ended in the log, also before the opening", () => {
  const cluster = quorumCluster();
  const token = cluster.first;
  const sync = { list: { members: [2, 3], acks: 1 }, provenLsn: null };
  const open = { selfId: 1, server: { markerToken: token }, lease: { token, live: true, open: true }, sync };
  is(decideNode(primary(cluster.state, token, open)), "none");
  cluster.apply({ type: "durabilityMode", mode: "async" });
  assert.equal(is(decideNode(primary(cluster.state, token, open)), "setSyncList").list.acks, 0);
  is(decideNode(primary(cluster.state, token, { ...open, sync: { ...sync, list: { members: [], acks: 0 } } })), "none");
  const second = granted(cluster);
  is(decideNode(primary(cluster.state, second, { sync })), "setSyncList");
  assert.equal(is(decideNode(primary(cluster.state, second)), "promote").list, null);
});

test("quorum mode that has no set yet goes on as asynchronous mode does", () => {
  const cluster = steadyCluster();
  cluster.apply({ type: "durabilityMode", mode: "quorum" });
  granted(cluster);
  assert.equal(is(decideNode(nodeInput(cluster.state)), "promote").list, null);
});

test("standbys follow from the marker on, whether the primary is open or not", () => {
  const cluster = quorumCluster();
  const token = granted(cluster);
  const standby = { selfId: 3, server: { markerToken: cluster.first } };
  is(decideNode(nodeInput(cluster.state, standby)), "none");
  cluster.apply({ type: "marked", token, timeline: 3, forkLsn: "0/200" });
  is(decideNode(nodeInput(cluster.state, standby)), "follow");
  const passed = { ...standby, server: { ...standby.server, replayLsn: "0/201" } };
  assert.equal(is(decideNode(nodeInput(cluster.state, passed)), "rejoin").method, "rewind");
  // Told to follow already: that its agent knows of the marker is no sign that it is behind.
  is(decideNode(nodeInput(cluster.state, { ...standby, pointedAt: token })), "follow");
});

test("an agent that was pointed at a primary knows that its applied log is behind before the marker is in it", () => {
  const cluster = quorumCluster();
  const token = granted(cluster);
  const action = decideNode(nodeInput(cluster.state, { selfId: 3, pointedAt: token }));
  assert.match(is(action, "none").text, /catch up with the replicated log/);
});

test("a node that missed the recruit leaves the old primary as soon as another one is chosen", () => {
  const cluster = quorumCluster();
  cluster.begin();
  const token = cluster.promote(2, cluster.first);
  const late = { selfId: 3, pointedAt: cluster.first, server: { followingToken: cluster.first } };
  assert.deepEqual(is(decideNode(nodeInput(cluster.state, late)), "pledge").token, token);
  is(decideNode(nodeInput(cluster.state, { ...late, pledgedFor: token })), "none");
  cluster.grant();
  is(decideNode(nodeInput(cluster.state, late)), "pledge");
});

test("a node whose rejoin was interrupted by another promotion is rebuilt", () => {
  const cluster = quorumCluster();
  const token = granted(cluster);
  cluster.apply({ type: "marked", token, timeline: 3, forkLsn: "0/200" });
  const server = { markerToken: cluster.first, rejoining: true };
  assert.equal(is(decideNode(nodeInput(cluster.state, { selfId: 3, server })), "rejoin").method, "rebuild");
  is(decideNode(nodeInput(cluster.state, { selfId: 3, pointedAt: token, server })), "follow");
  const following = { ...server, followingToken: token };
  is(decideNode(nodeInput(cluster.state, { selfId: 3, pointedAt: token, server: following })), "none");
});

test("views: a member acknowledges when the promise is in force, it is in the set, and it streams", () => {
  const cluster = quorumCluster(["a", "b", "c", "d"], 1, [1, 2, 3]);
  const heard = new Map([1, 2, 4].map((id) => [id, { receivedAtMs: 900, gossip: gossip(id) }]));
  const shown = () => memberViews(cluster.state, null, heard, 1000).map(({ syncState }) => syncState);
  assert.deepEqual(shown().slice(1), ["quorum", null, "async"]);
  cluster.apply({ type: "durabilityMode", mode: "async" });
  assert.deepEqual(shown().slice(1), ["async", null, "async"]);
});
