/**
 * The promise of the primary lease: at no true instant do two nodes both believe that theirs is valid. Clocks run at a
 * constant rate, so a deadline on a node's clock is one true instant, and it is enough to look when a deadline moves.
 */
import type { NodeId } from "../src/raft/types.js";
import type { FencingToken } from "./state-machine.js";
import { Violation } from "./violation.js";

export class LeaseChecker {
  /** True time until which each node believes its lease valid. */
  readonly #validUntilMs: number[] = [];
  readonly #tokens: FencingToken[] = [];

  extended(node: NodeId, token: FencingToken, untilMs: number, nowMs: number): void {
    if (untilMs <= nowMs) return;
    for (let other = 1; other < this.#validUntilMs.length; other++) {
      const otherUntilMs = this.#validUntilMs[other] ?? 0;
      if (other === node || otherUntilMs <= nowMs) continue;
      const theirs = this.#tokens[other] as FencingToken;
      throw new Violation(
        "two-leases",
        `at ${nowMs.toFixed(3)} ms node ${node} believes in its lease ${token.term}.${token.index} until ` +
          `${untilMs.toFixed(3)} ms, node ${other} in ${theirs.term}.${theirs.index} until ${otherUntilMs.toFixed(3)} ms`,
      );
    }
    this.#validUntilMs[node] = untilMs;
    this.#tokens[node] = token;
  }

  expired(node: NodeId): void {
    this.#validUntilMs[node] = 0;
  }

  /** Which node believes in its lease now; 0: none. */
  holderAt(nowMs: number): NodeId {
    for (let node = 1; node < this.#validUntilMs.length; node++)
      if ((this.#validUntilMs[node] ?? 0) > nowMs) return node;
    return 0;
  }
}
