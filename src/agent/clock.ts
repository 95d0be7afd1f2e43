/**
 * The agent's clock: CLOCK_MONOTONIC in whole milliseconds. It may stand still while the machine is suspended, which
 * is conservative for everything measured here (a grantor waits longer, a voter reports less elapsed time). The lease
 * itself is never measured with it: its stamps are CLOCK_BOOTTIME, read by the supervisor in C.
 */
export function monotonicMs(): number {
  return Math.floor(performance.now());
}

/** Wall clock, for people only (history, logs): no decision reads it. */
export function wallClockMs(): number {
  return Date.now();
}

/** Resolves after `ms`; used between attempts that a deadline bounds. */
export function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
