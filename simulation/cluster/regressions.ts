/**
 * Flaws that earlier texts of the failover protocol had. Each is a rule that was wrong, brought back around the sound
 * product (faults.ts), with the invariant that it breaks and the place where the hunt for a schedule begins. The same
 * schedule is clean without the flaw.
 */
import { sound } from "../faults.js";
import { runSchedule, type ScheduleResult } from "../world.js";
import { type ClusterFaults, soundCluster } from "./faults.js";
import type { ClusterKnobs } from "./knobs.js";

export interface Regression {
  readonly name: string;
  /** What happens, in words. */
  readonly text: string;
  readonly flaw: keyof ClusterFaults;
  /** Any of them shows it. */
  readonly codes: readonly string[];
  readonly nodes: number;
  readonly seed: number;
  /** Schedules from `seed` on, at most. */
  readonly limit: number;
  /** What the schedule is about; the rest is drawn. */
  readonly knobs?: Partial<ClusterKnobs>;
}

const never = Number.POSITIVE_INFINITY;
const quorum = { quorum: true, changesMode: false, membershipEveryMs: never, totalRestartEveryMs: never } as const;

export const regressions: readonly Regression[] = [
  {
    name: "X1",
    text: "A new leader takes the promoted node for the present holder and lets it renew beside the old lease.",
    flaw: "grantToPromoted",
    codes: ["two-leases", "two-writable", "stale-read"],
    nodes: 5,
    seed: 200_214,
    limit: 1500,
  },
  {
    name: "X2",
    text: "Nobody follows before the opening, and the opening waits for a marker that only followers can acknowledge.",
    flaw: "waitsForOpened",
    codes: ["not-lively"],
    nodes: 3,
    seed: 13,
    limit: 200,
    knobs: { ...quorum, witnesses: 0, primaryFaultEveryMs: 2000, serverRestartMeanMs: 3000 },
  },
  {
    name: "X3",
    text: "All but the last primary are in a rejoin; it comes back with everything, but alone it is not sufficient.",
    flaw: "noHolderRule",
    codes: ["not-lively"],
    nodes: 3,
    seed: 39,
    limit: 300,
    knobs: { ...quorum, witnesses: 0, primaryFaultEveryMs: 2000, serverRestartMeanMs: 500, copyMeanMs: 4000 },
  },
  {
    name: "X5",
    text: "The word is open before the marker: what clients write there still ranks under the old token.",
    flaw: "opensBeforeMarker",
    codes: ["lost-write", "lost-read"],
    nodes: 4,
    seed: 50_508,
    limit: 300,
  },
  {
    name: "X7",
    text: "A pledge leaves primary_conninfo on disk, and a start of the server streams from the old primary again.",
    flaw: "conninfoKept",
    codes: ["wrong-follow", "corrupt", "lost-write", "lost-read"],
    nodes: 3,
    seed: 69,
    limit: 600,
  },
  {
    name: "X9",
    text: "Two promotions took the same timeline number; a node with the WAL of one is told to follow the other.",
    flaw: "judgesByTimeline",
    codes: ["wrong-follow", "corrupt"],
    nodes: 3,
    seed: 8,
    limit: 300,
  },
];

export interface Reproduced {
  readonly seed: number;
  readonly flawed: ScheduleResult;
  readonly sound: ScheduleResult;
}

/** The first schedule that breaks with the flaw and is clean without it; null: none within the limit. */
export function reproduce(regression: Regression): Reproduced | null {
  const { flaw, codes, nodes, seed: first, limit, knobs } = regression;
  for (let seed = first; seed < first + limit; seed++) {
    const flawed = run(seed, nodes, { ...soundCluster, [flaw]: true }, knobs);
    if (flawed.violation === null || !codes.includes(flawed.violation.code)) continue;
    const clean = run(seed, nodes, soundCluster, knobs);
    if (clean.violation === null) return { seed, flawed, sound: clean };
  }
  return null;
}

function run(
  seed: number,
  nodes: number,
  cluster: ClusterFaults,
  clusterKnobs: Partial<ClusterKnobs> | undefined,
): ScheduleResult {
  const faults = clusterKnobs === undefined ? { ...sound, cluster } : { ...sound, cluster, clusterKnobs };
  return runSchedule({ seed, nodes, stack: "whole", faults });
}
