/** Limits that are no settings of an operator; tests tighten them. */
export interface Tuning {
  /** From the start of a connection to the end of the handshake, TLS included. */
  readonly handshakeTimeoutMs: number;
  /** What waits for one peer at most; the oldest appends go first. */
  readonly outboxBytes: number;
  readonly pingIntervalMs: number;
  readonly maxUnansweredPings: number;
  /** Connections that have not finished the handshake, and guests, at one time. */
  readonly maxStrangers: number;
  /** A guest's answer may take this long (a switchover is a command too). */
  readonly guestTimeoutMs: number;
  /** Uniform in [0, 1), for the jitter of reconnecting. */
  readonly random: () => number;
}

export const defaultTuning: Tuning = {
  handshakeTimeoutMs: 3000,
  outboxBytes: 32 * 1024 * 1024,
  pingIntervalMs: 500,
  maxUnansweredPings: 4,
  maxStrangers: 64,
  guestTimeoutMs: 600_000,
  random: Math.random,
};
