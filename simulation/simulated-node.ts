/** One machine of the simulated cluster: what dies with the process, what survives it, and its clock. */
import type { NodeId, PersistentState, RaftNode, Ready, Status } from "../src/raft/types.js";
import type { Disk } from "./disk.js";
import { Glimpse } from "./glimpse.js";
import type { Machine } from "./layer.js";
import type { Random } from "./random.js";

/** What the single disk operation in flight is for. */
export type DiskJob = { readonly kind: "ready"; readonly ready: Ready } | { readonly kind: "compaction" };

export interface PendingRead {
  /** Everything acknowledged when the read was asked for: it must not miss any of it. */
  readonly acknowledged: number;
}

export interface Rollback {
  /** The leader that had counted on what the disk forgot. */
  readonly leaderTerm: number;
  readonly forgotten: PersistentState;
}

export class SimulatedNode implements Machine {
  readonly id: number;
  readonly disk: Disk;
  /** Local milliseconds per true millisecond, since `#rateSinceMs`. */
  clockRate: number;
  #clockBaseMs: number;
  #rateSinceMs = 0;
  /** How far the monotonic clock is behind the boot clock. */
  #suspendedMs = 0;
  readonly random: Random;

  /** Counts lives of the agent's process; events of an earlier life are void. */
  life = 0;
  /** The same of the whole machine. */
  machineLife = 0;
  core: RaftNode | null = null;
  /** As of the last look at the core (`World.observe`). */
  readonly seen = new Glimpse();
  applied = 0;
  pausedUntilMs = 0;
  job: DiskJob | null = null;
  /** Local time at which the disk operation in flight began. */
  jobSinceMs = 0;
  /** Its disk is lost or was refused: it never runs again under this id. */
  halted = false;
  /** Its disk is an older image of itself in this life of the process. */
  rolledBack: Rollback | null = null;
  /** Term of each of this leader's own proposals, by index. */
  readonly proposals = new Map<number, number>();
  readonly reads = new Map<string, PendingRead>();

  constructor(id: number, disk: Disk, clockRate: number, clockOffsetMs: number, random: Random) {
    this.id = id;
    this.disk = disk;
    this.clockRate = clockRate;
    this.#clockBaseMs = clockOffsetMs;
    this.random = random;
  }

  clock(trueMs: number): number {
    return this.#clockBaseMs + (trueMs - this.#rateSinceMs) * this.clockRate;
  }

  now(trueMs: number): number {
    return Math.floor(this.clock(trueMs) - this.#suspendedMs);
  }

  setClockRate(rate: number, trueMs: number): void {
    this.#clockBaseMs = this.clock(trueMs);
    this.#rateSinceMs = trueMs;
    this.clockRate = rate;
  }

  /** The machine sleeps for so long, true time: nobody reads the monotonic clock before it wakes up. */
  suspend(forMs: number): void {
    this.#suspendedMs += forMs * this.clockRate * 0.999;
  }

  trueMs(localMs: number): number {
    return localMs / this.clockRate;
  }

  get running(): boolean {
    return this.core !== null;
  }

  get leads(): boolean {
    return this.core !== null && this.seen.role === "leader";
  }

  get leader(): NodeId | 0 {
    return this.core === null ? 0 : this.seen.leader;
  }

  get term(): number {
    return this.core === null ? 0 : this.seen.term;
  }

  get commit(): number {
    return this.core === null ? 0 : this.seen.commit;
  }

  get status(): Status | null {
    return this.core === null ? null : this.core.status();
  }

  /** The process is gone with everything it had in memory. */
  die(): void {
    this.life++;
    this.core = null;
    this.job = null;
    this.rolledBack = null;
    this.pausedUntilMs = 0;
    this.proposals.clear();
    this.reads.clear();
  }
}
