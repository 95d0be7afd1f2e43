import assert from "node:assert/strict";
import { test } from "node:test";
import { Executor, type ExecutorOptions } from "../../../src/agent/executor.js";
import type { Hooks } from "../../../src/agent/hooks.js";
import { LeaseKeeper } from "../../../src/agent/lease-keeper.js";
import type { CommandBody, ControlState, Outcome, Report, Token } from "../../../src/control/types.js";
import { ServerError } from "../../../src/postgres/errors.js";
import type { LocalServer, ServerObservation } from "../../../src/postgres/types.js";
import { emptyNodeState } from "../../../src/storage/node-state.js";
import type { NodeState } from "../../../src/storage/types.js";
import { type Cluster, newCluster } from "../control/fixtures.js";
import { bodyOfType, FakeSupervisor, LogLines, settle, until } from "./fakes.js";

/** Long, so that nothing runs out by itself. */
const leaseMs = 60_000;

class Node {
  readonly supervisor = new FakeSupervisor();
  readonly log = new LogLines();
  readonly submitted: CommandBody[] = [];
  readonly reports: Report[] = [];
  readonly stops: string[] = [];
  /** What happened, in order, of all that matters for safety. */
  readonly events: string[] = [];
  saved: NodeState;
  outcome: Outcome = { ok: true };
  veto: string | null = null;
  whileHookRuns: () => void = () => undefined;
  readonly seen: { -readonly [K in keyof ServerObservation]: ServerObservation[K] };
  readonly server: { -readonly [K in keyof LocalServer]: LocalServer[K] };
  readonly lease: LeaseKeeper;
  readonly executor: Executor;
  /** Renewals that were sent and not yet answered. */
  readonly renewals: Array<{ token: Token; stampNs: string }> = [];
  state: ControlState;

  constructor(
    readonly cluster: Cluster,
    selfId: number,
    nodeState: Partial<NodeState> = {},
    seen: Partial<ServerObservation> = {},
  ) {
    this.state = cluster.state;
    this.saved = { ...emptyNodeState, ...nodeState };
    this.seen = {
      reachable: true,
      why: null,
      inRecovery: true,
      timeline: 1,
      replayLsn: "0/100",
      receiveLsn: null,
      writeLsn: null,
      flushLsn: null,
      replayPaused: false,
      lagSeconds: null,
      receiver: null,
      replayDone: true,
      primaryConninfo: "",
      primarySlotName: "",
      markerToken: null,
      pendingRestart: false,
      postmasterStartTime: "now",
      standbys: [],
      ...seen,
    };
    const unexpected = () => Promise.reject(new Error("not expected in this test"));
    this.server = {
      observe: async () => ({ ...this.seen }),
      pledge: async () => ({ lsn: "0/100", timeline: 1, markerToken: this.seen.markerToken, lastPrimaryLsn: null }),
      promote: async () => {
        this.events.push("promote");
        this.seen.inRecovery = false;
        return { timeline: 2, forkLsn: "0/100" };
      },
      follow: async () => {
        this.events.push("follow");
      },
      writeMarker: async () => {
        this.events.push("marker");
        return "0/200";
      },
      maintainSlots: unexpected,
      probeCommit: async () => undefined,
      checkpoint: async () => undefined,
      terminateClients: unexpected,
      close: async () => undefined,
    };
    this.lease = new LeaseKeeper({
      link: this.supervisor.link,
      log: this.log.logger,
      leaseMs: () => leaseMs,
      unfit: () => this.executor.unfit(leaseMs),
      sendRenewal: (token, stampNs) => {
        this.renewals.push({ token, stampNs });
        return true;
      },
    });
    const hooks: Pick<Hooks, "prePromote" | "roleChanged"> = {
      prePromote: async () => {
        this.whileHookRuns();
        return this.veto;
      },
      roleChanged: () => undefined,
    };
    const options: ExecutorOptions = {
      selfId,
      selfName: "n",
      log: this.log.logger,
      server: this.server,
      lease: this.lease,
      hooks: hooks as Hooks,
      state: () => this.state,
      primaryOldestLsn: () => null,
      markerKey: "key",
      submit: async (command) => {
        this.events.push(command.type);
        this.submitted.push(command);
        return this.outcome;
      },
      sendReport: (_token, report) => this.reports.push(report),
      nodeState: this.saved,
      saveNodeState: async (state) => {
        await settle();
        this.saved = state;
        this.events.push(`saved ${state.pledge} ${state.pointedAt} ${state.promotedUnder}`);
      },
      saveRejoinIntent: unexpected,
      expireWord: async () => {
        await this.supervisor.link.expire();
        this.events.push("expired");
      },
      stopServer: (mode) => this.stops.push(mode),
      waitForShutdownCheckpoint: async () => "0/300",
      onObserved: () => undefined,
    };
    this.executor = new Executor(options);
  }

  apply(change: (cluster: Cluster) => void): void {
    change(this.cluster);
    this.state = this.cluster.state;
  }

  /** The Raft leader confirms every renewal that was sent. */
  confirmAll(): void {
    for (const { token, stampNs } of this.renewals.splice(0)) this.lease.confirmed(token, stampNs);
  }
}

/** Node 2 was chosen and granted under `token`, and is still in recovery. */
function granted(): { node: Node; token: Token; text: string } {
  const cluster = newCluster(["a", "b", "c"], leaseMs);
  cluster.begin({ reason: "bootstrap" });
  const token = cluster.promote(2, null);
  cluster.grant();
  const text = `${token.term}.${token.index}`;
  return { node: new Node(cluster, 2), token, text };
}

/** Node 2 is the open primary. */
async function primary(): Promise<{ node: Node; token: Token; text: string }> {
  const made = granted();
  const { node } = made;
  node.executor.kick();
  await until(() => node.renewals.length > 0, "it renews");
  node.confirmAll();
  await until(() => bodyOfType(node.submitted, "opened") !== undefined, "it opens");
  assert.ok(node.supervisor.writable);
  node.apply((cluster) => cluster.opened(2, "0/100"));
  await settle();
  node.events.length = 0;
  return made;
}

test("a granted node promotes only with a live lease, is durable about it first, and opens last", async () => {
  const { node, text } = granted();
  node.executor.kick();
  await until(() => node.renewals.length > 0, "it renews");
  await settle();
  assert.deepEqual(node.events, [], "nothing happens to the server before a renewal is confirmed");
  node.confirmAll();
  await until(() => node.submitted.length > 0, "it opens");
  assert.deepEqual(node.events, [`saved ${text} 0.0 ${text}`, "promote", "marker", "opened"]);
  node.lease.forget();
});

test("the server is asked where it left the timeline of the parent, which others may be on", async () => {
  const cluster = newCluster(["a", "b", "c"], leaseMs);
  const parent = cluster.failover(1, null, 7, "0/100");
  cluster.begin();
  cluster.promote(2, parent);
  cluster.grant();
  const node = new Node(cluster, 2, {}, { markerToken: parent });
  const asked: unknown[] = [];
  node.server.promote = async (_deadlineMs, parentTimeline) => {
    asked.push(parentTimeline);
    node.seen.inRecovery = false;
    return { timeline: 9, forkLsn: "0/100" };
  };
  node.executor.kick();
  await until(() => node.renewals.length > 0, "it renews");
  node.confirmAll();
  await until(() => node.submitted.length > 0, "it opens");
  assert.deepEqual(asked, [7]);
  node.lease.forget();
});

test("a promotion that loses its lease before it is open tells its fork all the same", async () => {
  const { node } = granted();
  const writeMarker = node.server.writeMarker;
  node.server.writeMarker = async (marker) => {
    node.lease.forget();
    return writeMarker(marker);
  };
  node.executor.kick();
  await until(() => node.renewals.length > 0, "it renews");
  node.confirmAll();
  await until(() => node.submitted.length > 0, "it tells");
  assert.deepEqual(
    node.submitted.map(({ type }) => type),
    ["marked"],
  );
  assert.equal(node.supervisor.writable, false);
});

test("a veto forgets the token, is durable, and expires the word before the lease is given back", async () => {
  const { node, text } = granted();
  node.veto = "no";
  node.executor.kick();
  await until(() => node.renewals.length > 0, "it renews");
  node.confirmAll();
  // A confirmation that comes in while the word is being expired.
  const late = node.renewals.at(-1) ?? { token: node.state.current as Token, stampNs: "1000000000" };
  await until(() => node.events.includes("release"), "it releases");
  node.lease.confirmed(late.token, late.stampNs);
  await settle();
  assert.deepEqual(node.events, [`saved 0.0 0.0 ${text}`, "expired", "release"]);
  assert.equal(node.supervisor.deadlineMs, 0);
});

test("a node whose release may still be committed never takes the token up again, nor does its next life", async () => {
  const { node, text } = granted();
  node.veto = "no";
  node.outcome = { ok: false, code: "timeout", message: "it may still be committed" };
  node.executor.kick();
  await until(() => node.renewals.length > 0, "it renews");
  node.confirmAll();
  await until(() => node.events.includes("release"), "it releases");
  node.veto = null;
  node.executor.kick();
  await until(() => node.events.filter((event) => event === "release").length === 2, "it releases again");
  assert.equal(node.lease.token, null);
  const next = new Node(node.cluster, 2, node.saved);
  next.executor.kick();
  await until(() => next.events.includes("release"), "the next life releases, too");
  assert.equal(next.supervisor.names().includes("token"), false, "and does not even take the token");
  assert.equal(next.saved.promotedUnder, text);
});

test("a server that dies between grant and promotion renounces the token for its next life", async () => {
  const { node, token, text } = granted();
  node.executor.serverDied();
  await node.executor.renounce(token);
  assert.equal(node.saved.promotedUnder, text);
  const next = new Node(node.cluster, 2, node.saved);
  next.executor.kick();
  await until(() => next.submitted.length > 0, "the next life acts");
  assert.equal(next.submitted[0]?.type, "release");
  assert.equal(next.lease.token, null);
});

test("two changes of the node's durable state at once both stay", async () => {
  const { node, token, text } = granted();
  node.apply((cluster) => cluster.begin());
  node.executor.kick();
  await settle();
  await node.executor.renounce(token);
  await until(() => node.reports.length > 0, "it has pledged");
  const current = node.state.current as Token;
  assert.equal(node.saved.pledge, `${current.term}.${current.index}`);
  assert.equal(node.saved.promotedUnder, text);
});

test("a failover that begins while the pre_promote hook runs leaves the server in recovery", async () => {
  const { node, token } = granted();
  node.whileHookRuns = () => {
    node.apply((cluster) => cluster.begin());
    node.lease.forget();
  };
  node.executor.kick();
  await until(() => node.renewals.length > 0, "it renews");
  node.confirmAll();
  await until(() => node.state.phase.kind === "recruit", "the hook ran");
  await settle();
  assert.equal(node.events.includes("promote"), false);
  assert.notEqual(node.saved.promotedUnder, `${token.term}.${token.index}`);
});

test("a primary that is to stop is stopped also when its supervisor does not answer", async () => {
  const { node } = await primary();
  node.apply((cluster) => cluster.failover(1, null, 3, "0/400"));
  node.supervisor.failNext.set("expire", new Error("the supervisor did not answer"));
  node.executor.kick();
  await until(() => node.stops.length > 0, "the server is stopped");
  assert.deepEqual(node.stops, ["immediate"]);
  assert.equal(node.lease.token, null);
});

test("a switchover stops the server also when its supervisor does not answer, and claims no release", async () => {
  const { node, token } = await primary();
  node.apply((cluster) => cluster.apply({ type: "handover", from: token, target: 1 }));
  node.supervisor.failNext.set("expire", new Error("the supervisor did not answer"));
  node.executor.kick();
  await until(() => node.stops.length > 0, "the server is stopped");
  await settle();
  assert.deepEqual(node.stops, ["fast"]);
  assert.equal(bodyOfType(node.submitted, "release"), undefined);
});

test("a switchover forgets the token and expires the word before it stops the server and releases", async () => {
  const { node, token } = await primary();
  node.apply((cluster) => cluster.apply({ type: "handover", from: token, target: 1 }));
  node.executor.kick();
  await until(() => node.events.includes("release"), "it releases");
  assert.deepEqual(node.events, ["expired", "release"]);
  assert.deepEqual(node.stops, ["fast"]);
  assert.equal(node.lease.token, null);
  assert.equal(bodyOfType(node.submitted, "release")?.shutdownLsn, "0/300");
});

test("a switchover that was given up while the checkpoint was written does not stop the primary", async () => {
  const { node, token } = await primary();
  node.apply((cluster) => cluster.apply({ type: "handover", from: token, target: 1 }));
  node.server.checkpoint = async () => {
    node.apply((cluster) => cluster.apply({ type: "cancelHandover", from: token, text: "given up" }));
  };
  node.executor.kick();
  await until(() => node.log.has("was given up while"), "it notices");
  await settle();
  assert.deepEqual(node.stops, []);
  assert.ok(node.supervisor.writable, "it goes on as primary");
  node.lease.forget();
});

test("a lease that has run out does not stand in its own way: the fence's refusal of the probe shows a live server", async () => {
  const { node } = await primary();
  const { now } = performance;
  try {
    const base = now.call(performance);
    let aheadMs = 0;
    performance.now = () => base + aheadMs;
    aheadMs = 3 * leaseMs;
    node.supervisor.nowMs += 3 * leaseMs;
    assert.notEqual(node.executor.unfit(leaseMs), null, "after a freeze nothing is known of the server");
    node.server.probeCommit = () =>
      Promise.reject(new ServerError("SERVER_STATEMENT", "no lease", { sqlState: "25006" }));
    node.executor.probe();
    await settle();
    assert.equal(node.executor.unfit(leaseMs), null);
    node.lease.renew();
    await settle();
    assert.equal(node.renewals.length > 0, true, "it renews again");
  } finally {
    performance.now = now;
    node.lease.forget();
  }
});

test("a pledge that can not be proven is told, so that the others need not wait for it for ever", async () => {
  const cluster = newCluster(["a", "b", "c"], leaseMs);
  cluster.failover(1, null, 2, "0/100");
  cluster.begin();
  const node = new Node(cluster, 2);
  node.server.pledge = () => Promise.reject(new ServerError("PLEDGE_NOT_PROVEN", "the receiver did not end"));
  node.executor.kick();
  await until(() => node.reports.length > 0, "it reports");
  const [report] = node.reports;
  assert.equal(report?.kind, "unable");
  assert.match(report?.kind === "unable" ? report.why : "", /receiver did not end/);
});

test("a server that left recovery after it was seen in it is looked at again, and stopped", async () => {
  const cluster = newCluster(["a", "b", "c"], leaseMs);
  cluster.failover(1, null, 2, "0/100");
  const node = new Node(cluster, 2);
  node.executor.kick();
  await settle();
  // A promotion that was given up ends after all, and the next failover begins at the same time.
  node.apply(() => cluster.begin());
  node.seen.inRecovery = false;
  node.server.pledge = () => Promise.reject(new ServerError("SERVER_STATE", "the server is not in recovery"));
  node.executor.kick();
  await until(() => node.reports.length > 0, "it reports");
  await settle();
  node.executor.kick();
  await until(() => node.stops.length > 0, "it stops the server");
  assert.deepEqual(node.stops, ["immediate"]);
});

test("the agent of a dead server does not repeat the position that it reported before", async () => {
  const cluster = newCluster(["a", "b", "c"], leaseMs);
  cluster.failover(1, null, 2, "0/100");
  cluster.begin();
  const node = new Node(cluster, 2);
  node.executor.kick();
  await until(() => node.reports.length > 0, "it reports");
  node.executor.serverDied();
  await settle();
  node.executor.repeatReport();
  assert.deepEqual(
    node.reports.map(({ kind }) => kind),
    ["position", "unable"],
  );
});

test("an agent started again beside its healthy primary takes up the renewals and touches nothing", async () => {
  const { node, token } = await primary();
  node.lease.forget();
  const again = new Node(node.cluster, 2, node.saved, { inRecovery: false, timeline: 2 });
  Object.assign(again.supervisor, { token, deadlineMs: 61_000, open: true });
  again.executor.kick();
  await until(() => again.renewals.length > 0, "it renews");
  await settle();
  assert.deepEqual(again.events, []);
  assert.deepEqual(again.stops, []);
  assert.ok(again.supervisor.writable);
  again.lease.forget();
});
