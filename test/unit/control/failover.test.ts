import assert from "node:assert/strict";
import { test } from "node:test";
import type { LeaderAction, LeaderInput } from "../../../src/control/decisions.js";
import { decideLeader } from "../../../src/control/failover.js";
import type { CommandBody, Report, Token } from "../../../src/control/types.js";
import { type Cluster, gossip, leaderInput, newCluster, newMember, position, steadyCluster, tags } from "./fixtures.js";

function proposed(action: LeaderAction): CommandBody {
  assert.equal(action.type, "propose", action.type === "wait" ? action.text : undefined);
  return (action as Extract<LeaderAction, { type: "propose" }>).command;
}

function waits(action: LeaderAction, pattern: RegExp): void {
  assert.equal(action.type, "wait", JSON.stringify(action));
  assert.match((action as Extract<LeaderAction, { type: "wait" }>).text, pattern);
}

function promotes(action: LeaderAction): number {
  const command = proposed(action);
  assert.equal(command.type, "promote");
  return (command as Extract<CommandBody, { type: "promote" }>).node;
}

function begins(action: LeaderAction): string {
  const command = proposed(action);
  assert.equal(command.type, "begin");
  return (command as Extract<CommandBody, { type: "begin" }>).reason;
}

function reports(given: Record<number, Report>): ReadonlyMap<number, Report> {
  return new Map(Object.entries(given).map(([id, report]) => [Number(id), report]));
}

const suspect = { suspectAtMs: 100_000 } as const;
const release = (cluster: Cluster, token: Token, shutdownLsn: string | null = null) =>
  cluster.apply({ type: "release", token, shutdownLsn, text: "" });

test("a leader whose own entry is not committed and applied decides nothing", () => {
  const { state } = newCluster();
  waits(decideLeader(leaderInput(state, { raft: { termCommitted: false } })), /first entry/);
});

test("bootstrap: the first data node begins, recruits itself alone and is promoted", () => {
  const cluster = newCluster(["a"]);
  const command = proposed(decideLeader(leaderInput(cluster.state)));
  assert.deepEqual([command.type, "from" in command && command.from], ["begin", null]);
  cluster.apply(command);
  waits(decideLeader(leaderInput(cluster.state)), /waiting for a/);
  const input = leaderInput(cluster.state, { reports: reports({ 1: position({ followedSinceStart: false }) }) });
  assert.equal(promotes(decideLeader(input)), 1);
});

test("steady and nothing to do: waits in silence", () => {
  assert.deepEqual(decideLeader(leaderInput(steadyCluster().state)), { type: "wait", text: "" });
});

test("silence of the holder begins a failover at 0.9 D, not before, and not while paused", () => {
  const cluster = steadyCluster();
  assert.equal(begins(decideLeader(leaderInput(cluster.state, suspect))), "lease-expired");
  waits(decideLeader(leaderInput(cluster.state, { suspectAtMs: 100_001 })), /^$/);
  cluster.apply({ type: "pause", paused: true });
  waits(decideLeader(leaderInput(cluster.state, suspect)), /^$/);
});

test("silence of the only data node begins nothing: nobody else could be promoted", () => {
  waits(decideLeader(leaderInput(steadyCluster(["a"]).state, suspect)), /^$/);
  waits(decideLeader(leaderInput(steadyCluster(["a", "w"]).state, { ...suspect, selfId: 2 })), /^$/);
});

test("a release begins a failover at once", () => {
  const cluster = steadyCluster();
  release(cluster, cluster.first);
  assert.equal(begins(decideLeader(leaderInput(cluster.state))), "released");
});

test("the release of a handover begins the switchover to its target, even while paused", () => {
  const cluster = steadyCluster();
  cluster.apply({ type: "pause", paused: true });
  cluster.apply({ type: "handover", from: cluster.first, target: 3 });
  release(cluster, cluster.first, "0/300");
  const command = proposed(decideLeader(leaderInput(cluster.state))) as Extract<CommandBody, { type: "begin" }>;
  assert.deepEqual([command.reason, command.target, command.waitLsn], ["switchover", 3, "0/300"]);
});

test("a target that was tagged nofailover after it was asked for does not block the switchover", () => {
  const cluster = steadyCluster();
  cluster.apply({ type: "handover", from: cluster.first, target: 3 });
  cluster.apply({
    type: "updateMember",
    member: { id: 3, ...newMember("c", { tags: { ...tags, nofailover: true } }) },
  });
  release(cluster, cluster.first, "0/300");
  const command = proposed(decideLeader(leaderInput(cluster.state))) as Extract<CommandBody, { type: "begin" }>;
  assert.equal(command.target, null);
  cluster.apply(command);
});

test("a holder that hands over in time is not suspect while it is heard of, and is when it is not", () => {
  const cluster = steadyCluster();
  cluster.apply({ type: "handover", from: cluster.first, target: 2 });
  const heard = new Map([[1, { receivedAtMs: 99_900, gossip: gossip(1) }]]);
  const input = leaderInput(cluster.state, { ...suspect, selfId: 2, gossip: heard, handoverSinceMs: 98_000 });
  waits(decideLeader(input), /^$/);
  assert.equal(begins(decideLeader({ ...input, gossip: new Map() })), "lease-expired");
  assert.equal(begins(decideLeader({ ...input, handoverSinceMs: 89_000 })), "lease-expired");
});

test("a handover that makes no progress while the holder renews is cancelled", () => {
  const cluster = steadyCluster();
  cluster.apply({ type: "handover", from: cluster.first, target: 2 });
  assert.equal(proposed(decideLeader(leaderInput(cluster.state, { handoverSinceMs: 89_000 }))).type, "cancelHandover");
  waits(decideLeader(leaderInput(cluster.state, { handoverSinceMs: 95_000 })), /^$/);
});

test("promoted: grants only when no earlier lease can be running", () => {
  const cluster = steadyCluster();
  cluster.begin();
  cluster.promote(2, cluster.first);
  waits(decideLeader(leaderInput(cluster.state)), /old lease may be running/);
  const may = { mayGrant: { ok: true, why: "" } };
  assert.equal(proposed(decideLeader(leaderInput(cluster.state, may))).type, "grant");
});

test("promoted or granted: a node that can not be reached for W + 3 D is given up", () => {
  const cluster = steadyCluster();
  cluster.begin();
  cluster.promote(2, cluster.first);
  const progress = [{ id: 2, match: 1, recentActive: false }];
  const at = (phaseSinceMs: number) => leaderInput(cluster.state, { phaseSinceMs, raft: { progress } });
  assert.equal(begins(decideLeader(at(100_000 - 4022))), "not-renewed");
  waits(decideLeader(at(100_000 - 4021)), /as soon as it is safe/);
  cluster.grant();
  assert.equal(begins(decideLeader(at(100_000 - 4022))), "not-renewed");
});

test("granted: not open in time begins again, with twice the time at each attempt, and not while paused", () => {
  const cluster = steadyCluster();
  cluster.begin();
  cluster.promote(2, cluster.first);
  cluster.grant();
  const at = (phaseSinceMs: number, openAttempts: number) =>
    decideLeader(leaderInput(cluster.state, { phaseSinceMs, openAttempts }));
  assert.equal(begins(at(89_999, 0)), "open-timeout");
  waits(at(90_000, 0), /open as the new primary/);
  waits(at(89_999, 1), /open as the new primary/);
  assert.equal(begins(at(79_999, 1)), "open-timeout");
  cluster.apply({ type: "pause", paused: true });
  waits(at(79_999, 1), /open as the new primary/);
});

test("granted: a release before the opening begins again, at most once a lease", () => {
  const cluster = steadyCluster();
  cluster.begin();
  const token = cluster.promote(2, cluster.first);
  cluster.grant();
  release(cluster, token);
  waits(decideLeader(leaderInput(cluster.state, { phaseSinceMs: 99_001 })), /open/);
  assert.equal(begins(decideLeader(leaderInput(cluster.state, { phaseSinceMs: 99_000 }))), "released");
});

test("steady: leadership goes to the holder when it is a caught-up active voter", () => {
  const { state } = steadyCluster();
  assert.deepEqual(decideLeader(leaderInput(state, { selfId: 2 })).type, "transfer");
  const lagging = [{ id: 1, match: 1, recentActive: true }];
  waits(decideLeader(leaderInput(state, { selfId: 2, raft: { progress: lagging } })), /^$/);
});

// Elections

function recruiting(change: Parameters<Cluster["begin"]>[0] = {}, names?: readonly string[]) {
  const cluster = steadyCluster(names);
  cluster.begin(change);
  const elect = (given: Record<number, Report>, input: Parameters<typeof leaderInput>[1] = {}) =>
    decideLeader(leaderInput(cluster.state, { reports: reports(given), firstReportMs: 99_000, ...input }));
  return { cluster, first: cluster.first, elect };
}

test("the highest (token, LSN) wins: a marker outranks any LSN without it", () => {
  const { first, elect } = recruiting();
  assert.equal(promotes(elect({ 2: position({ token: first }), 3: position({ lsn: "9/0" }) })), 2);
  const both = { 2: position({ token: first }), 3: position({ token: first, lsn: "0/201" }) };
  assert.equal(promotes(elect(both)), 3);
});

test("priority breaks exact ties only", () => {
  const { cluster, first, elect } = recruiting();
  const tagged = { ...tags, failoverPriority: 200 };
  cluster.apply({ type: "updateMember", member: { id: 3, ...newMember("c", { tags: tagged }) } });
  const at = (lsn: string) => position({ token: first, lsn });
  assert.equal(promotes(elect({ 2: at("0/200"), 3: at("0/200") })), 3);
  assert.equal(promotes(elect({ 2: at("0/201"), 3: at("0/200") })), 2);
});

test("a node tagged nofailover reports but is not chosen", () => {
  const { cluster, first, elect } = recruiting();
  const tagged = { ...tags, nofailover: true };
  cluster.apply({ type: "updateMember", member: { id: 3, ...newMember("c", { tags: tagged }) } });
  assert.equal(promotes(elect({ 2: position({ token: first }), 3: position({ token: first, lsn: "1/0" }) })), 2);
  waits(elect({ 1: { kind: "rejoining" }, 3: position({ token: first }) }), /nofailover/);
});

test("without a majority of data voters the leader waits and names who is missing", () => {
  const { first, elect } = recruiting();
  waits(elect({ 2: position({ token: first }) }), /1 of 2 needed.*waiting for a, c/);
  waits(elect({ 2: position({ token: first }), 3: { kind: "unable", why: "disk full" } }), /c \(disk full\)/);
});

test("rejoining answers but never counts as a position", () => {
  const { first, elect } = recruiting();
  waits(elect({ 2: { kind: "rejoining" }, 3: { kind: "rejoining" } }), /no data node has reported/);
  assert.equal(promotes(elect({ 2: position({ token: first }), 3: { kind: "rejoining" } })), 2);
});

test("a node that is unable is waited for, but not for ever", () => {
  const { first, elect } = recruiting();
  const given = { 2: position({ token: first }), 3: { kind: "unable", why: "down" } } as const;
  waits(elect(given, { phaseSinceMs: 90_000 }), /1 of 2/);
  assert.equal(promotes(elect(given, { phaseSinceMs: 89_999 })), 2);
});

test("with a witness one of two data nodes is enough", () => {
  const { first, elect } = recruiting({}, ["a", "b", "w"]);
  assert.equal(promotes(elect({ 2: position({ token: first }) })), 2);
});

test("the intact holder alone is always sufficient", () => {
  const { first, elect } = recruiting();
  const progress = [{ id: 1, match: 50, recentActive: true }];
  const report = position({ token: first, wasHolder: true, followedSinceStart: false });
  assert.equal(promotes(elect({ 1: report }, { raft: { progress } })), 1);
});

test("stragglers that are alive get a short grace, which ends early when everybody has answered", () => {
  const { first, elect } = recruiting();
  const two = { 2: position({ token: first }), 3: position({ token: first }) };
  waits(elect(two, { firstReportMs: 99_901 }), /a moment for a/);
  assert.equal(promotes(elect(two, { firstReportMs: 99_900 })), 2);
  assert.equal(promotes(elect({ ...two, 1: { kind: "unable", why: "down" } }, { firstReportMs: 99_999 })), 2);
  const progress = [2, 3].map((id) => ({ id, match: 50, recentActive: true }));
  assert.equal(promotes(elect(two, { firstReportMs: 99_999, selfId: 2, raft: { progress } })), 2);
});

test("after a total restart the old primary is waited for, for a while", () => {
  const { first, elect } = recruiting();
  const restarted = position({ token: first, followedSinceStart: false });
  const two = { 2: restarted, 3: restarted };
  waits(elect(two, { phaseSinceMs: 90_000 }), /waiting for a, the last primary/);
  assert.equal(promotes(elect(two, { phaseSinceMs: 89_999 })), 2);
  assert.equal(promotes(elect({ ...two, 1: position({ token: first, lsn: "0/300" }) })), 1);
  assert.equal(promotes(elect({ ...two, 1: { kind: "rejoining" } })), 2);
});

test("the lag limit blocks a node that is too far behind the last known primary position", () => {
  const { first, elect } = recruiting();
  const behind = position({ token: first, lastPrimaryLsn: "0/1200" });
  const two = { 2: behind, 3: behind };
  waits(elect(two, { maximumLagOnFailover: 4095 }), /b, is 4096 bytes behind.*maximum_lag_on_failover/);
  assert.equal(promotes(elect(two, { maximumLagOnFailover: 4096 })), 2);
  const heard = new Map([[1, { receivedAtMs: 1, gossip: gossip(1, { writeLsn: "0/F200" }) }]]);
  waits(elect(two, { maximumLagOnFailover: 4096, gossip: heard }), /61440 bytes/);
  const lossy = recruiting({ reason: "operator", allowDataLoss: true });
  assert.equal(promotes(lossy.elect(two, { maximumLagOnFailover: 0 })), 2);
});

test("an unknown primary position does not block, and history says so", () => {
  const { first, elect } = recruiting();
  const command = proposed(elect({ 2: position({ token: first }), 3: position() }, { maximumLagOnFailover: 0 }));
  assert.match((command as Extract<CommandBody, { type: "promote" }>).text, /is not known/);
});

test("an operator's target is honoured unless it is behind; with allowDataLoss always", () => {
  const at = (token: Token, lsn: string) => position({ token, lsn });
  const asked = recruiting({ reason: "operator", target: 3 });
  assert.equal(promotes(asked.elect({ 2: at(asked.first, "0/200"), 3: at(asked.first, "0/200") })), 3);
  const behind = asked.elect({ 2: at(asked.first, "0/300"), 3: at(asked.first, "0/200") });
  assert.equal(promotes(behind), 2);
  assert.match((proposed(behind) as Extract<CommandBody, { type: "promote" }>).text, /c, which was asked for/);
  const lossy = recruiting({ reason: "operator", target: 3, allowDataLoss: true });
  assert.equal(promotes(lossy.elect({ 2: at(lossy.first, "0/300"), 3: at(lossy.first, "0/200") })), 3);
});

test("a switchover takes its target, or another node that replayed the shutdown checkpoint when the target has not", () => {
  const { first, elect } = recruiting({ reason: "switchover", target: 3, waitLsn: "0/300" });
  const at = (lsn: string) => position({ token: first, lsn });
  assert.equal(promotes(elect({ 2: at("0/300"), 3: at("0/300") })), 3);
  assert.equal(promotes(elect({ 2: at("0/300"), 3: at("0/2FF") })), 2);
  const two = { 1: { kind: "unable", why: "stopped" }, 2: at("0/300") } as const;
  waits(elect(two), /1 of 2 needed.*waiting for a \(stopped\), c/);
});

test("a switchover waits for a target that is alive but has not reported", () => {
  const { first, elect } = recruiting({ reason: "switchover", target: 4, waitLsn: "0/300" }, ["a", "b", "c", "d"]);
  const at = (lsn: string) => position({ token: first, lsn });
  const three = { 1: { kind: "rejoining" }, 2: at("0/300"), 3: at("0/300") } as const;
  waits(elect(three), /d, the target of the switchover/);
  assert.equal(promotes(elect(three, { phaseSinceMs: 89_000 })), 2);
});

test("a switchover in which nobody replayed the shutdown checkpoint waits for the old primary first", () => {
  const { first, elect } = recruiting({ reason: "switchover", waitLsn: "0/300" });
  const short = position({ token: first, lsn: "0/250" });
  waits(elect({ 2: short, 3: short }), /no node has replayed 0\/300/);
  assert.equal(promotes(elect({ 1: position({ token: first, lsn: "0/300" }), 2: short, 3: short })), 1);
  assert.equal(promotes(elect({ 2: short, 3: short }, { phaseSinceMs: 89_000 })), 2);
});

test("among equals another node is tried than the one that was just promoted in vain", () => {
  const cluster = steadyCluster();
  cluster.begin();
  cluster.promote(2, cluster.first);
  cluster.grant();
  cluster.begin({ reason: "open-timeout" });
  const given = reports({ 2: position({ token: cluster.first }), 3: position({ token: cluster.first }) });
  assert.equal(promotes(decideLeader(leaderInput(cluster.state, { reports: given, firstReportMs: 0 }))), 3);
});

// Membership

function changes(action: LeaderAction): unknown {
  assert.equal(action.type, "confChange", JSON.stringify(action));
  return (action as Extract<LeaderAction, { type: "confChange" }>).change.ops;
}

test("a new member becomes a learner, and a voter once it has caught up in log and WAL", () => {
  const { state, first } = steadyCluster(["a", "b"]);
  assert.deepEqual(changes(decideLeader(leaderInput(state, { raft: { voters: [1] } }))), [
    { type: "addLearner", id: 2 },
  ]);
  const heard = (change: object, primary: object = {}): LeaderInput["gossip"] =>
    new Map([
      [1, { receivedAtMs: 99_900, gossip: gossip(1, { role: "primary", writeLsn: "0/300", ...primary }) }],
      [2, { receivedAtMs: 99_900, gossip: gossip(2, { token: first, ...change }) }],
    ]);
  const learner = (match: number, from: LeaderInput["gossip"]) =>
    decideLeader(
      leaderInput(state, {
        gossip: from,
        raft: { voters: [1], learners: [2], progress: [{ id: 2, match, recentActive: true }], lastIndex: 100 },
      }),
    );
  assert.deepEqual(changes(learner(90, heard({}))), [{ type: "addVoter", id: 2 }]);
  waits(learner(10, heard({})), /^$/);
  waits(learner(90, heard({ token: null })), /^$/);
  waits(learner(90, heard({ state: "catching up" })), /^$/);
  waits(learner(90, heard({}, { writeLsn: "1/0" })), /^$/);
  waits(learner(90, new Map()), /^$/);
});

test("a witness becomes a voter with the log alone", () => {
  const { state } = steadyCluster(["a", "w"]);
  const progress = [{ id: 2, match: 50, recentActive: true }];
  const input = leaderInput(state, { raft: { voters: [1], learners: [2], progress } });
  assert.deepEqual(changes(decideLeader(input)), [{ type: "addVoter", id: 2 }]);
});

test("who is no member any more leaves the Raft configuration; nothing is changed while it is joint", () => {
  const { state } = steadyCluster(["a", "b"]);
  assert.deepEqual(changes(decideLeader(leaderInput(state, { raft: { voters: [1, 2, 7] } }))), [
    { type: "remove", id: 7 },
  ]);
  waits(decideLeader(leaderInput(state, { raft: { voters: [1, 2, 7], votersOutgoing: [1] } })), /^$/);
});

test("a member that came back with a new disk replaces its old id, unless that is the primary", () => {
  const cluster = steadyCluster(["a", "b"]);
  cluster.add(newMember("b", { incarnation: "new" }));
  assert.deepEqual(proposed(decideLeader(leaderInput(cluster.state))), { type: "removeMember", id: 2 });
  const primary = steadyCluster(["a", "b"]);
  primary.add(newMember("a", { incarnation: "new" }));
  waits(decideLeader(leaderInput(primary.state)), /^$/);
});

test("the grant goes out right behind the promotion when no earlier lease can be running, and only then", () => {
  const cluster = steadyCluster();
  cluster.begin();
  const answers = { reports: reports({ 2: position(), 3: position() }), firstReportMs: 99_000 };
  const waiting = decideLeader(leaderInput(cluster.state, answers));
  assert.equal(promotes(waiting), 2);
  assert.ok(!("next" in waiting));
  const free = decideLeader(leaderInput(cluster.state, { ...answers, mayGrant: { ok: true, why: "" } }));
  assert.equal(promotes(free), 2);
  assert.deepEqual("next" in free && free.next, { type: "grant", token: cluster.state.current });
});

test("a primary that is restarted while paused becomes primary again, and nobody else does", () => {
  const cluster = steadyCluster();
  cluster.apply({ type: "pause", paused: true });
  release(cluster, cluster.first, "0/100");
  const heardOf = (role: "stopped" | "standby") => ({
    gossip: new Map([[1, { receivedAtMs: 100_000, gossip: gossip(1, { role }) }]]),
  });
  waits(decideLeader(leaderInput(cluster.state)), /^$/);
  waits(decideLeader(leaderInput(cluster.state, heardOf("stopped"))), /^$/);
  const command = proposed(decideLeader(leaderInput(cluster.state, heardOf("standby"))));
  assert.ok(command.type === "begin" && command.reason === "released" && command.target === 1);
  cluster.apply(command);
  const others = { reports: reports({ 2: position(), 3: position() }), firstReportMs: 0, phaseSinceMs: 0 };
  waits(decideLeader(leaderInput(cluster.state, others)), /automatic failover is paused; waiting for a/);
  const all = { ...others, reports: reports({ 1: position({ wasHolder: true }), 2: position(), 3: position() }) };
  assert.equal(promotes(decideLeader(leaderInput(cluster.state, all))), 1);
});
