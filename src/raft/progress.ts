/**
 * What the leader knows about one follower.
 *
 *     probe ──ack──► replicate ──reject, unreachable──► probe       any ──needs compacted entries──► snapshot ──ack──► replicate
 *
 * probe: one append, then wait for an answer. replicate: optimistic, `next` runs ahead of `match` within the window of
 * in-flight appends. snapshot: nothing but the snapshot is sent. Always next > match, and match only grows (R14).
 */
import { invariant } from "./errors.js";
import type { LogIndex, Millis, NodeId } from "./types.js";

export type ProgressState = "probe" | "replicate" | "snapshot";

/** Last indexes of the appends that were not answered yet: a ring of fixed size. */
class InflightWindow {
  readonly #capacity: number;
  readonly #ring: LogIndex[] = [];
  #start = 0;
  #count = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  get full(): boolean {
    return this.#count >= this.#capacity;
  }

  add(lastIndex: LogIndex): void {
    invariant(!this.full, "an append was sent although the window of in-flight appends is full");
    this.#ring[(this.#start + this.#count) % this.#capacity] = lastIndex;
    this.#count += 1;
  }

  freeUpTo(index: LogIndex): void {
    while (this.#count > 0 && (this.#ring[this.#start] as LogIndex) <= index) {
      this.#start = (this.#start + 1) % this.#capacity;
      this.#count -= 1;
    }
  }

  clear(): void {
    this.#start = 0;
    this.#count = 0;
  }
}

export class Progress {
  readonly id: NodeId;
  state: ProgressState = "probe";
  match: LogIndex = 0;
  next: LogIndex;
  /** In probe: an append is out, wait for its answer or for the next heartbeat response. */
  probePaused = false;
  pendingSnapshot: LogIndex = 0;
  snapshotSentAtMs: Millis = 0;
  /** When a response of this term was last received (or the peer was added): feeds check-quorum (R23). */
  contactMs: Millis;
  /** The highest heartbeat round it has answered in this term (R54). */
  ackedRound = 0;
  /** The highest commit index that was sent to it, so that a new one goes out once (R16). */
  sentCommit: LogIndex = 0;
  /** Not 0: index of the configuration that removed it; it is still sent the log up to there, to learn of it (R38). */
  departingIndex: LogIndex = 0;
  departUntilMs: Millis = 0;
  readonly #inflight: InflightWindow;

  constructor(id: NodeId, next: LogIndex, maxInflightAppends: number, now: Millis) {
    this.id = id;
    this.next = next;
    this.contactMs = now;
    this.#inflight = new InflightWindow(maxInflightAppends);
  }

  get windowFull(): boolean {
    return this.state === "replicate" && this.#inflight.full;
  }

  get paused(): boolean {
    return this.state === "snapshot" || this.windowFull || (this.state === "probe" && this.probePaused);
  }

  /** Notes an append with `count` entries after next - 1. */
  sentAppend(count: number, commit: LogIndex): void {
    if (this.state === "replicate") {
      if (count > 0) {
        this.next += count;
        this.#inflight.add(this.next - 1);
      }
    } else {
      this.probePaused = true;
    }
    if (commit > this.sentCommit) this.sentCommit = commit;
  }

  sentSnapshot(index: LogIndex, now: Millis): void {
    this.state = "snapshot";
    this.pendingSnapshot = index;
    this.snapshotSentAtMs = now;
    this.#inflight.clear();
  }

  /** An ack up to `index`. Returns whether it said anything new; a late or repeated one does not. */
  acknowledge(index: LogIndex): boolean {
    const fresh = index > this.match;
    if (fresh) this.match = index;
    if (this.next <= this.match) this.next = this.match + 1;
    if (index >= this.next - 1 || fresh) this.probePaused = false;
    return fresh;
  }

  /** A rejection of the append after `rejected`; `probeAt` is where the logs may agree. False when it is a stale one. */
  reject(rejected: LogIndex, probeAt: LogIndex): boolean {
    if (rejected <= this.match || this.state === "snapshot") return false;
    if (this.state === "replicate") {
      if (rejected >= this.next) return false;
      this.becomeProbe();
      this.next = Math.max(Math.min(rejected, probeAt + 1), this.match + 1);
      return true;
    }
    if (this.next - 1 !== rejected) return false;
    this.next = Math.max(Math.min(rejected, probeAt + 1), this.match + 1);
    this.probePaused = false;
    return true;
  }

  becomeProbe(): void {
    // A snapshot that may have arrived is not repeated: probe right after it.
    this.next = Math.max(this.match + 1, this.state === "snapshot" ? this.pendingSnapshot + 1 : 0);
    this.#toState("probe");
  }

  /** The snapshot did not arrive: start again from what is known to match. */
  snapshotFailed(): void {
    this.#toState("probe");
    this.next = this.match + 1;
  }

  becomeReplicate(): void {
    this.#toState("replicate");
    this.next = this.match + 1;
  }

  freeInflight(): void {
    this.#inflight.freeUpTo(this.match);
  }

  #toState(state: ProgressState): void {
    this.state = state;
    this.probePaused = false;
    this.pendingSnapshot = 0;
    this.sentCommit = 0;
    this.#inflight.clear();
  }
}
