/**
 * The promise of the primary lease: at no true instant do two nodes both believe that theirs is valid. A lease is valid
 * while its holder's own clock is before its deadline; two leases that overlap do so at the moment when the later one
 * begins, so it is enough to look when a deadline moves, whatever the clocks do later.
 */
import type { NodeId } from "../src/raft/types.js";
import type { Machine } from "./layer.js";
import type { FencingToken } from "./state-machine.js";
import { Violation } from "./violation.js";

interface Lease {
  readonly holder: Machine;
  readonly token: FencingToken;
  /** On the holder's boot clock. */
  readonly deadlineMs: number;
}

export class LeaseChecker {
  readonly #leases = new Map<NodeId, Lease>();

  extended(holder: Machine, token: FencingToken, deadlineMs: number, nowMs: number): void {
    const lease = { holder, token, deadlineMs };
    if (!isValid(lease, nowMs)) return;
    for (const other of this.#leases.values()) {
      if (other.holder.id === holder.id || !isValid(other, nowMs)) continue;
      throw new Violation(
        "two-leases",
        `at ${nowMs.toFixed(3)} ms believe ${belief(lease, nowMs)} and ${belief(other, nowMs)}`,
      );
    }
    this.#leases.set(holder.id, lease);
  }

  expired(node: NodeId): void {
    this.#leases.delete(node);
  }

  /** Which node believes in its lease now; 0: none. */
  holderAt(nowMs: number): NodeId {
    for (const lease of this.#leases.values()) if (isValid(lease, nowMs)) return lease.holder.id;
    return 0;
  }
}

function isValid({ holder, deadlineMs }: Lease, nowMs: number): boolean {
  return holder.clock(nowMs) < deadlineMs;
}

function belief({ holder, token, deadlineMs }: Lease, nowMs: number): string {
  const leftMs = deadlineMs - holder.clock(nowMs);
  return `node ${holder.id} in its lease ${token.term}.${token.index} for another ${leftMs.toFixed(3)} ms`;
}
