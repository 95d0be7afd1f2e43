import assert from "node:assert/strict";
import { test } from "node:test";
import { decideLeader } from "../../../src/control/failover.js";
import type { CommandBody, Report } from "../../../src/control/types.js";
import { beginSet, type Cluster, gossip, leaderInput, position, quorumCluster, tags } from "./fixtures.js";

type Change = Parameters<typeof leaderInput>[1];

function reports(given: Record<number, Report>): ReadonlyMap<number, Report> {
  return new Map(Object.entries(given).map(([id, report]) => [Number(id), report]));
}

/** What the leader makes of these reports: the promoted node, or why nobody is. The others are dead. */
function elects(cluster: Cluster, given: Record<number, Report>, change: Change = {}): number | string {
  const progress = Object.keys(given).map((id) => ({ id: Number(id), match: 50, recentActive: true }));
  const input = leaderInput(cluster.state, {
    selfId: 9,
    reports: reports(given),
    phaseSinceMs: 0,
    firstReportMs: 0,
    ...change,
    raft: { progress, ...change.raft },
  });
  const action = decideLeader(input);
  if (action.type === "wait") return action.text;
  assert.equal(action.type, "propose", JSON.stringify(action));
  const { command } = action as { command: CommandBody };
  assert.equal(command.type, "promote");
  return (command as Extract<CommandBody, { type: "promote" }>).node;
}

const five = ["a", "b", "c", "d", "e"] as const;

test("N - k positions of the set decide; with one fewer the leader waits for ever and names who is missing", () => {
  const cluster = quorumCluster(five, 2);
  const token = cluster.first;
  cluster.begin();
  const at = (lsn: string) => position({ token, lsn });
  const two = { 2: at("0/200"), 3: at("0/300") };
  const why = elects(cluster, two, { now: 1e9 });
  assert.match(
    String(why),
    /need 1 more of a, d, e, or a alone, the last primary \(.* 5 nodes and 2 acknowledgements\)/,
  );
  assert.equal(elects(cluster, { ...two, 4: at("0/100") }), 3);
});

test("the intact last primary is enough alone, before it wrote a marker of its own too", () => {
  const cluster = quorumCluster(five, 2);
  const first = cluster.first;
  cluster.begin();
  assert.equal(elects(cluster, { 1: position({ token: first }) }), 1);
  cluster.promote(2, first);
  cluster.grant();
  cluster.begin();
  assert.equal(elects(cluster, { 2: position({ token: first }) }), 2);
  assert.match(String(elects(cluster, { 1: position({ token: first, wasHolder: true }) })), /need 2 more/);
});

test("a node that is granted nothing yet is not the last primary", () => {
  const cluster = quorumCluster();
  cluster.begin();
  cluster.promote(2, cluster.first);
  cluster.begin();
  assert.match(String(elects(cluster, { 2: position({ token: cluster.first }) })), /need 1 more of a, c, or a alone/);
});

test("a node in rejoin and one that is unable never count, however long it takes", () => {
  const cluster = quorumCluster();
  const token = cluster.first;
  cluster.begin();
  const b = position({ token });
  assert.match(
    String(elects(cluster, { 2: b, 1: { kind: "rejoining" } }, { now: 1e9 })),
    /need 1 more of a \(rejoining\), c/,
  );
  assert.match(String(elects(cluster, { 2: b, 3: { kind: "unable", why: "down" } }, { now: 1e9 })), /c \(down\)/);
});

test("witnesses, and data nodes outside the set, never count and are never chosen", () => {
  const cluster = quorumCluster(["a", "b", "c", "d", "w"], 1, [1, 2, 3]);
  const token = cluster.first;
  cluster.begin();
  const far = position({ token, lsn: "9/0" });
  const why = elects(cluster, { 4: far, 5: far, 2: position({ token }) });
  assert.match(String(why), /need 1 more of a, c/);
  assert.equal(elects(cluster, { 4: far, 2: position({ token }), 3: position({ token, lsn: "0/201" }) }), 3);
});

test("while a set changes, both sets count with the smaller k", () => {
  const cluster = quorumCluster(["a", "b", "w"]);
  const token = cluster.first;
  beginSet(cluster, [1], 0);
  cluster.begin();
  assert.match(String(elects(cluster, { 2: position({ token }) })), /need 1 more of a/);
  assert.equal(elects(cluster, { 2: position({ token }), 1: position({ token, lsn: "0/300" }) }), 1);
});

test("a set of one is its primary: nobody else is promoted, and no failover is begun for its silence", () => {
  const cluster = quorumCluster(["a", "b", "w"], 0, [1]);
  const suspect = leaderInput(cluster.state, { selfId: 3, suspectAtMs: 100_000 });
  const action = decideLeader(suspect);
  assert.ok(action.type === "wait");
  assert.match(action.text, /a does not renew its lease; waiting for it: 0 other nodes .* needs 1/);
  cluster.begin();
  assert.match(String(elects(cluster, { 2: position({ token: cluster.first, lsn: "9/0" }) })), /need 1 more of a/);
});

test("a failover is begun for silence only when the living nodes of the set could decide it", () => {
  const cluster = quorumCluster(five, 2);
  const progress = (active: readonly number[]) =>
    [1, 2, 3, 4, 5].map((id) => ({ id, match: 50, recentActive: active.includes(id) }));
  const input = (active: readonly number[]) =>
    leaderInput(cluster.state, { selfId: 2, suspectAtMs: 0, raft: { progress: progress(active) } });
  assert.equal(decideLeader(input([2, 3, 4])).type, "propose");
  const action = decideLeader(input([2, 3]));
  assert.match(action.type === "wait" ? action.text : "", /2 other nodes .* needs 3/);
});

test("(token, LSN) ranks; the lag limit is for asynchronous mode", () => {
  const cluster = quorumCluster();
  const token = cluster.first;
  cluster.begin();
  const lag = {
    maximumLagOnFailover: 0,
    gossip: new Map([[1, { receivedAtMs: 0, gossip: gossip(1, { writeLsn: "9/0" }) }]]),
  };
  assert.equal(
    elects(cluster, { 2: position({ token, lsn: "0/200" }), 3: position({ token: null, lsn: "5/0" }) }, lag),
    2,
  );
});

test("the best position is taken even if its node may not be promoted: then the others wait for the same", () => {
  const cluster = quorumCluster();
  const token = cluster.first;
  const c = cluster.state.members[2];
  assert.ok(c);
  cluster.apply({ type: "updateMember", member: { ...c, tags: { ...tags, nofailover: true } } });
  cluster.begin();
  const [near, far] = [position({ token, lsn: "0/200" }), position({ token, lsn: "0/300" })];
  assert.match(String(elects(cluster, { 2: near, 3: far })), /c has the best position but is tagged nofailover/);
  assert.equal(elects(cluster, { 2: far, 3: far }), 2);
});

test("an operator may accept the loss; history names who may have what is lost", () => {
  const cluster = quorumCluster(["a", "b", "c", "d"], 1, [1, 2, 3]);
  const token = cluster.begin();
  const given = { 4: position({ token: cluster.first, lsn: "0/200" }) };
  assert.match(String(elects(cluster, given)), /need 2 more of a, b, c/);
  cluster.apply({ type: "amendRecruit", token, target: null, allowDataLoss: true, text: "" });
  assert.equal(elects(cluster, given), 4);
  const action = decideLeader(
    leaderInput(cluster.state, { reports: reports(given), firstReportMs: 0, selfId: 9, raft: { progress: [] } }),
  );
  assert.match(JSON.stringify(action), /loss of acknowledged commits that only a, b, c may have/);
});

test("a target that lacks something is taken only with the loss accepted, and history says what is lost", () => {
  const cluster = quorumCluster();
  const token = cluster.begin({ target: 2 });
  const given = {
    2: position({ token: cluster.first, lsn: "0/200" }),
    3: position({ token: cluster.first, lsn: "0/300" }),
  };
  assert.equal(elects(cluster, given), 3);
  cluster.apply({ type: "amendRecruit", token, target: 2, allowDataLoss: true, text: "" });
  assert.equal(elects(cluster, given), 2);
});

test("after a total restart the last primary is waited for as a courtesy only, min(D, 3 s)", () => {
  const cluster = quorumCluster();
  const token = cluster.first;
  cluster.begin();
  const restarted = position({ token, followedSinceStart: false });
  const given = { 2: restarted, 3: restarted };
  assert.match(
    String(elects(cluster, given, { phaseSinceMs: 99_000 })),
    /every data node was restarted; waiting for a/,
  );
  assert.equal(elects(cluster, given, { phaseSinceMs: 98_999 }), 2);
});

test("a switchover: whoever has replayed the shutdown checkpoint has everything, in the old primary's history only", () => {
  const cluster = quorumCluster(five, 2);
  const { first } = cluster;
  cluster.apply({ type: "handover", from: first, target: 2 });
  cluster.apply({ type: "release", token: first, shutdownLsn: "0/500", text: "" });
  cluster.begin({ reason: "switchover", target: 2, waitLsn: "0/500" });
  assert.equal(elects(cluster, { 2: position({ token: first, lsn: "0/500" }) }), 2);
  assert.match(String(elects(cluster, { 2: position({ token: first, lsn: "0/4FF" }) })), /need 2 more/);
  assert.match(String(elects(cluster, { 2: position({ token: null, lsn: "0/500" }) })), /need 2 more/);
  const behind = { 2: position({ token: first }), 3: position({ token: first }), 4: position({ token: first }) };
  assert.match(String(elects(cluster, behind, { phaseSinceMs: 99_950 })), /no node has replayed 0\/500/);
  assert.equal(elects(cluster, behind, { now: 200_000 }), 2);
});
