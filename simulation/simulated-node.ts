/** One machine of the simulated cluster: what dies with the process, what survives it, and its clock. */

import { LeaseGrantor } from "../src/control/lease.js";
import type { RaftNode, Ready, Status } from "../src/raft/types.js";
import type { Disk } from "./disk.js";
import { LeaseWord } from "./lease-agent.js";
import type { Random } from "./random.js";
import { StateMachine } from "./state-machine.js";

/** What the single disk operation in flight is for. */
export type DiskJob = { readonly kind: "ready"; readonly ready: Ready } | { readonly kind: "compaction" };

export interface PendingRead {
  /** Everything acknowledged when the read was asked for: it must not miss any of it. */
  readonly acknowledged: number;
}

export class SimulatedNode {
  readonly id: number;
  readonly disk: Disk;
  /** Local milliseconds per true millisecond. */
  readonly clockRate: number;
  readonly clockOffsetMs: number;
  readonly random: Random;
  /** Survives the agent, not the machine. */
  word = new LeaseWord();

  /** Counts process lives; events of an earlier life are void. */
  life = 0;
  core: RaftNode | null = null;
  status: Status | null = null;
  state = new StateMachine();
  pausedUntilMs = 0;
  job: DiskJob | null = null;
  grantor = new LeaseGrantor();
  /** The term for which `grantor` knows that this node leads; 0: it does not. */
  grantorTerm = 0;
  /** Index of the entry this leader proposed last for the lease: not again before it is applied. */
  leaseProposal = { term: 0, index: 0 };
  readonly proposals = new Map<number, number>();
  readonly reads = new Map<string, PendingRead>();
  /** Taken out of service by the operator after its removal. */
  retired = false;

  constructor(id: number, disk: Disk, clockRate: number, clockOffsetMs: number, random: Random) {
    this.id = id;
    this.disk = disk;
    this.clockRate = clockRate;
    this.clockOffsetMs = clockOffsetMs;
    this.random = random;
  }

  /** This machine's monotonic clock, exact. */
  clock(trueMs: number): number {
    return this.clockOffsetMs + trueMs * this.clockRate;
  }

  /** What the agent reads: whole milliseconds. */
  now(trueMs: number): number {
    return Math.floor(this.clock(trueMs));
  }

  /** True duration of a local one. */
  trueMs(localMs: number): number {
    return localMs / this.clockRate;
  }

  get leads(): boolean {
    return this.core !== null && this.status !== null && this.status.role === "leader";
  }

  /** The process is gone with everything it had in memory. */
  die(): void {
    this.life++;
    this.core = null;
    this.status = null;
    this.job = null;
    this.grantor = new LeaseGrantor();
    this.grantorTerm = 0;
    this.pausedUntilMs = 0;
    this.leaseProposal = { term: 0, index: 0 };
    this.proposals.clear();
    this.reads.clear();
  }
}
