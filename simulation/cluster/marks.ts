/** Coverage marks of the cluster layer: how often each rare branch ran. */
import type { LeaderAction, NodeAction } from "../../src/control/decisions.js";
import { failoverTable } from "../../src/control/failover.js";

const nodeActions: ReadonlyArray<NodeAction["type"]> = [
  "pledge",
  "promote",
  "setSyncList",
  "mark",
  "proveSyncList",
  "settle",
  "open",
  "follow",
  "rejoin",
  "demote",
  "release",
  "handover",
  "none",
];

const events = [
  "begunBootstrap",
  "begunLeaseExpired",
  "begunReleased",
  "begunSwitchover",
  "begunOperator",
  "begunOpenTimeout",
  "begunNotRenewed",
  "promotionRefusedByHook",
  "promotionHung",
  "promotedOutsideTarget",
  "promotedUnderPromise",
  "choseAmongDifferent",
  "choseByMarker",
  "lostBeforeOpening",
  "setChangeInterrupted",
  "opened",
  "openedAgainAfterAgentRestart",
  "forkOfNeverMarked",
  "sameTimelineTwice",
  "holderAlone",
  "switchoverLostNothing",
  "switchoverGivenUp",
  "releaseWithProof",
  "releaseWithoutProof",
  "releaseAtShutdown",
  "orphansWrote",
  "orphansOutlivedTheWait",
  "hostCrash",
  "postmasterCrash",
  "agentCrashInStep",
  "hostCrashInStep",
  "postmasterCrashInStep",
  "totalRestart",
  "maintenance",
  "contested",
  "serverHung",
  "stopHung",
  "unflushedLost",
  "replayBacklog",
  "cascadeFromStandby",
  "dataPartition",
  "rewindStarted",
  "rebuildStarted",
  "rejoinWaitedForSource",
  "rejoinInterruptedBefore",
  "rejoinInterruptedDestroyed",
  "rejoinInterruptedCatching",
  "rejoinDone",
  "reportedRejoining",
  "reportedUnable",
  "writeRefusedByFence",
  "ackRefusedByFence",
  "writeAcked",
  "writeWaitedForStandbys",
  "writePromised",
  "clientRead",
  "asyncLoss",
  "acceptedLoss",
  "promiseBegan",
  "promiseEnded",
  "setChanged",
  "setChangedBeforeOpening",
  "memberAdded",
  "memberRemoved",
  "tagged",
  "amended",
] as const;

export type ClusterMark = (typeof events)[number];

/** All at zero, so that those which never happened are seen. */
export function clusterMarks(): Record<string, number> {
  const marks: Record<string, number> = {};
  for (const type of nodeActions) marks[`node:${type}`] = 0;
  for (const { name } of failoverTable) marks[`leader:${name}`] = 0;
  for (const name of events) marks[name] = 0;
  return marks;
}

export function isQuiet(action: LeaderAction): boolean {
  return action.type === "wait" && action.text === "";
}
