/**
 * The holder's side of the primary lease around a simulated node: the messages between agents and the word (token,
 * deadline) in shared memory. The leader's side is the product's own LeaseGrantor.
 */
import { type FencingToken, noToken, sameToken } from "./state-machine.js";

/** What agents send each other beside Raft. */
export type LeaseMessage =
  | {
      readonly type: "renew";
      readonly from: number;
      readonly to: number;
      readonly token: FencingToken;
      readonly stampMs: number;
    }
  | {
      readonly type: "renewed";
      readonly from: number;
      readonly to: number;
      readonly token: FencingToken;
      readonly stampMs: number;
    }
  | { readonly type: "release"; readonly from: number; readonly to: number; readonly token: FencingToken };

/** How a mutant breaks the lease; all false in the product. */
export interface LeaseFaults {
  readonly countFromReceipt: boolean;
  readonly replyWithoutRound: boolean;
  readonly releaseWithoutStop: boolean;
  readonly clockStopsInPause: boolean;
}

export const soundLease: LeaseFaults = {
  countFromReceipt: false,
  replyWithoutRound: false,
  releaseWithoutStop: false,
  clockStopsInPause: false,
};

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

function newer(a: FencingToken, b: FencingToken): boolean {
  return a.term > b.term || (a.term === b.term && a.index > b.index);
}
