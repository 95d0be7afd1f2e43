import assert from "node:assert/strict";
import { test } from "node:test";
import type { NodeAction } from "../../../src/control/decisions.js";
import { decideNode } from "../../../src/control/follow.js";
import type { Token } from "../../../src/control/types.js";
import { memberViews, splitAddress } from "../../../src/control/view.js";
import { gossip, newCluster, nodeInput, steadyCluster } from "./fixtures.js";

function rejoins(action: NodeAction): string {
  assert.equal(action.type, "rejoin", `${action.type}: ${action.text}`);
  return (action as Extract<NodeAction, { type: "rejoin" }>).method;
}

function is(action: NodeAction, type: NodeAction["type"]): void {
  assert.equal(action.type, type, action.text);
}

const next = (token: Token): Token => ({ term: token.term, index: token.index + 1000 });

test("recruit: a standby pledges, then waits", () => {
  const cluster = steadyCluster();
  const token = cluster.begin({ waitLsn: "0/300" });
  const action = decideNode(nodeInput(cluster.state));
  assert.deepEqual([action.type, "waitLsn" in action && action.waitLsn], ["pledge", "0/300"]);
  is(decideNode(nodeInput(cluster.state, { pledge: token, pledgedFor: token })), "none");
  // The pledge of an earlier life of the agent is kept, but has to be proven and reported again.
  is(decideNode(nodeInput(cluster.state, { pledge: token })), "pledge");
});

test("recruit and promoted: a server that is not in recovery is stopped", () => {
  const cluster = steadyCluster();
  const old = { selfId: 1, promotedUnder: cluster.first, server: { inRecovery: false } };
  cluster.begin();
  is(decideNode(nodeInput(cluster.state, old)), "demote");
  cluster.promote(2, cluster.first);
  is(decideNode(nodeInput(cluster.state, old)), "demote");
});

test("the old holder that was restarted pledges first, then gives its lease back", () => {
  const cluster = steadyCluster();
  const token = cluster.begin();
  const old = { selfId: 1, promotedUnder: cluster.first };
  is(decideNode(nodeInput(cluster.state, old)), "pledge");
  const action = decideNode(nodeInput(cluster.state, { ...old, pledge: token, pledgedFor: token }));
  assert.deepEqual([action.type, "token" in action && action.token], ["release", cluster.first]);
});

test("promoted: the chosen node does nothing before the grant", () => {
  const cluster = steadyCluster();
  cluster.begin();
  const token = cluster.promote(2, cluster.first);
  is(decideNode(nodeInput(cluster.state, { pledge: token })), "none");
  cluster.grant();
  const action = decideNode(nodeInput(cluster.state, { pledge: token }));
  assert.deepEqual([action.type, "parent" in action && action.parent], ["promote", cluster.first]);
});

test("holder: found in recovery after its own promotion, it gives the lease back; then it waits", () => {
  const cluster = steadyCluster();
  const input = { selfId: 1, promotedUnder: cluster.first };
  is(decideNode(nodeInput(cluster.state, input)), "release");
  cluster.apply({ type: "release", token: cluster.first, shutdownLsn: null, text: "" });
  is(decideNode(nodeInput(cluster.state, input)), "none");
  is(decideNode(nodeInput(cluster.state, { ...input, server: { inRecovery: false } })), "demote");
});

test("holder: out of recovery it goes on until the lease is open, and hands over when asked", () => {
  const cluster = steadyCluster();
  const token = cluster.first;
  const input = { selfId: 1, promotedUnder: token, server: { inRecovery: false } };
  is(decideNode(nodeInput(cluster.state, input)), "promote");
  const open = { ...input, lease: { token, live: true, open: true } };
  is(decideNode(nodeInput(cluster.state, open)), "none");
  is(decideNode(nodeInput(cluster.state, { ...open, promotedUnder: null })), "demote");
  cluster.apply({ type: "handover", from: token, target: 2 });
  is(decideNode(nodeInput(cluster.state, open)), "handover");
});

test("an agent that is behind its own durable state does nothing, least of all to a healthy primary", () => {
  const cluster = steadyCluster();
  const promotedUnder = cluster.begin();
  const primary = { selfId: 2, promotedUnder, server: { inRecovery: false } };
  is(decideNode(nodeInput(newCluster().state, primary)), "none");
  is(decideNode(nodeInput(cluster.state, primary)), "none");
  cluster.promote(2, cluster.first);
  is(decideNode(nodeInput(cluster.state, primary)), "none");
  cluster.grant();
  is(decideNode(nodeInput(cluster.state, primary)), "promote");
  is(decideNode(nodeInput(cluster.state, { ...primary, pledge: next(promotedUnder) })), "none");
});

test("somebody else's primary: a server out of recovery is stopped, member or not", () => {
  const { state } = steadyCluster();
  is(decideNode(nodeInput(state, { server: { inRecovery: false } })), "demote");
  is(decideNode(nodeInput(state, { selfId: 9, server: { inRecovery: false } })), "demote");
  is(decideNode(nodeInput(state, { selfId: 9 })), "none");
});

test("a standby follows only a primary that has written its marker", () => {
  const cluster = steadyCluster();
  cluster.begin();
  cluster.promote(3, cluster.first);
  cluster.grant();
  is(decideNode(nodeInput(cluster.state, { server: { markerToken: cluster.first } })), "none");
});

test("a standby that streams from an older primary leaves it before its position is judged", () => {
  const cluster = steadyCluster();
  const second = cluster.failover(3, cluster.first, 3, "0/200");
  const server = { followingToken: cluster.first, markerToken: cluster.first, streaming: true };
  is(decideNode(nodeInput(cluster.state, { pointedAt: cluster.first, server })), "pledge");
  const left = { ...server, followingToken: null };
  is(decideNode(nodeInput(cluster.state, { pointedAt: cluster.first, pledgedFor: second, server: left })), "follow");
  is(decideNode(nodeInput(cluster.state, { server: { followingToken: second } })), "none");
});

test("nothing is judged before all local WAL is replayed", () => {
  const { state, first } = steadyCluster();
  is(decideNode(nodeInput(state, { server: { markerToken: null, replayDone: false } })), "none");
  is(decideNode(nodeInput(state, { pointedAt: first, server: { replayDone: false } })), "follow");
});

/** a opens on TLI 2 at 0/100, c takes over on TLI 3 at 0/200 with a's token as parent. */
function twoPrimaries() {
  const cluster = steadyCluster();
  const second = cluster.failover(3, cluster.first, 3, "0/200");
  const judge = (server: object, rest: object = {}) =>
    decideNode(nodeInput(cluster.state, { pledgedFor: second, server: { timeline: 2, ...server }, ...rest }));
  return { cluster, first: cluster.first, second, judge };
}

test("divergence: the marker of the current token follows", () => {
  const { second, judge } = twoPrimaries();
  is(judge({ markerToken: second, replayLsn: "9/0", timeline: 3 }), "follow");
});

test("divergence: an ancestor's marker follows up to the fork and is rewound past it", () => {
  const { first, judge } = twoPrimaries();
  is(judge({ markerToken: first, replayLsn: "0/200" }), "follow");
  assert.equal(rejoins(judge({ markerToken: first, replayLsn: "0/201" })), "rewind");
});

test("divergence: the old primary with WAL that nobody else has is rewound", () => {
  const { first, judge } = twoPrimaries();
  const old = { selfId: 1, promotedUnder: first };
  assert.equal(rejoins(judge({ markerToken: first, replayLsn: "0/300" }, old)), "rewind");
  is(judge({ markerToken: first, replayLsn: "0/200" }, old), "follow");
});

test("divergence: the same timeline number under another token is rebuilt", () => {
  const { first, judge } = twoPrimaries();
  assert.equal(rejoins(judge({ markerToken: first, replayLsn: "0/150", timeline: 3 })), "rebuild");
});

test("divergence: a promotion that never opened leaves no known fork: rewound, or rebuilt on the same number", () => {
  const cluster = steadyCluster();
  cluster.begin();
  const lost = cluster.promote(2, cluster.first);
  cluster.grant();
  cluster.failover(3, cluster.first, 3, "0/200");
  const judge = (timeline: number) =>
    decideNode(
      nodeInput(cluster.state, {
        promotedUnder: lost,
        server: { markerToken: cluster.first, replayLsn: "0/150", timeline },
      }),
    );
  assert.equal(rejoins(judge(4)), "rewind");
  assert.equal(rejoins(judge(3)), "rebuild");
});

test("divergence: pointed at a promotion beside the new history, it follows only if it took nothing past either fork", () => {
  const cluster = steadyCluster();
  const side = cluster.failover(3, cluster.first, 3, "0/200");
  cluster.failover(1, cluster.first, 4, "0/300");
  const judge = (replayLsn: string, timeline = 2, markerToken: Token = cluster.first) =>
    decideNode(nodeInput(cluster.state, { pointedAt: side, server: { markerToken, replayLsn, timeline } }));
  is(judge("0/200"), "follow");
  assert.equal(rejoins(judge("0/250")), "rewind");
  assert.equal(rejoins(judge("0/250", 3, side)), "rewind");
});

test("divergence: pointed at an ancestor, its WAL past that ancestor's fork is its own", () => {
  const cluster = steadyCluster();
  const second = cluster.failover(3, cluster.first, 3, "0/200");
  cluster.failover(1, second, 4, "0/400");
  const server = { markerToken: cluster.first, timeline: 3 };
  const judge = (replayLsn: string, pointedAt: Token | null) =>
    decideNode(nodeInput(cluster.state, { pointedAt, server: { ...server, replayLsn } }));
  is(judge("0/250", second), "follow");
  assert.equal(rejoins(judge("0/401", second)), "rewind");
  assert.equal(rejoins(judge("0/250", cluster.first)), "rebuild");
});

test("divergence: a history that the log does not know any more is rebuilt", () => {
  const { judge } = twoPrimaries();
  assert.equal(rejoins(judge({ markerToken: { term: 0, index: 3 }, replayLsn: "0/50" })), "rebuild");
});

test("without a marker a node follows the first promotion up to its fork, and is rebuilt otherwise", () => {
  const { state } = steadyCluster();
  is(decideNode(nodeInput(state, { server: { replayLsn: "0/100" } })), "follow");
  assert.equal(rejoins(decideNode(nodeInput(state, { server: { replayLsn: "0/101" } }))), "rebuild");
  const { judge } = twoPrimaries();
  assert.equal(rejoins(judge({ replayLsn: "0/50" })), "rebuild");
});

test("a witness has nothing to do", () => {
  const { state } = steadyCluster(["a", "w"]);
  is(decideNode(nodeInput(state)), "none");
});

test("views: the lag is measured against the primary, and a silent node is shown as unreachable", () => {
  const { state } = steadyCluster();
  const heard = new Map([
    [1, { receivedAtMs: 900, gossip: gossip(1, { role: "primary", state: "running", writeLsn: "0/300" }) }],
    [2, { receivedAtMs: 900, gossip: gossip(2) }],
    [3, { receivedAtMs: -500, gossip: gossip(3) }],
  ]);
  const [a, b, c] = memberViews(state, null, heard, 1000);
  assert.deepEqual([a?.role, a?.lsn, a?.lagBytes], ["primary", "0/300", null]);
  assert.deepEqual([b?.role, b?.state, b?.lagBytes, b?.lastSeenMs], ["standby", "streaming", 256, 100]);
  assert.deepEqual([c?.role, c?.state], ["stopped", "unreachable"]);
  assert.deepEqual([b?.host, b?.port, b?.apiUrl], ["b", 7400, "http://b:8008/patroni"]);
  assert.deepEqual(splitAddress("[::1]:7400"), { host: "::1", port: 7400 });
});

test("a fresh clone whose data carry a newer marker than the log it has applied waits for the log", () => {
  const cluster = steadyCluster();
  const old = cluster.state;
  const newest = cluster.failover(3, cluster.first, 3, "0/200");
  const clone = { timeline: 3, replayLsn: "0/300", markerToken: newest };
  assert.deepEqual(
    decideNode(nodeInput(old, { server: clone })).type,
    "none",
    "neither an old primary is followed, nor is the clone thrown away",
  );
  assert.equal(decideNode(nodeInput(cluster.state, { server: clone })).type, "follow");
});
