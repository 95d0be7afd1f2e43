/** How a mutant breaks the world around an otherwise sound core. */
import { createRaftNode } from "../src/raft/index.js";
import type { Message, PersistentState, RaftNode, RaftOptions } from "../src/raft/types.js";
import type { ClusterFaults } from "./cluster/faults.js";
import { type LeaseFaults, soundLease } from "./lease-agent.js";

export interface Faults {
  readonly lease: LeaseFaults;
  /** Sends what must wait for the disk at once. */
  readonly sendBeforeSync: (message: Message) => boolean;
  /** Wraps the core. */
  readonly createNode: (options: RaftOptions) => RaftNode;
  /** What a node reads back at its start. */
  readonly readBack: (state: PersistentState) => PersistentState;
  /** For the cluster layer; absent: sound. */
  readonly cluster?: ClusterFaults;
}

export const sound: Faults = {
  lease: soundLease,
  sendBeforeSync: () => false,
  createNode: createRaftNode,
  readBack: (state) => state,
};
