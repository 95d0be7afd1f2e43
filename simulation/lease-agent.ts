/**
 * The lease protocol of raft-reference 4.2 around a simulated node: the holder's word (token, deadline), and the
 * leader's side that accepts renewals and says when another holder may be granted.
 */
import type { Status } from "../src/raft/types.js";
import { type FencingToken, noToken, type StateMachine, sameToken } from "./state-machine.js";

/** What agents send each other beside Raft. */
export type LeaseMessage =
  | { readonly type: "renew"; readonly from: number; readonly to: number; readonly token: FencingToken; readonly stampMs: number }
  | { readonly type: "renewed"; readonly from: number; readonly to: number; readonly token: FencingToken; readonly stampMs: number }
  | { readonly type: "release"; readonly from: number; readonly to: number; readonly token: FencingToken };

/** How a mutant breaks the lease; all false in the product. */
export interface LeaseFaults {
  readonly countFromReceipt: boolean;
  readonly noDriftFactor: boolean;
  readonly replyWithoutRound: boolean;
  readonly noHold: boolean;
  readonly releaseWithoutStop: boolean;
}

export const soundLease: LeaseFaults = {
  countFromReceipt: false,
  noDriftFactor: false,
  replyWithoutRound: false,
  noHold: false,
  releaseWithoutStop: false,
};

export interface LeaseTimes {
  /** D. */
  readonly leaseMs: number;
  /** W = D (1 + rho) / (1 - rho), rounded up. */
  readonly waitMs: number;
  readonly renewEveryMs: number;
}

/** The lease word in shared memory: it outlives the agent, not the machine. */
export class LeaseWord {
  token: FencingToken = noToken;
  deadlineMs = 0;
  /** The newest token that was given up: never held again, whatever comes late. */
  forgotten: FencingToken = noToken;

  /** Takes a granted token; false when it is old or was given up. */
  hold(token: FencingToken): boolean {
    if (sameToken(token, this.token)) return true;
    if (!newer(token, this.token) || !newer(token, this.forgotten)) return false;
    this.token = token;
    this.deadlineMs = 0;
    return true;
  }

  forget(): void {
    this.forgotten = this.token;
    this.token = noToken;
    this.deadlineMs = 0;
  }
}

/** The leader's side, for one term of leadership. */
export class Grantor {
  readonly #times: LeaseTimes;
  #term = 0;
  #token: FencingToken = noToken;
  #lastAcceptedMs: number | null = null;
  #phaseSinceMs = 0;

  constructor(times: LeaseTimes) {
    this.#times = times;
  }

  /** Forgets what belongs to another term or token. */
  follow(status: Status, state: StateMachine, nowMs: number): void {
    if (status.term !== this.#term) {
      this.#term = status.term;
      this.#lastAcceptedMs = null;
      this.#phaseSinceMs = nowMs;
    }
    if (!sameToken(state.granted, this.#token)) {
      this.#token = state.granted;
      this.#lastAcceptedMs = null;
      this.#phaseSinceMs = nowMs;
    }
  }

  /** A renewal arrived: whether it may be confirmed after a quorum round. */
  accept(token: FencingToken, holder: number, state: StateMachine, nowMs: number): boolean {
    const inForce = state.phase === "granted" && state.holder === holder && sameToken(state.granted, token);
    if (!inForce || sameToken(state.released, token)) return false;
    this.#lastAcceptedMs = nowMs;
    return true;
  }

  /** No renewal for D: the holder should be replaced. */
  suspects(state: StateMachine, nowMs: number): boolean {
    if (sameToken(state.released, state.granted)) return true;
    return nowMs > (this.#lastAcceptedMs ?? this.#phaseSinceMs) + this.#times.leaseMs;
  }

  /** Whether the lease of the newest granted token is certainly over. */
  mayGrant(status: Status, state: StateMachine, nowMs: number): boolean {
    if (state.granted.index === 0 || sameToken(state.released, state.granted)) return true;
    const holdMs = Math.max(0, this.#times.waitMs - status.electionElapsedMs);
    if (!(nowMs > status.electedAtMs + holdMs)) return false;
    return this.#lastAcceptedMs === null || nowMs > this.#lastAcceptedMs + this.#times.waitMs;
  }
}

function newer(a: FencingToken, b: FencingToken): boolean {
  return a.term > b.term || (a.term === b.term && a.index > b.index);
}
