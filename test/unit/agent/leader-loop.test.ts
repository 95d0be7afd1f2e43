import assert from "node:assert/strict";
import { test } from "node:test";
import { LeaderLoop } from "../../../src/agent/leader-loop.js";
import type { RaftDriver } from "../../../src/agent/raft-driver.js";
import type { Command, ControlState, Gossip, Outcome, Token } from "../../../src/control/types.js";
import type { NodeId, ReadState, Status } from "../../../src/raft/types.js";
import { type Cluster, gossip, newCluster, steadyCluster } from "../control/fixtures.js";
import { LogLines, settle, votersOf } from "./fakes.js";

/** Long, so that no wait of the loop ends by itself during a test. */
const leaseMs = 60_000;

class FakeDriver {
  state: ControlState;
  role: Status["role"] = "leader";
  term = 5;
  electedAtMs = performance.now();
  readonly proposed: Command[] = [];
  readonly transfers: NodeId[] = [];
  confChanges = 0;
  rounds = 0;
  answer: (command: Command) => Promise<Outcome> = async () => ({ ok: true });

  constructor(readonly cluster: Cluster) {
    this.state = cluster.state;
  }

  status(): Status {
    const ids = this.state.members.map(({ id }) => id);
    return {
      id: 1,
      role: this.role,
      term: this.term,
      leader: this.role === "leader" ? 1 : 2,
      commit: 50,
      applied: 50,
      firstIndex: 1,
      lastIndex: 50,
      lastTerm: this.term,
      config: votersOf(...ids),
      progress: ids.map((id) => ({ id, match: 50, next: 51, state: "replicate", paused: false, recentActive: true })),
      termCommitted: true,
      electedAtMs: this.electedAtMs,
      electionElapsedMs: 0,
    } as unknown as Status;
  }

  propose(command: Command): Promise<Outcome> {
    this.proposed.push(command);
    return this.answer(command);
  }

  proposeConfChange(): Promise<Outcome> {
    this.confChanges += 1;
    return Promise.resolve({ ok: false, code: "busy", message: "the learner is behind" });
  }

  transferLeadership(to: NodeId): void {
    this.transfers.push(to);
  }

  readIndex() {
    this.rounds += 1;
    return { term: this.term, sequence: this.rounds };
  }
}

interface Answer {
  readonly to: NodeId;
  readonly stampNs: string;
  readonly refusal: string | null;
}

function loopWith(driver: FakeDriver): { loop: LeaderLoop; answers: Answer[]; log: LogLines } {
  const answers: Answer[] = [];
  const log = new LogLines();
  const heard = new Map<NodeId, { receivedAtMs: number; gossip: Gossip }>();
  for (const { id } of driver.state.members) heard.set(id, { receivedAtMs: performance.now(), gossip: gossip(id) });
  const loop = new LeaderLoop({
    selfId: 1,
    selfName: "a",
    driver: driver as unknown as RaftDriver,
    log: log.logger,
    gossip: heard,
    answerRenewal: (to, _token, stampNs, refusal) => answers.push({ to, stampNs, refusal }),
    maximumLagOnFailover: () => -1,
  });
  return { loop, answers, log };
}

function steady(): { driver: FakeDriver; token: Token } {
  const cluster = newCluster(["a", "b", "c"], leaseMs);
  const token = cluster.failover(2, null, 2, "0/100");
  return { driver: new FakeDriver(cluster), token };
}

function confirmed(driver: FakeDriver): ReadState {
  return { token: { term: driver.term, sequence: driver.rounds }, index: 50 };
}

test("a proposal that is refused is not repeated in a tight loop: each would be an entry in every log", async () => {
  const driver = new FakeDriver(newCluster(["a", "b", "c"], leaseMs));
  driver.answer = async () => ({ ok: false, code: "no-data-node", message: "refused" });
  const { loop } = loopWith(driver);
  loop.evaluate();
  await settle();
  for (let tick = 0; tick < 20; tick += 1) loop.evaluate();
  await settle();
  assert.deepEqual(
    driver.proposed.map(({ type }) => type),
    ["begin"],
  );
});

test("a configuration change that the core refuses is not repeated in a tight loop either", async () => {
  const cluster = steadyCluster();
  cluster.apply({ type: "settings", leaseMs });
  const driver = new FakeDriver(cluster);
  const status = driver.status.bind(driver);
  driver.status = () => ({ ...status(), config: { ...votersOf(), voters: [1, 2] } }) as unknown as Status;
  const { loop } = loopWith(driver);
  loop.evaluate();
  await settle();
  for (let tick = 0; tick < 20; tick += 1) loop.evaluate();
  await settle();
  assert.equal(driver.confChanges, 1);
});

test("after a refusal a decision that has changed is proposed at once", async () => {
  const driver = new FakeDriver(newCluster(["a", "b", "c"], leaseMs));
  driver.answer = async () => ({ ok: false, code: "stale-token", message: "refused" });
  const { loop } = loopWith(driver);
  loop.evaluate();
  await settle();
  driver.cluster.begin({ reason: "bootstrap" });
  driver.state = driver.cluster.state;
  for (const id of [1, 2, 3]) {
    const report = { kind: "position", token: null, lsn: "0/100", timeline: 1 } as const;
    const rest = { followedSinceStart: false, lastPrimaryLsn: null, wasHolder: false };
    loop.report(id, driver.state.current as Token, { ...report, ...rest });
  }
  await settle();
  assert.deepEqual(
    driver.proposed.map(({ type }) => type),
    ["begin", "promote", "grant"],
  );
});

test("a leader that leads again does not wait for what its earlier term proposed", async () => {
  const driver = new FakeDriver(newCluster(["a", "b", "c"], leaseMs));
  driver.answer = () => new Promise(() => undefined);
  const { loop } = loopWith(driver);
  loop.evaluate();
  loop.evaluate();
  assert.equal(driver.proposed.length, 1, "one proposal at a time");
  driver.role = "follower";
  driver.term = 6;
  loop.evaluate();
  driver.role = "leader";
  driver.term = 7;
  loop.evaluate();
  assert.equal(driver.proposed.length, 2);
});

test("a leadership transfer that does not come about leaves room for proposals", async () => {
  const { driver, token } = steady();
  const { loop } = loopWith(driver);
  loop.renewal(2, token, "1");
  for (let tick = 0; tick < 20; tick += 1) loop.evaluate();
  assert.deepEqual(driver.transfers, [2]);
});

test("a renewal is answered only by a round that was started after it came in", () => {
  const { driver, token } = steady();
  const { loop, answers } = loopWith(driver);
  driver.rounds = 7;
  loop.renewal(2, token, "1");
  assert.equal(driver.rounds, 8, "a round of its own");
  loop.roundConfirmed({ token: { term: driver.term, sequence: 7 }, index: 50 });
  assert.deepEqual(answers, [], "an earlier round proves nothing");
  loop.roundConfirmed(confirmed(driver));
  assert.deepEqual(answers, [{ to: 2, stampNs: "1", refusal: null }]);
});

test("a round that ends after the failover has begun confirms nothing", () => {
  const { driver, token } = steady();
  const { loop, answers } = loopWith(driver);
  loop.renewal(2, token, "1");
  driver.cluster.begin();
  driver.state = driver.cluster.state;
  loop.roundConfirmed(confirmed(driver));
  assert.equal(answers.length, 0);
  loop.renewal(2, token, "2");
  assert.match(String(answers.at(0)?.refusal), /is being replaced/);
});

test("a round that ends after the holder's release was applied confirms nothing", () => {
  const { driver, token } = steady();
  const { loop, answers } = loopWith(driver);
  loop.renewal(2, token, "1");
  driver.cluster.apply({ type: "release", token, shutdownLsn: null, text: "t" });
  driver.state = driver.cluster.state;
  loop.roundConfirmed(confirmed(driver));
  assert.deepEqual(answers, []);
});

test("a node that does not lead any more refuses renewals, and rounds of its lost term confirm nothing", () => {
  const { driver, token } = steady();
  const { loop, answers } = loopWith(driver);
  loop.renewal(2, token, "1");
  driver.role = "follower";
  loop.renewal(2, token, "2");
  assert.deepEqual(answers, [{ to: 2, stampNs: "2", refusal: "this node is not the Raft leader" }]);
  loop.roundConfirmed(confirmed(driver));
  assert.equal(answers.length, 1);
});

test("a renewal of somebody who is not the holder is refused, under whatever token", () => {
  const { driver, token } = steady();
  const { loop, answers } = loopWith(driver);
  loop.renewal(3, token, "1");
  loop.renewal(2, { term: 1, index: 1 }, "2");
  assert.equal(driver.rounds, 0);
  assert.deepEqual(
    answers.map(({ refusal }) => refusal === null),
    [false, false],
  );
});
