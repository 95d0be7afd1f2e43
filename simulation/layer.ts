/**
 * What runs on top of the Raft nodes of a simulated cluster. The world below owns processes, disks, clocks, the network
 * and every Raft rule; a layer owns the replicated state, what the machines do with it, and its own clients.
 *
 * Two scopes: the *agent* is the process that runs the Raft core. The *machine* is what goes on without it (shared
 * memory, PostgreSQL); it dies only with the host.
 */
import type { ConfChange, Entry, NodeId, ProposeResult, ReadToken, Status } from "../src/raft/types.js";
import type { Faults } from "./faults.js";
import type { FaultKind } from "./injector.js";
import type { Knobs } from "./knobs.js";
import type { Marks } from "./marks.js";
import type { Random } from "./random.js";

export type Scope = "agent" | "machine";

/** A machine of the cluster, as a layer sees it. */
export interface Machine {
  readonly id: NodeId;
  readonly running: boolean;
  /** Its disk is lost or damaged: it never runs again; another machine takes its place under a new id. */
  readonly halted: boolean;
  /** All about its core, a deep copy made at each call; null while the agent is down. */
  readonly status: Status | null;
  /** As of the last event that touched the node, or of `Host.refresh`; cheap. 0 or false while the agent is down. */
  readonly leads: boolean;
  readonly leader: NodeId | 0;
  readonly term: number;
  readonly commit: number;
  /** Index of the last entry that the layer applied here in this life of the agent. */
  readonly applied: number;
  /** Nothing in the agent runs before this true time. */
  readonly pausedUntilMs: number;
  /** This machine's boot clock, exact: it goes on while the machine is suspended. */
  clock(trueMs: number): number;
  /** What the agent reads: whole milliseconds of the monotonic clock. */
  now(trueMs: number): number;
  /** True duration of a local one, at the clock's present rate. */
  trueMs(localMs: number): number;
}

/** What a layer may ask of the world below it. */
export interface Host {
  readonly seed: number;
  readonly knobs: Knobs;
  readonly marks: Marks;
  readonly faults: Faults;
  /** True time. */
  readonly nowMs: number;
  /** The faults are over. */
  readonly healed: boolean;
  /** By id; nothing at 0. Machines may be added, never taken away. */
  readonly nodes: ReadonlyArray<Machine | undefined>;
  readonly maxNodes: number;
  /** The stream of clients and operators, shared by the world and its layer. */
  readonly operationsRandom: Random;

  /** An independent stream for one concern of the layer, 0 to 59. */
  stream(concern: number): Random;
  /**
   * Calls `Layer.event` later. With a node, only if the agent (the machine) has not died in between; an agent that is
   * paused gets it when it wakes up. Without one (0), in any case.
   */
  schedule(afterMs: number, node: NodeId | 0, payload: unknown, scope?: Scope): void;
  /** Calls `Layer.message` at `to`, if and when (and as often as) the faulty network lets it; to itself: at once, once. */
  send(from: NodeId, to: NodeId, payload: unknown, scope?: Scope): void;
  /** Whether a message sent now would not run into a cut; one that is sent may still be lost. */
  linked(from: NodeId, to: NodeId): boolean;

  /** Asked before an operation or fault of the layer's own; false when this run of the schedule leaves it out. */
  injects(kind: FaultKind, node?: NodeId): boolean;

  /** Looks at the node's core again, after a call that may have changed it. */
  refresh(node: Machine): void;
  /** @returns the index of the entry, 0 when the core refused. */
  propose(node: Machine, data: Uint8Array): number;
  /** A quorum round, confirmed by `Layer.readState`; null when the agent is down. */
  readIndex(node: Machine): ReadToken | null;
  changeConfiguration(node: Machine, change: ConfChange): ProposeResult;
  transferLeadership(node: Machine, to: NodeId): void;
  campaign(node: Machine): void;
  /** The connection between two agents ended, as this one sees it. */
  reportUnreachable(node: Machine, peer: NodeId): void;

  /** Adds an empty machine that waits to be told; 0 when the schedule has no more. */
  addMachine(): NodeId;
  /** Kills the agent, or the whole machine; it comes back like after any crash. */
  crash(node: Machine, scope: Scope): void;
  pause(node: Machine, forMs: number): void;
}

export interface Layer {
  readonly name: string;
  /** What was drawn for this schedule beside the world's knobs; for the report of a failure. */
  readonly knobs: Readonly<Record<string, unknown>>;
  /** The layer proposes configuration changes itself; the world's operator leaves them alone. */
  readonly ownsMembership: boolean;
  /** How long faults go on; absent: as drawn for Raft. */
  readonly faultsMs?: number;
  /** How long after the faults all of this layer may take to live again; absent: as long as Raft. */
  readonly livelyWithinMs?: number;

  /** Before anything runs. @returns the application's state at index 1, which all first voters hold. */
  begin(voters: readonly NodeId[]): Uint8Array;
  /** The first voters run: time for clients to begin. */
  begun(): void;
  nodeAdded(node: Machine): void;
  /** The agent runs; its state is what the durable snapshot holds (empty: none yet). */
  nodeStarted(node: Machine, snapshot: Uint8Array): void;
  nodeCrashed(node: Machine, scope: Scope): void;
  nodePaused(node: Machine, forMs: number): void;
  /**
   * The machine's state is gone for good. The world replaces it by a new member, or, in a layer that owns the membership,
   * leaves that to it; such a layer without this method has no lost disks.
   */
  nodeHalted?(node: Machine): void;

  applied(node: Machine, entry: Entry): void;
  /** A snapshot from the leader is durable and replaces the state. */
  restored(node: Machine, snapshot: Uint8Array): void;
  /** After `applied` or `restored`, when the core can be called again. */
  progressed(node: Machine): void;
  /** The state at `node.applied`. */
  encodeSnapshot(node: Machine): Uint8Array;
  /** Equal on any two nodes that applied the same; asked after every entry, so it must be cheap. */
  digest(node: Machine): number;
  readState(node: Machine, token: ReadToken, index: number): void;
  /** An entry that this node proposed was applied here, or another one took its place. */
  acknowledged(node: Machine, index: number): void;
  lost(node: Machine, index: number): void;

  /** The agent's timer, after the core's own tick. */
  tick(node: Machine): void;
  message(node: Machine, from: NodeId, payload: unknown): void;
  /** What `Host.schedule` asked for; the node is null for 0. */
  event(node: Machine | null, payload: unknown): void;

  /** The faults are over. What is on its way still arrives. */
  heal(): void;
  /** What a cluster without faults owes its clients: at least one write and one read through this leader, now. */
  serve(leader: Machine): void;
  /** Null when everything of this layer that must live again does; otherwise what is missing. */
  lively(): string | null;
  /** After every event: throws a Violation when a promise of this layer is broken. */
  check(): void;
  dump(node: Machine): string;
  /** Mixed into the schedule's hash after each event that touched the node. */
  hash(node: Machine): number;
}
