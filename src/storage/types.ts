/** What the agent needs of durable storage. Implementations: `file-storage.ts` (real), memory (tests, simulator). */

import type { Entry, HardState, PersistentState, Snapshot } from "../raft/types.js";
import type { StorageError } from "./errors.js";

/** Binds the state directory to one node of one cluster; a mismatch refuses to start. */
export interface Meta {
  readonly format: 1;
  readonly nodeName: string;
  /** Random, made when the directory was formatted. */
  readonly incarnation: string;
  /** Empty until the node has joined or bootstrapped a cluster. */
  readonly clusterId: string;
  readonly systemIdentifier: string;
  /** 0 until the cluster has allotted one. */
  readonly raftId: number;
}

/** What one `Ready` wants on disk, in one durable batch. */
export interface Batch {
  readonly hardState?: HardState;
  /** Truncate from entries[0].index, then append. */
  readonly entries: readonly Entry[];
  /** A snapshot installed from the leader: replaces the whole log. */
  readonly snapshot?: Snapshot;
  readonly mustSync: boolean;
}

export interface RaftStorage {
  /** What was durable at open. */
  readonly initial: PersistentState;
  /** Why this storage does nothing any more: an I/O error, or that it was closed. Null while it works. */
  readonly failure: StorageError | null;
  /** Resolves when durable. At most one outstanding; an I/O error is final (the promise rejects and so do all later). */
  persist(batch: Batch): Promise<void>;
  /** Saves the application's snapshot and drops the log up to its index. */
  compact(snapshot: Snapshot): Promise<void>;
  close(): Promise<void>;
}

/** Small durable facts of the node beside Raft (docs/protocol.md section 7): written and fsynced before they are acted on. */
export interface NodeState {
  readonly format: 1;
  /** The newest token this node has pledged: it follows or promotes nothing older. "0.0" when none. */
  readonly pledge: string;
  /** The newest token whose primary this node was ever told to stream from. "0.0" when none. */
  readonly pointedAt: string;
  /** The newest token under which this node itself was promoted. "0.0" when none. */
  readonly promotedUnder: string;
}
