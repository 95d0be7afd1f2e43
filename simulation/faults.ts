/**
 * How a mutant breaks what the simulator itself plays of the product. Bugs of the product's own code need no switch:
 * the zoo changes that code (simulation/zoo/).
 */
import type { ClusterFaults } from "./cluster/faults.js";
import type { ClusterKnobs } from "./cluster/knobs.js";
import { type LeaseFaults, soundLease } from "./lease-agent.js";

export interface DiskFaults {
  /** A failed sync is taken for a successful one. */
  readonly ignoreSyncError: boolean;
  /** A node whose disk was lost starts empty under its old id. */
  readonly keepLostIdentity: boolean;
}

export interface Faults {
  readonly lease: LeaseFaults;
  readonly disk: DiskFaults;
  /** For the cluster layer; absent: sound. */
  readonly cluster?: ClusterFaults;
  /** Knobs of the cluster layer that are not drawn but given: a schedule about one thing. */
  readonly clusterKnobs?: Partial<ClusterKnobs>;
}

export const soundDisk: DiskFaults = { ignoreSyncError: false, keepLostIdentity: false };

export const sound: Faults = { lease: soundLease, disk: soundDisk };
