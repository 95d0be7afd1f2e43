/** What is drawn for the cluster layer beside the world's knobs; swarm style as there. Times are fractions of D. */
import type { Random } from "../random.js";

const never = Number.POSITIVE_INFINITY;

/** Names of an agent's steps (executor.ts); a crash comes before what the step does. */
const steps = [
  "pledge",
  "pledge is durable",
  "end the receiver",
  "prove the pledge",
  "lease is live",
  "promotion is durable",
  "promotion",
  "marker",
  "marker is written",
  "open",
  "set the list",
  "list is in force",
  "write a record",
  "settle",
  "pointedAt is durable",
  "point the receiver",
  "rejoin intent",
  "expire the word",
  "release",
  "checkpoint",
  "shutdown checkpoint",
  "renounce is durable",
] as const;

export type ClusterKnobs = Readonly<ReturnType<typeof drawClusterKnobs>>;

export function drawClusterKnobs(random: Random, nodes: number, leaseMs: number) {
  const d = (low: number, high: number): number => leaseMs * random.between(low, high);
  const sometimes = (chance: number, present: () => number, absent: number): number =>
    random.chance(chance) ? present() : absent;
  const witnesses = nodes <= 2 ? 0 : nodes === 3 ? Number(random.chance(0.25)) : sometimes(0.3, () => 2, 0);
  return {
    /** Of profiles.ts; none: each knob by itself. */
    profile: "",
    witnesses: Math.min(witnesses, Math.max(nodes - 2, 0)),
    faultsMs: random.chance(0.25) ? d(20, 40) : d(7, 20),
    /** Faults begin when commits wait for standbys, or this late. */
    warmUpMs: 0,
    quorum: random.chance(0.6),
    changesMode: random.chance(0.2),
    /** Bytes that a candidate may be behind; -1: no limit. */
    maximumLag: random.chance(0.15) ? random.integer(0, 4) : -1,

    writeEveryMs: d(0.03, 0.3),
    readEveryMs: sometimes(0.7, () => d(0.1, 0.6), never),
    noiseEveryMs: sometimes(0.5, () => d(0.3, 2), never),
    operatorEveryMs: sometimes(0.6, () => d(1, 8), never),
    /** Tags that move nodes into and out of the durability set. */
    tagEveryMs: sometimes(0.4, () => d(0.4, 3), never),
    /** How many of the changed tags are nofailover. */
    nofailoverShare: 0.25,
    membershipEveryMs: sometimes(0.25, () => d(3, 12), never),

    flushMeanMs: random.pick([0.2, 2, leaseMs / 30]),
    shipMeanMs: random.pick([0.5, 3, leaseMs / 20, leaseMs / 3]),
    /** Records in one message, at most. */
    shipRecords: random.pick([1000, 1000, 3, 1]),
    standbyFlushMeanMs: random.pick([0, 1, leaseMs / 20]),
    replayMeanMs: random.pick([0, 0, 5, leaseMs / 4, leaseMs * 2]),
    reconnectMs: random.pick([100, leaseMs / 10, leaseMs / 3]),
    reloadMeanMs: random.pick([1, 10, leaseMs / 5]),
    stepMeanMs: random.pick([1, 5, leaseMs / 40, leaseMs / 8]),
    renewEveryMs: leaseMs * random.pick([0.1, 0.2, 0.3]),
    gossipEveryMs: leaseMs * random.pick([0.1, 0.3]),

    stepCrashChance: sometimes(0.4, () => random.pick([0.003, 0.02, 0.06]), 0),
    /** One step at which something crashes again and again. */
    fatalStep: random.chance(0.5) ? random.pick(steps) : "",
    fatalStepChance: random.pick([0.1, 0.4]),
    /** The faults of a machine that hit the present primary. */
    primaryFaultEveryMs: sometimes(0.5, () => d(1, 5), never),
    /** How many of those are the end of the whole machine; the others are drawn. */
    machineFaultShare: 0,
    contestedEveryMs: sometimes(0.3, () => d(2, 6), never),
    postmasterCrashEveryMs: sometimes(0.5, () => d(2, 10), never),
    hostCrashEveryMs: sometimes(0.4, () => d(2, 10), never),
    totalRestartEveryMs: sometimes(0.12, () => d(4, 15), never),
    hangEveryMs: sometimes(0.2, () => d(3, 12), never),
    hangMeanMs: d(0.5, 3),
    /** Longer than a failover, or shorter: then the last primary is often back in time to be chosen again. */
    serverRestartMeanMs: random.chance(0.5) ? d(0.05, 0.5) : d(1, 4),
    maintenanceEveryMs: sometimes(0.2, () => d(2, 10), never),
    recoveryMeanMs: random.pick([5, leaseMs / 10, leaseMs]),
    orphansLinger: random.chance(0.3) ? 0.3 : 0,
    orphanMs: d(0.2, 2),
    slowStopChance: sometimes(0.3, () => 0.3, 0),
    slowStopMs: d(0.3, 4),
    hangingStopChance: sometimes(0.2, () => 0.15, 0),
    promoteMeanMs: random.pick([5, leaseMs / 20, leaseMs / 2]),
    hangingPromoteChance: sometimes(0.15, () => 0.2, 0),
    promoteHangMs: d(2, 8),
    vetoChance: sometimes(0.1, () => 0.3, 0),
    copyMeanMs: d(0.1, 3),

    dataPartitionEveryMs: sometimes(0.3, () => d(1, 6), never),
    dataPartitionForMs: d(0.5, 5),
    /** WAL travels over the same network as the agents' messages. */
    sharedNetwork: random.chance(0.6),
  };
}
