import assert from "node:assert/strict";
import { test } from "node:test";
import type { LeaderInput } from "../../../src/control/decisions.js";
import { decideLeader } from "../../../src/control/failover.js";
import { noneUnsynced, trackUnsynced } from "../../../src/control/set-change.js";
import type { CommandBody, Gossip } from "../../../src/control/types.js";
import {
  beginSet,
  type Cluster,
  gossip,
  leaderInput,
  newMember,
  quorumCluster,
  settleSet,
  steadyCluster,
  tags,
} from "./fixtures.js";

const now = 100_000;

/** a writes at 0/300; the given nodes stream from it, the others are not heard of. */
function heard(cluster: Cluster, streaming: readonly number[], change: Partial<Gossip> = {}): LeaderInput["gossip"] {
  const holder = cluster.state.lastGranted?.holder ?? 1;
  const token = cluster.state.current;
  const primary = gossip(holder, { role: "primary", state: "running", token, writeLsn: "0/300" });
  const standbys = streaming.map((id) => gossip(id, { token, receiveLsn: "0/300", ...change }));
  return new Map([primary, ...standbys].map((one) => [one.id, { receivedAtMs: now, gossip: one }]));
}

type Change = Parameters<typeof leaderInput>[1];

/** The set that the leader wants: members and k; null: it is content. */
function wants(cluster: Cluster, change: Change = {}): unknown {
  const action = decideLeader(leaderInput(cluster.state, change));
  if (action.type !== "propose") return null;
  const { command } = action as { command: CommandBody };
  if (command.type !== "beginSetChange") return null;
  assert.equal(cluster.try(command).ok, true, "what the leader proposes is accepted");
  return [command.members, command.acks];
}

const late = (...ids: number[]) => new Map(ids.map((id) => [id, now - 1001]));

test("asynchronous mode has no set; quorum mode begins with the primary and whoever streams", () => {
  const cluster = steadyCluster();
  assert.equal(wants(cluster, { gossip: heard(cluster, [2, 3]) }), null);
  cluster.apply({ type: "durabilityMode", mode: "quorum" });
  assert.deepEqual(wants(cluster, { gossip: heard(cluster, [2]) }), [[1, 2], 1]);
  // Nothing was proven yet: the third may still come along.
  assert.deepEqual(wants(cluster, { gossip: heard(cluster, [2, 3]) }), [[1, 2, 3], 1]);
  assert.equal(wants(cluster, { gossip: heard(cluster, [2, 3]) }), null);
  settleSet(cluster);
  assert.equal(wants(cluster, { gossip: heard(cluster, [2, 3]) }), null);
});

test("a standby enters when it streams, has the marker, and is at most a segment behind", () => {
  const cluster = quorumCluster(["a", "b", "c"], 1, [1, 2]);
  const enters = (change: Partial<Gossip>) => {
    const writing = new Map(heard(cluster, [2, 3], change));
    return decideLeader(leaderInput(cluster.state, { gossip: writing })).type === "propose";
  };
  assert.equal(enters({ state: "catching up" }), false);
  assert.equal(enters({ token: null }), false);
  assert.equal(enters({}), true);
  const far = new Map(heard(cluster, [2, 3]));
  far.set(1, { receivedAtMs: now, gossip: gossip(1, { role: "primary", writeLsn: "0/1000301" }) });
  assert.equal(decideLeader(leaderInput(cluster.state, { gossip: far })).type, "wait");
  far.set(1, { receivedAtMs: now, gossip: gossip(1, { role: "primary", writeLsn: "0/1000300" }) });
  assert.equal(decideLeader(leaderInput(cluster.state, { gossip: far })).type, "propose");
});

test("a dead standby costs nothing while the others can acknowledge; tags and removal take a node out", () => {
  const cluster = quorumCluster();
  assert.equal(wants(cluster, { unsyncedSinceMs: late(2) }), null);
  const c = cluster.state.members[2];
  assert.ok(c);
  cluster.apply({ type: "updateMember", member: { ...c, tags: { ...tags, nosync: true } } });
  assert.deepEqual(wants(cluster), [[1, 2], 1]);
  settleSet(cluster);
  cluster.apply({ type: "removeMember", id: 2 });
  assert.deepEqual(wants(cluster, { raft: { voters: [1, 3] } }), [[1], 0]);
});

test("where every standby has to acknowledge, one that does not stream leaves after D, and comes back when it streams", () => {
  const cluster = quorumCluster(["a", "b", "w"]);
  assert.equal(wants(cluster, { unsyncedSinceMs: new Map([[2, now - 1000]]) }), null);
  assert.deepEqual(wants(cluster, { unsyncedSinceMs: late(2) }), [[1], 0]);
  settleSet(cluster);
  assert.equal(wants(cluster, { unsyncedSinceMs: late(2) }), null);
  assert.deepEqual(wants(cluster, { gossip: heard(cluster, [2]) }), [[1, 2], 1]);
});

test("where others could acknowledge, only nodes that are silent as a whole are given up", () => {
  const cluster = quorumCluster(["a", "b", "c", "d", "w"], 2);
  const standbys = late(3, 4);
  assert.equal(wants(cluster, { unsyncedSinceMs: standbys }), null, "c and d are alive: they will stream again");
  const progress = [1, 2, 5].map((id) => ({ id, match: 50, recentActive: true }));
  assert.equal(
    wants(cluster, { unsyncedSinceMs: standbys, raft: { progress }, gossip: heard(cluster, [2, 3, 4]) }),
    null,
  );
  assert.deepEqual(wants(cluster, { unsyncedSinceMs: standbys, raft: { progress } }), [[1, 2], 1]);
});

test("a promoted node that gets no acknowledgement for its marker loses the dead from its set before it is open", () => {
  const cluster = quorumCluster(["a", "b", "w"]);
  cluster.begin();
  const token = cluster.promote(2, cluster.first);
  assert.equal(wants(cluster, { unsyncedSinceMs: late(1) }), null);
  cluster.grant();
  cluster.apply({ type: "marked", token, timeline: 3, forkLsn: "0/300" });
  assert.deepEqual(wants(cluster, { unsyncedSinceMs: late(1) }), [[2], 0]);
  settleSet(cluster);
  assert.deepEqual([cluster.state.durability.members, cluster.state.phase.kind], [[2], "granted"]);
});

test("a target that can not be proven any more is left for another one", () => {
  const cluster = quorumCluster(["a", "b", "w"], 0, [1]);
  assert.deepEqual(wants(cluster, { gossip: heard(cluster, [2]) }), [[1, 2], 1]);
  assert.deepEqual(wants(cluster, { unsyncedSinceMs: late(2) }), [[1], 0]);
});

test("no change is begun during a switchover, after a release, or while the Raft configuration is joint", () => {
  const joint = quorumCluster(["a", "b", "w"]);
  const unsyncedSinceMs = late(2);
  assert.equal(wants(joint, { unsyncedSinceMs, raft: { votersOutgoing: [1, 2] } }), null);
  joint.apply({ type: "handover", from: joint.first, target: 2 });
  assert.equal(wants(joint, { unsyncedSinceMs }), null);
  const released = quorumCluster(["a", "b", "w"]);
  released.apply({ type: "pause", paused: true });
  released.apply({ type: "release", token: released.first, shutdownLsn: null, text: "" });
  assert.equal(wants(released, { unsyncedSinceMs }), null);
});

test("after a promise that an operator broke, the same set is proven anew", () => {
  const cluster = quorumCluster();
  cluster.begin({ allowDataLoss: true });
  cluster.promote(2, cluster.first);
  cluster.grant();
  cluster.opened(3, "0/300");
  assert.equal(cluster.state.durability.inForce, null);
  assert.deepEqual(wants(cluster), [[1, 2, 3], 1]);
  settleSet(cluster, "0/400");
  assert.deepEqual(cluster.state.durability.inForce, { token: cluster.state.current, lsn: "0/400" });
});

test("a new voter changes k, and a new disk under an old name enters as another member", () => {
  const cluster = quorumCluster();
  cluster.add(newMember("c", { incarnation: "new" }));
  cluster.apply({ type: "removeMember", id: 3 });
  assert.deepEqual(wants(cluster, { raft: { voters: [1, 2, 4] }, gossip: heard(cluster, [2]) }), [[1, 2], 1]);
  assert.deepEqual(wants(cluster, { raft: { voters: [1, 2, 4] }, gossip: heard(cluster, [2, 4]) }), [[1, 2, 4], 1]);
});

test("since when a node does not stream: counted from the marker, anew for each primary, forgotten when it streams", () => {
  const cluster = quorumCluster();
  const look = (before: typeof noneUnsynced, at: number, streaming: readonly number[]) =>
    trackUnsynced(before, { state: cluster.state, gossip: heard(cluster, streaming), now: at });
  const first = look(noneUnsynced, now, [2]);
  assert.deepEqual([...first.sinceMs], [[3, now]]);
  const second = look(first, now + 500, [2]);
  assert.deepEqual([...second.sinceMs], [[3, now]]);
  assert.deepEqual([...look(second, now + 600, [2, 3]).sinceMs], []);
  // Gossip that is older than a lease tells nothing any more.
  assert.deepEqual([...look(second, now + 1001, [2]).sinceMs.keys()].sort(), [2, 3]);
  cluster.begin();
  assert.deepEqual([...look(second, now, [2]).sinceMs], []);
  const token = cluster.promote(2, cluster.first);
  cluster.grant();
  assert.deepEqual([...look(second, now, []).sinceMs], [], "there is nobody to stream from yet");
  cluster.apply({ type: "marked", token, timeline: 3, forkLsn: "0/300" });
  assert.deepEqual(
    [...look(second, now + 700, []).sinceMs],
    [
      [1, now + 700],
      [3, now + 700],
    ],
  );
});

test("a change under way is not begun again", () => {
  const cluster = quorumCluster(["a", "b", "w"]);
  beginSet(cluster, [1], 0);
  assert.equal(wants(cluster, { unsyncedSinceMs: late(2) }), null);
});
