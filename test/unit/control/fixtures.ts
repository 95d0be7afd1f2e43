/** Small builders for the tests of the control plane: a cluster that is driven by real commands only. */
import assert from "node:assert/strict";
import type { LeaderInput, NodeInput } from "../../../src/control/decisions.js";
import { applyCommand, emptyControlState } from "../../../src/control/state.js";
import type { CommandBody, ControlState, Gossip, Member, Outcome, Report, Token } from "../../../src/control/types.js";

export const tags = { nofailover: false, failoverPriority: 100, nosync: false, noloadbalance: false };

export function newMember(name: string, change: Partial<Omit<Member, "id">> = {}): Omit<Member, "id"> {
  return {
    name,
    incarnation: `disk-${name}`,
    address: `${name}:7400`,
    dsn: `host=${name}`,
    httpAddress: `${name}:8008`,
    kind: "data",
    tags,
    ...change,
  };
}

/** A replicated state with a log position; `apply` asserts that the command is accepted. */
export class Cluster {
  state: ControlState = emptyControlState();
  term = 1;
  index = 1;

  try(body: CommandBody): Outcome {
    this.index += 1;
    const applied = applyCommand(this.state, { ...body, atMs: 1, by: "a" }, { term: this.term, index: this.index });
    if (!applied.outcome.ok) assert.equal(applied.state, this.state, "a refused command changes nothing");
    this.state = applied.state;
    return applied.outcome;
  }

  apply(body: CommandBody): Extract<Outcome, { ok: true }> {
    const outcome = this.try(body);
    assert.ok(outcome.ok, outcome.ok ? "" : outcome.message);
    return outcome;
  }

  refused(body: CommandBody, code: string): void {
    const outcome = this.try(body);
    assert.equal(outcome.ok ? "accepted" : outcome.code, code);
  }

  add(member: Omit<Member, "id">): number {
    const systemIdentifier = member.kind === "witness" ? null : "7";
    return this.apply({ type: "addMember", systemIdentifier, serverMajor: 15, member }).nodeId as number;
  }

  begin(change: Partial<Extract<CommandBody, { type: "begin" }>> = {}): Token {
    const from = this.state.current;
    const body = {
      from,
      reason: "lease-expired",
      target: null,
      waitLsn: null,
      allowDataLoss: false,
      text: "t",
    } as const;
    return this.apply({ type: "begin", ...body, ...change }).token as Token;
  }

  promote(node: number, parent: Token | null): Token {
    const token = this.state.current as Token;
    this.apply({ type: "promote", token, node, parent, lsn: "0/100", text: "t" });
    return token;
  }

  grant(): void {
    this.apply({ type: "grant", token: this.state.current as Token });
  }

  opened(timeline: number, forkLsn: string): void {
    this.apply({ type: "opened", token: this.state.current as Token, timeline, forkLsn });
  }

  /** A whole failover to `node`. */
  failover(node: number, parent: Token | null, timeline: number, forkLsn: string): Token {
    this.begin();
    const token = this.promote(node, parent);
    this.grant();
    this.opened(timeline, forkLsn);
    return token;
  }
}

/** Nodes a, b, c... with ids 1, 2, 3...; not promoted yet. */
export function newCluster(names: readonly string[] = ["a", "b", "c"], leaseMs = 1000): Cluster {
  const cluster = new Cluster();
  const [first = "a", ...rest] = names;
  cluster.apply({
    type: "bootstrap",
    clusterId: "cluster",
    systemIdentifier: "7",
    serverMajor: 15,
    leaseMs,
    member: newMember(first),
  });
  for (const name of rest) cluster.add(newMember(name, name.startsWith("w") ? { kind: "witness" } : {}));
  return cluster;
}

/** The same with a as the open primary on timeline 2 from 0/100. */
export function steadyCluster(names?: readonly string[]): Cluster & { readonly first: Token } {
  const cluster = newCluster(names);
  const first = cluster.failover(1, null, 2, "0/100");
  return Object.assign(cluster, { first });
}

export function position(change: Partial<Extract<Report, { kind: "position" }>> = {}): Report {
  return {
    kind: "position",
    token: null,
    lsn: "0/200",
    timeline: 2,
    followedSinceStart: true,
    lastPrimaryLsn: null,
    wasHolder: false,
    ...change,
  };
}

export function gossip(id: number, change: Partial<Gossip> = {}): Gossip {
  return {
    id,
    name: `n${id}`,
    atMs: 1,
    agentVersion: "0",
    role: "standby",
    state: "streaming",
    timeline: 2,
    receiveLsn: "0/200",
    replayLsn: "0/200",
    writeLsn: null,
    token: null,
    upstream: null,
    pendingRestart: false,
    applied: 1,
    lease: null,
    ...change,
  };
}

type LeaderChange = Partial<Omit<LeaderInput, "raft">> & { readonly raft?: Partial<LeaderInput["raft"]> };

/** A leader (node 1, all voters active) 50 ms into the phase, nothing suspect. */
export function leaderInput(state: ControlState, change: LeaderChange = {}): LeaderInput {
  const { raft, ...rest } = change;
  const voters = state.members.map(({ id }) => id);
  return {
    now: 100_000,
    selfId: 1,
    state,
    lastAcceptedMs: null,
    suspectAtMs: Number.POSITIVE_INFINITY,
    mayGrant: { ok: false, why: "the old lease may be running" },
    reports: new Map(),
    gossip: new Map(),
    phaseSinceMs: 99_950,
    handoverSinceMs: null,
    firstReportMs: null,
    openAttempts: 0,
    maximumLagOnFailover: -1,
    unsyncedSinceMs: new Map(),
    ...rest,
    raft: {
      term: 1,
      termCommitted: true,
      electedAtMs: 0,
      electionElapsedMs: 0,
      lastIndex: 50,
      voters,
      votersOutgoing: [],
      learners: [],
      progress: (raft?.voters ?? voters).map((id) => ({ id, match: 50, recentActive: true })),
      ...raft,
    },
  };
}

type NodeChange = Partial<Omit<NodeInput, "server">> & { readonly server?: Partial<NodeInput["server"]> };

/** Node 2, a standby in recovery that follows nobody. */
export function nodeInput(state: ControlState, change: NodeChange = {}): NodeInput {
  const { server, ...rest } = change;
  return {
    now: 0,
    selfId: 2,
    state,
    pledge: null,
    pointedAt: null,
    promotedUnder: null,
    lease: { token: null, live: false, open: false },
    sync: { list: null, provenLsn: null },
    pledgedFor: null,
    ...rest,
    server: {
      reachable: true,
      inRecovery: true,
      timeline: 1,
      replayLsn: "0/50",
      markerToken: null,
      followingToken: null,
      streaming: false,
      replayDone: true,
      ...server,
    },
  };
}

/** a is the open primary and the promise is in force for `members` with `acks`; by default for all data nodes with 1. */
export function quorumCluster(
  names: readonly string[] = ["a", "b", "c"],
  acks?: number,
  members?: readonly number[],
): Cluster & { readonly first: Token } {
  const cluster = steadyCluster(names);
  const data = cluster.state.members.filter(({ kind }) => kind === "data").map(({ id }) => id);
  cluster.apply({ type: "durabilityMode", mode: "quorum" });
  beginSet(cluster, members ?? data, acks ?? 1);
  settleSet(cluster);
  return cluster;
}

export function beginSet(cluster: Cluster, members: readonly number[], acks: number): void {
  const { version } = cluster.state.durability;
  cluster.apply({ type: "beginSetChange", token: cluster.state.current as Token, version, members, acks, text: "t" });
}

export function settleSet(cluster: Cluster, lsn = "0/150"): void {
  const { version } = cluster.state.durability;
  cluster.apply({ type: "settleSetChange", token: cluster.state.current as Token, version, lsn });
}
