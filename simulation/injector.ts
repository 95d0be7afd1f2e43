/**
 * Numbers everything that is done to a cluster beside its own work, faults and operations alike, so that a failing
 * schedule can be run again with some of it left out: the n-th crash, the n-th lost message, the n-th write.
 *
 * The draws are made in any case. What is left out changes what comes after it, as any change of a schedule does.
 */
export type FaultKind =
  | "loss"
  | "tail"
  | "duplicate"
  | "partition"
  | "reset"
  | "crash"
  | "boundaryCrash"
  | "pause"
  | "stall"
  | "membership"
  | "transfer"
  | "campaign"
  | (string & {});

export interface Injected {
  readonly kind: FaultKind;
  /** The first of its kind has 1. */
  readonly number: number;
  readonly atMs: number;
  /** The node, or the two ends of the link, that it is done to; 0: none in particular. */
  readonly node: number;
  readonly to: number;
}

/** What is kept of a schedule; kinds that are not there are left out altogether. */
export type Kept = ReadonlyMap<FaultKind, ReadonlySet<number>>;

export class Injector {
  readonly #kept: Kept | null;
  readonly #counts = new Map<FaultKind, number>();
  /** What was done; null when nobody wants to know. */
  readonly injected: Injected[] | null;
  nowMs = 0;

  /** @param kept null: everything happens. */
  constructor(kept: Kept | null = null, record = false) {
    this.#kept = kept;
    this.injected = record ? [] : null;
  }

  /** Asked when something is about to be done; false when it is to be left out this time. */
  allows(kind: FaultKind, node = 0, to = 0): boolean {
    const number = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, number);
    if (this.#kept !== null && this.#kept.get(kind)?.has(number) !== true) return false;
    this.injected?.push({ kind, number, atMs: this.nowMs, node, to });
    return true;
  }
}
