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

/**
 * About four ticks a heartbeat, 10 to 50 ms apart. A multiple of them falls right after a heartbeat is due: ticks that
 * just miss it would make every heartbeat one whole tick late.
 */
export function tickIntervalMs({ heartbeatIntervalMs }: Pick<LeaseTimings, "heartbeatIntervalMs">): number {
  const ticks = Math.max(1, Math.min(4, Math.floor(heartbeatIntervalMs / 10)), Math.ceil(heartbeatIntervalMs / 50));
  return Math.ceil((heartbeatIntervalMs + 1) / ticks);
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
