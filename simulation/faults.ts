/**
 * How a mutant breaks what the simulator itself plays of the product. Bugs of the product's own code need no switch:
 * the zoo changes that code (simulation/zoo/).
 */
import type { ClusterFaults } from "./cluster/faults.js";
import { type LeaseFaults, soundLease } from "./lease-agent.js";

export interface Faults {
  readonly lease: LeaseFaults;
  /** For the cluster layer; absent: sound. */
  readonly cluster?: ClusterFaults;
}

export const sound: Faults = { lease: soundLease };
