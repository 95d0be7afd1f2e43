/**
 * Everything about a schedule that is drawn from its seed. Swarm style: each fault is absent in a good share of the
 * seeds, because a fault that is always there hides the bugs that need its absence.
 */
import { Random } from "./random.js";

export type PartitionStyle = "none" | "symmetric" | "one-way" | "partial" | "bridge" | "isolate";

export interface Knobs {
  readonly nodes: number;
  /** Voters of the first configuration; the others join later. */
  readonly initialVoters: number;
  /** D of the lease protocol; every other time is relative to it, as in the product. */
  readonly leaseMs: number;
  readonly electionTimeoutMs: number;
  readonly heartbeatIntervalMs: number;
  readonly tickIntervalMs: number;
  /** How long faults go on. */
  readonly faultsMs: number;

  readonly lossChance: number;
  readonly delayMeanMs: number;
  readonly tailChance: number;
  readonly tailMeanMs: number;
  /** Messages of one link keep their order, as over one TCP connection. */
  readonly ordered: boolean;
  readonly duplicateChance: number;
  readonly duplicateDelayMs: number;
  readonly partition: PartitionStyle;
  readonly partitionEveryMs: number;
  readonly partitionForMs: number;
  readonly resetEveryMs: number;

  readonly writeMeanMs: number;
  readonly syncMeanMs: number;
  readonly stallChance: number;
  readonly stallMeanMs: number;
  /** Of a write or a sync: out of space, or an I/O error. Final for the process. */
  readonly diskErrorChance: number;
  /** At a restart: the disk is gone, or what is durable on it is damaged. A quorum of disks stays intact. */
  readonly diskLossChance: number;
  readonly damageChance: number;
  /** At a restart: the disk is an older image of itself (a restored backup, a rolled-back volume). */
  readonly rollbackChance: number;
  /** At each persist boundary: before the write, between write and sync, between sync and send. */
  readonly boundaryCrashChance: number;

  readonly clockRateBound: number;
  readonly clockExtremes: boolean;
  readonly tickJitter: number;

  readonly crashEveryMs: number;
  readonly restartMeanMs: number;
  /** The machine dies, and not only the agent: the lease word in shared memory dies with it. */
  readonly hostCrashChance: number;
  readonly pauseEveryMs: number;
  /** A pause is a suspended machine: the monotonic clock stands still meanwhile, the boot clock goes on. */
  readonly suspendChance: number;
  /** Mean true time between two changes of some clock's rate, within the bound. */
  readonly clockChangeEveryMs: number;
  readonly pauseMeanMs: number;

  /** A node campaigns at once and the lease is held from the start: the schedule begins in the middle of things. */
  readonly warmStart: boolean;
  readonly proposeEveryMs: number;
  /** A client writes many entries at once: what a leader that is cut off then holds is long. */
  readonly burstChance: number;
  readonly readEveryMs: number;
  readonly membershipEveryMs: number;
  /** A voter is replaced, and the network comes apart along the two halves of the joint configuration. */
  readonly jointSplitEveryMs: number;
  readonly transferEveryMs: number;
  readonly campaignEveryMs: number;
  readonly releaseEveryMs: number;
  readonly takeoverEveryMs: number;
  /** Part of an election timeout for which a restarted node gives no vote (R51). */
  readonly restartGrace: number;
  /** Applied entries between two snapshots; 0: never. */
  readonly compactEvery: number;
  /** Messages are copied on the way, so that a shared reference between nodes shows. */
  readonly copyMessages: boolean;
  /** One voter still hears nobody after the faults are over, while it is heard: the others must live with it. */
  readonly deafAfterFaults: boolean;

  readonly maxBytesPerAppend: number;
  readonly maxInflightAppends: number;
  readonly maxUncommittedBytes: number;
}

/** The bound of clock rates (docs/protocol.md section 4). */
const rho = 0.01;
const never = Number.POSITIVE_INFINITY;

/** What a knob is worth when its fault is not in the schedule. */
export const restingKnobs: Partial<Knobs> = {
  lossChance: 0,
  tailChance: 0,
  duplicateChance: 0,
  partition: "none",
  resetEveryMs: never,
  stallChance: 0,
  diskErrorChance: 0,
  diskLossChance: 0,
  damageChance: 0,
  rollbackChance: 0,
  boundaryCrashChance: 0,
  clockRateBound: 0,
  tickJitter: 0,
  crashEveryMs: never,
  hostCrashChance: 0,
  pauseEveryMs: never,
  suspendChance: 0,
  clockChangeEveryMs: never,
  readEveryMs: never,
  membershipEveryMs: never,
  jointSplitEveryMs: never,
  transferEveryMs: never,
  campaignEveryMs: never,
  releaseEveryMs: never,
  takeoverEveryMs: never,
  compactEvery: 0,
  deafAfterFaults: false,
  burstChance: 0,
  copyMessages: false,
};

export function drawKnobs(seed: number, nodes: number): Knobs {
  const random = new Random(seed, 1);
  // A knob that is added later has draws of its own: schedules without it stay as they are.
  const later = new Random(seed, 14);
  /** The value with the given probability, otherwise the one that means "not in this schedule". */
  const sometimes = (probability: number, present: () => number, absent: number): number =>
    random.chance(probability) ? present() : absent;

  const leaseMs = random.pick([500, 500, 1000, 3000]);
  const electionTimeoutMs = Math.floor(leaseMs / 3);
  const e = electionTimeoutMs;
  // As the product derives it, or half as often: less idle traffic, more schedules.
  const heartbeatIntervalMs = Math.floor(leaseMs / random.pick([20, 20, 10]));
  const forE = (low: number, high: number) => (): number => e * random.between(low, high);
  // Most schedules are short and dense: what is rare has to meet soon. Some are long: what is slow has to end.
  const long = random.chance(0.12);
  const pace = long ? 1 : 0.6;
  const everyE = (low: number, high: number) => (): number => pace * e * random.between(low, high);
  return {
    nodes,
    initialVoters: random.chance(0.1) ? random.integer(1, nodes) : nodes,
    leaseMs,
    electionTimeoutMs,
    heartbeatIntervalMs,
    tickIntervalMs: Math.max(5, Math.floor(heartbeatIntervalMs / random.pick([1, 1, 2]))),
    faultsMs: long ? e * random.between(20, 60) : e * random.between(6, 20),
    lossChance: sometimes(0.5, () => random.pick([0.01, 0.05, 0.1, 0.3]), 0),
    delayMeanMs: random.pick([0.2, 1, 5, e / 20, e / 6]),
    tailChance: sometimes(0.5, () => random.pick([0.01, 0.1]), 0),
    tailMeanMs: forE(0.2, 3)(),
    ordered: random.chance(0.4),
    duplicateChance: sometimes(0.4, () => random.pick([0.01, 0.1, 0.3]), 0),
    duplicateDelayMs: forE(0.1, 10)(),
    partition: random.pick<PartitionStyle>([
      "none",
      "symmetric",
      "symmetric",
      "one-way",
      "partial",
      "bridge",
      "isolate",
    ]),
    partitionEveryMs: everyE(2, 12)(),
    partitionForMs: everyE(1, 10)(),
    resetEveryMs: sometimes(0.3, everyE(1, 8), never),
    writeMeanMs: random.pick([0.05, 0.5, 3]),
    syncMeanMs: random.pick([0.1, 1, 8, e / 10]),
    stallChance: sometimes(0.3, () => random.pick([0.002, 0.02]), 0),
    stallMeanMs: forE(0.5, 4)(),
    diskErrorChance: sometimes(0.2, () => random.pick([0.001, 0.01]), 0),
    diskLossChance: sometimes(0.2, () => random.pick([0.1, 0.5]), 0),
    damageChance: sometimes(0.2, () => random.pick([0.1, 0.5]), 0),
    rollbackChance: sometimes(0.15, () => random.pick([0.3, 1]), 0),
    boundaryCrashChance: sometimes(0.4, () => random.pick([0.001, 0.01, 0.03]), 0),
    clockRateBound: random.chance(0.2) ? 0 : rho,
    clockExtremes: random.chance(0.5),
    tickJitter: random.pick([0, 0.2, 3]),
    crashEveryMs: sometimes(0.5, everyE(1.5, 15), never),
    restartMeanMs: forE(0.02, 4)(),
    hostCrashChance: random.pick([0, 0.5, 1]),
    pauseEveryMs: sometimes(0.4, everyE(2, 12), never),
    suspendChance: random.pick([0, 0.5, 1]),
    clockChangeEveryMs: sometimes(0.3, everyE(1, 6), never),
    pauseMeanMs: forE(0.2, 5)(),
    warmStart: random.chance(0.75),
    proposeEveryMs: random.chance(0.1) ? forE(0.03, 0.1)() : forE(0.2, 1.5)(),
    readEveryMs: sometimes(0.7, forE(0.2, 1.5), never),
    membershipEveryMs: sometimes(0.45, everyE(1, 6), never),
    jointSplitEveryMs: later.chance(0.1) ? e * later.between(0.3, 2) : never,
    transferEveryMs: sometimes(0.3, everyE(1, 8), never),
    campaignEveryMs: sometimes(0.15, everyE(2, 10), never),
    releaseEveryMs: sometimes(0.4, everyE(3, 15), never),
    takeoverEveryMs: sometimes(0.3, everyE(3, 15), never),
    restartGrace: random.pick([0, 1, 1]),
    compactEvery: sometimes(0.6, () => random.pick([3, 10, 40]), 0),
    copyMessages: random.chance(0.25),
    maxBytesPerAppend: random.pick([64, 1024, 1 << 20]),
    maxInflightAppends: random.pick([1, 4, 64]),
    maxUncommittedBytes: random.pick([512, 1 << 20]),
    deafAfterFaults: random.chance(0.3),
    burstChance: sometimes(0.3, () => random.pick([0.02, 0.1]), 0),
  };
}
