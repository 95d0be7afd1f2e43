/**
 * What a schedule is about. Drawn one by one, knobs rarely meet as they must for a rule of the protocol to matter: half of
 * the schedules take one of these profiles, which draws some of the knobs from where its subject happens often.
 */

import type { Knobs } from "../knobs.js";
import { Random } from "../random.js";
import type { ClusterKnobs } from "./knobs.js";

const never = Number.POSITIVE_INFINITY;
/** Longer than anybody waits: a server that only a person can mend. */
export const foreverMs = 200_000;

/** Of the world's streams: that of this layer's third concern, and the one behind it. */
export const profileStream = 22;

type Draw = (low: number, high: number) => number;

/** The promise is in force nearly always, and clients write all the time: what is acknowledged is what can be lost. */
function promised(random: Random, d: Draw): Partial<ClusterKnobs> {
  return {
    faultsMs: d(12, 20),
    warmUpMs: d(4, 5),
    witnesses: 0,
    quorum: true,
    changesMode: false,
    maximumLag: -1,
    writeEveryMs: d(0.02, 0.1),
    readEveryMs: random.chance(0.5) ? d(0.1, 0.4) : never,
    operatorEveryMs: never,
    tagEveryMs: never,
    membershipEveryMs: never,
    totalRestartEveryMs: never,
    maintenanceEveryMs: never,
    hangEveryMs: never,
    postmasterCrashEveryMs: never,
    hostCrashEveryMs: never,
    slowStopChance: 0,
    hangingStopChance: 0,
    vetoChance: 0,
  };
}

/** The machine of the primary dies again and again, stays away until another has taken over, and standbys differ. */
function quorumFailovers(random: Random, d: Draw): Partial<ClusterKnobs> {
  return {
    ...promised(random, d),
    primaryFaultEveryMs: d(1.2, 3),
    machineFaultShare: 0.7,
    serverRestartMeanMs: d(1.5, 4),
    recoveryMeanMs: d(0.01, 0.1),
    hostCrashEveryMs: random.chance(0.3) ? d(4, 10) : never,
    shipMeanMs: d(0.02, 0.4),
    shipRecords: random.pick([1000, 3, 1]),
    replayMeanMs: 0,
    stepMeanMs: d(0.001, 0.03),
    fatalStep: "",
    dataPartitionEveryMs: random.chance(0.5) ? d(1, 3) : never,
    dataPartitionForMs: d(0.5, 2),
    sharedNetwork: random.chance(0.3),
  };
}

/** Nodes enter and leave the durability set all the time, and primaries die meanwhile. */
function setChanges(random: Random, d: Draw): Partial<ClusterKnobs> {
  return {
    ...quorumFailovers(random, d),
    tagEveryMs: d(0.2, 1),
    nofailoverShare: random.pick([0.1, 0.5]),
    membershipEveryMs: random.chance(0.4) ? d(1.5, 5) : never,
    reloadMeanMs: d(0.01, 0.3),
    primaryFaultEveryMs: d(1.5, 4),
  };
}

/** Something always comes between a promotion and its opening. */
function interruptedOpenings(random: Random, d: Draw): Partial<ClusterKnobs> {
  const hangsForEver = random.chance(0.3);
  return {
    ...quorumFailovers(random, d),
    stepMeanMs: d(0.01, 0.1),
    reloadMeanMs: d(0.01, 0.2),
    promoteMeanMs: d(0.01, 0.3),
    stepCrashChance: 0.01,
    fatalStep: random.pick(["promotion", "marker", "marker is written", "open", "list is in force", "write a record"]),
    fatalStepChance: random.pick([0.1, 0.3]),
    hangingPromoteChance: hangsForEver ? 0.5 : random.pick([0, 0.2]),
    promoteHangMs: hangsForEver ? foreverMs : d(1, 4),
  };
}

/** Old primaries come back with a tail that nobody else has, and nodes fail in the middle of their copies. */
function rejoins(random: Random, d: Draw): Partial<ClusterKnobs> {
  return {
    ...quorumFailovers(random, d),
    serverRestartMeanMs: d(0.5, 2),
    copyMeanMs: d(0.3, 2),
    slowStopChance: random.pick([0, 0.5]),
    slowStopMs: d(0.3, 2),
    hostCrashEveryMs: d(2, 6),
    postmasterCrashEveryMs: random.chance(0.5) ? d(2, 6) : never,
  };
}

/** Nodes restart right after they gave a pledge, while the old primary goes on for whoever still reaches it. */
function pledges(random: Random, d: Draw): Partial<ClusterKnobs> {
  return {
    ...quorumFailovers(random, d),
    machineFaultShare: 0,
    contestedEveryMs: d(2, 5),
    operatorEveryMs: d(1.5, 5),
    serverRestartMeanMs: d(0.05, 0.4),
    fatalStep: random.pick([
      "pledge",
      "pledge is durable",
      "end the receiver",
      "prove the pledge",
      "point the receiver",
    ]),
    fatalStepChance: random.pick([0.1, 0.3]),
    reconnectMs: d(0.02, 0.1),
    orphansLinger: random.chance(0.5) ? 0.5 : 0,
    sharedNetwork: random.chance(0.1),
  };
}

const profiles = { quorumFailovers, setChanges, interruptedOpenings, rejoins, pledges } as const;
export type ProfileName = keyof typeof profiles;
const names = Object.keys(profiles) as ProfileName[];

/** Half of the schedules; the others keep what was drawn knob by knob. */
function takesProfile(random: Random): boolean {
  return random.chance(0.5);
}

export function drawProfile(random: Random, leaseMs: number): Partial<ClusterKnobs> {
  if (!takesProfile(random)) return {};
  const profile = random.pick(names);
  const d: Draw = (low, high) => leaseMs * random.between(low, high);
  return { profile, ...profiles[profile](random, d) };
}

/**
 * Raft's own faults, made rare by a profile: where a leader lasts for a lease at most, no failover comes to its end, and
 * little is acknowledged that a second one could lose.
 */
export function calmedForProfile(seed: number, knobs: Knobs): Partial<Knobs> {
  if (!takesProfile(new Random(seed, profileStream))) return {};
  const random = new Random(seed, profileStream + 1);
  const rarely = (chance: number): number => (random.chance(chance) ? knobs.leaseMs * random.between(3, 10) : never);
  return {
    initialVoters: knobs.nodes,
    lossChance: random.pick([0, 0, 0.01]),
    delayMeanMs: Math.min(knobs.delayMeanMs, knobs.leaseMs / 40),
    tailChance: random.pick([0, 0, 0.01]),
    partition: random.pick(["none", "isolate", "symmetric"]),
    partitionEveryMs: knobs.leaseMs * random.between(3, 8),
    partitionForMs: knobs.leaseMs * random.between(0.3, 2),
    resetEveryMs: never,
    stallChance: 0,
    diskErrorChance: 0,
    diskLossChance: 0,
    damageChance: 0,
    rollbackChance: 0,
    boundaryCrashChance: 0,
    crashEveryMs: rarely(0.3),
    pauseEveryMs: rarely(0.3),
    restartMeanMs: knobs.leaseMs * random.between(0.02, 0.5),
    membershipEveryMs: never,
    transferEveryMs: never,
    campaignEveryMs: rarely(0.2),
    deafAfterFaults: false,
    warmStart: true,
  };
}
