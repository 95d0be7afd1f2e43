/** What the Raft bench measures of one group size. */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { compactEvery } from "../src/agent/raft-settings.js";
import { leaseTimings } from "../src/control/index.js";
import { bareAppends, bareMajorityAppends } from "./bare-disk.js";
import { RaftCluster } from "./raft-cluster.js";
import type { RaftBenchOptions } from "./raft-options.js";
import type { NodeReport } from "./raft-protocol.js";
import { percentile, round } from "./statistics.js";

/** About what a command of the control plane takes. */
export const payloadBytes = 128;
export const batchOutstanding = 256;
/** One entry of that size in the log's own format: the bare append writes as much. */
const bareAppendBytes = payloadBytes + 100;
const countedSingle = 200;
const countedBatched = 5000;

export interface Latency {
  readonly medianMs: number;
  readonly p99Ms: number;
}

export interface PerCommit {
  readonly messages: number;
  readonly bytes: number;
  readonly syncs: number;
  readonly cpuMs: number;
}

/** In units of the minimum election timeout beside milliseconds. */
export interface LeaderLoss extends Latency {
  readonly medianTimeouts: number;
  readonly p99Timeouts: number;
  /** What the timers alone make of the median: see {@link idealTimeouts}. */
  readonly idealMedianTimeouts: number;
}

export interface SingleClient extends Latency {
  readonly perSecond: number;
  /** One append + fdatasync alone, and the median over it. */
  readonly bare: Latency;
  readonly ratio: number;
  /** As many at once as there are nodes, until most are durable: what this one disk allows, and the median over it. */
  readonly bareTogether: Latency;
  readonly ratioTogether: number;
}

export interface SizeResult {
  readonly nodes: number;
  readonly killed: LeaderLoss;
  readonly silent: LeaderLoss;
  readonly single: SingleClient;
  readonly batched: Latency & { readonly perSecond: number };
  readonly perCommitSingle: PerCommit;
  readonly perCommitBatched: PerCommit;
  readonly log: { readonly proposals: number; readonly maxBytes: number; readonly finalBytes: number };
  readonly memory: { readonly leaderBytes: number; readonly followerBytes: number };
  readonly restart: {
    readonly entries: number;
    readonly medianMs: number;
    readonly maxMs: number;
    /** Of the median: until the process runs our code, and reading the log. */
    readonly processMs: number;
    readonly openMs: number;
  };
  /** Leaders that changed during the batched load although nobody killed them. */
  readonly disturbances: number;
}

export interface Plan {
  readonly options: RaftBenchOptions;
  readonly directory: string;
  readonly note: (text: string) => void;
}

export async function measureSize(plan: Plan, size: number, proposals: number): Promise<SizeResult> {
  const { options, note } = plan;
  const tell = (text: string) => note(`${size} nodes: ${text}`);
  const directory = join(plan.directory, `r${size}`);
  const cluster = await RaftCluster.start({ size, directory, leaseMs: options.leaseMs, compactEvery });
  try {
    const commits = await measureCommits(cluster, directory, options, proposals, tell);
    const killed = await measureLosses(cluster, options, "killed", tell);
    const silent = await measureLosses(cluster, options, "silent", tell);
    await cluster.stop();
    const restart = await measureRestart(plan, size, tell);
    return { nodes: size, killed, silent, ...commits, restart };
  } finally {
    await cluster.stop();
  }
}

// ----------------------------------------------------------------------------------------------------------- commits

type Commits = Omit<SizeResult, "nodes" | "killed" | "silent" | "restart">;

async function measureCommits(
  cluster: RaftCluster,
  directory: string,
  options: RaftBenchOptions,
  proposals: number,
  tell: (text: string) => void,
): Promise<Commits> {
  // First, since code that has not run yet is slow: what is timed comes after it.
  const perCommitBatched = await countedLoad(cluster, Math.min(countedBatched, proposals), batchOutstanding);
  const single = await measureSingle(cluster, directory, options);
  tell(`one client: ${single.perSecond} commits/s, median ${single.medianMs} ms (bare ${single.bare.medianMs} ms)`);
  const perCommitSingle = await countedLoad(cluster, Math.min(countedSingle, options.singleProposals), 1);
  const many = await load(cluster, proposals, batchOutstanding);
  const leader = await cluster.steady();
  const reports = await cluster.reports();
  const log = {
    proposals,
    maxBytes: Math.max(...[...reports.values()].map(({ directoryMaxBytes }) => directoryMaxBytes)),
    finalBytes: Math.max(...[...reports.values()].map(({ directoryBytes }) => directoryBytes)),
  };
  tell(`${proposals} proposals: ${many.perSecond.toFixed(0)} commits/s, ${log.maxBytes} bytes on disk at most`);
  return {
    single,
    batched: { ...latency(many.latenciesMs), perSecond: round(many.perSecond) },
    perCommitSingle,
    perCommitBatched,
    log,
    memory: memoryOf(reports, leader),
    disturbances: many.disturbances,
  };
}

/** The bare appends before and after: such a machine changes from one second to the next. */
async function measureSingle(
  cluster: RaftCluster,
  directory: string,
  { singleProposals }: RaftBenchOptions,
): Promise<SingleClient> {
  const [alone, together]: [number[], number[]] = [[], []];
  const half = Math.ceil(singleProposals / 2);
  const measureBare = async () => {
    alone.push(...(await bareAppends(directory, half, bareAppendBytes)));
    together.push(...(await bareMajorityAppends(directory, half, bareAppendBytes, cluster.size)));
  };
  await measureBare();
  const { latenciesMs, perSecond } = await load(cluster, singleProposals, 1);
  await measureBare();
  const [own, bare, bareTogether] = [latency(latenciesMs), latency(alone), latency(together)];
  return {
    ...own,
    perSecond: round(perSecond),
    bare,
    ratio: round(own.medianMs / bare.medianMs, 2),
    bareTogether,
    ratioTogether: round(own.medianMs / bareTogether.medianMs, 2),
  };
}

function memoryOf(reports: ReadonlyMap<number, NodeReport>, leader: number): SizeResult["memory"] {
  const followers = [...reports].filter(([id]) => id !== leader).map(([, { rssBytes }]) => rssBytes);
  return { leaderBytes: reports.get(leader)?.rssBytes ?? 0, followerBytes: percentile(followers, 50) };
}

interface Load {
  readonly perSecond: number;
  readonly latenciesMs: readonly number[];
  readonly disturbances: number;
}

/** A leader that loses its office under the load is told, and the rest goes through the next one. */
async function load(cluster: RaftCluster, count: number, outstanding: number): Promise<Load> {
  const latenciesMs: number[] = [];
  let [done, elapsedMs, disturbances] = [0, 0, 0];
  for (; ; disturbances++) {
    const leader = await cluster.steady();
    const result = await cluster.node(leader).load({ count: count - done, outstanding, payloadBytes });
    latenciesMs.push(...result.latenciesMs);
    done += result.done;
    elapsedMs += result.elapsedMs;
    if (result.interrupted === null) return { perSecond: (1000 * done) / elapsedMs, latenciesMs, disturbances };
    if (result.done === 0) throw new Error(`the leader takes no proposals: ${result.interrupted}`);
  }
}

/** Apart from the others, since counting bytes takes time. */
async function countedLoad(cluster: RaftCluster, count: number, outstanding: number): Promise<PerCommit> {
  await cluster.steady();
  for (const node of cluster.nodes) node.countBytes(true);
  const before = totals(await cluster.reports());
  await load(cluster, count, outstanding);
  await cluster.steady();
  const after = totals(await cluster.reports());
  for (const node of cluster.nodes) node.countBytes(false);
  const per = (key: keyof PerCommit) => round((after[key] - before[key]) / count, 2);
  return { messages: per("messages"), bytes: per("bytes"), syncs: per("syncs"), cpuMs: per("cpuMs") };
}

function totals(reports: ReadonlyMap<number, NodeReport>): PerCommit {
  const sum = (key: keyof PerCommit) => [...reports.values()].reduce((total, report) => total + report[key], 0);
  return { messages: sum("messages"), bytes: sum("bytes"), syncs: sum("syncs"), cpuMs: sum("cpuMs") };
}

function latency(timesMs: readonly number[]): Latency {
  return { medianMs: round(percentile(timesMs, 50), 2), p99Ms: round(percentile(timesMs, 99), 2) };
}

// ------------------------------------------------------------------------------------------------------- leader loss

type LossKind = "killed" | "silent";

/**
 * killed: the process dies and the kernel ends its connections, as when an agent crashes. silent: it is frozen and its
 * connections stay, as when a host loses power; then only the election timeout tells.
 */
async function measureLosses(
  cluster: RaftCluster,
  options: RaftBenchOptions,
  kind: LossKind,
  tell: (text: string) => void,
): Promise<LeaderLoss> {
  const { electionTimeoutMs, heartbeatIntervalMs } = leaseTimings(options.leaseMs);
  const times: number[] = [];
  while (times.length < options.rounds) {
    const leader = await cluster.steady();
    // So that the rounds do not all start at the same distance from a heartbeat.
    await delay(Math.random() * 2 * heartbeatIntervalMs);
    // On a busy machine it may have lost its office meanwhile; then nobody would take over from it.
    if (!(await cluster.node(leader).report()).leads) continue;
    times.push(await (kind === "killed" ? loseByKill(cluster, leader) : loseByFreeze(cluster, leader)));
  }
  const { medianMs, p99Ms } = latency(times);
  const ideal = idealTimeouts(kind, cluster.size, electionTimeoutMs, heartbeatIntervalMs);
  const result = {
    medianMs,
    p99Ms,
    medianTimeouts: round(medianMs / electionTimeoutMs, 2),
    p99Timeouts: round(p99Ms / electionTimeoutMs, 2),
    idealMedianTimeouts: round(ideal, 2),
  };
  tell(`leader ${kind}: median ${medianMs} ms, p99 ${p99Ms} ms (${result.medianTimeouts} and ${result.p99Timeouts} E)`);
  return result;
}

async function loseByKill(cluster: RaftCluster, leader: number): Promise<number> {
  const successor = cluster.next("leading", (id) => id !== leader);
  const startMs = performance.now();
  const killed = cluster.kill(leader);
  const { atMs } = await successor;
  await killed;
  cluster.startNode(leader);
  return atMs - startMs;
}

async function loseByFreeze(cluster: RaftCluster, leader: number): Promise<number> {
  const successor = cluster.next("leading", (id) => id !== leader);
  const startMs = performance.now();
  cluster.node(leader).freeze();
  try {
    return (await successor).atMs - startMs;
  } finally {
    cluster.node(leader).thaw();
  }
}

/**
 * The median that the timers alone give, in election timeouts: the first of n - 1 followers whose timer ends, with no
 * time for messages, disk or ticks. A timer is uniform in [E, 2E) from the last heartbeat, which was half an interval ago;
 * after the end of a connection it is uniform in one to three heartbeat intervals from then.
 */
export function idealTimeouts(kind: LossKind, size: number, electionTimeoutMs: number, heartbeatMs: number): number {
  const firstOfTheOthers = 1 - 0.5 ** (1 / (size - 1));
  if (kind === "killed") return (heartbeatMs * (1 + 2 * firstOfTheOthers)) / electionTimeoutMs;
  return 1 + firstOfTheOthers - heartbeatMs / 2 / electionTimeoutMs;
}

// ----------------------------------------------------------------------------------------------------------- restart

/** With a log that is never compacted, so that there is something to read: the product keeps less. */
async function measureRestart(
  { options, directory }: Plan,
  size: number,
  tell: (text: string) => void,
): Promise<SizeResult["restart"]> {
  const { restartEntries: entries, leaseMs } = options;
  const cluster = await RaftCluster.start({
    size,
    directory: join(directory, `s${size}`),
    leaseMs,
    compactEvery: Number.MAX_SAFE_INTEGER,
  });
  try {
    await load(cluster, entries, batchOutstanding);
    const rounds: Array<{ totalMs: number; processMs: number; openMs: number }> = [];
    while (rounds.length < options.restartRounds) {
      const leader = await cluster.steady();
      rounds.push(await restartFollower(cluster, (leader % size) + 1, leader));
    }
    const median = (key: "totalMs" | "processMs" | "openMs") =>
      percentile(
        rounds.map((one) => one[key]),
        50,
      );
    const maxMs = Math.max(...rounds.map(({ totalMs }) => totalMs));
    tell(`restart of a follower with ${entries} entries: median ${median("totalMs").toFixed(0)} ms`);
    return {
      entries,
      medianMs: round(median("totalMs")),
      maxMs: round(maxMs),
      processMs: round(median("processMs")),
      openMs: round(median("openMs")),
    };
  } finally {
    await cluster.stop();
  }
}

async function restartFollower(
  cluster: RaftCluster,
  id: number,
  leader: number,
): Promise<{ totalMs: number; processMs: number; openMs: number }> {
  const { commit } = await cluster.node(leader).report();
  await cluster.kill(id);
  const up = cluster.next("up", (who) => who === id);
  const reached = cluster.next("reached", (who) => who === id);
  const startMs = performance.now();
  cluster.startNode(id, commit);
  const [{ event }, { atMs }] = await Promise.all([up, reached]);
  return { totalMs: atMs - startMs, processMs: event.processMs, openMs: event.openMs };
}
