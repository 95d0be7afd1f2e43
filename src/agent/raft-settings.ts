/** The settings of the Raft core and its driver that no operator sets: fixed, or derived from the lease. */
import type { LeaseTimings } from "../control/lease.js";
import type { RaftOptions } from "../raft/types.js";

export function raftSettings({
  electionTimeoutMs,
  heartbeatIntervalMs,
}: Pick<LeaseTimings, "electionTimeoutMs" | "heartbeatIntervalMs">): Omit<RaftOptions, "id" | "random" | "initial"> {
  return {
    electionTimeoutMs,
    heartbeatIntervalMs,
    maxBytesPerAppend: 1 << 20,
    maxInflightAppends: 64,
    maxUncommittedBytes: 16 << 20,
    restartGraceMs: electionTimeoutMs,
  };
}

/** Often enough for the heartbeat, and no more wake-ups than that needs. */
export function tickIntervalMs({ heartbeatIntervalMs }: Pick<LeaseTimings, "heartbeatIntervalMs">): number {
  return Math.min(50, Math.max(10, Math.floor(heartbeatIntervalMs / 4)));
}

/** Outgoing connections are tried again after this long, doubling: a peer that comes back is found soon. */
export function reconnectDelays({ heartbeatIntervalMs }: Pick<LeaseTimings, "heartbeatIntervalMs">): {
  readonly reconnectMinMs: number;
  readonly reconnectMaxMs: number;
} {
  return { reconnectMinMs: 20, reconnectMaxMs: Math.max(100, heartbeatIntervalMs) };
}

/** Applied entries between two snapshots: a few hundred kB of log at most. */
export const compactEvery = 2000;
