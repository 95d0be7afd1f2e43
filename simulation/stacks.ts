/** Which layer runs on top of Raft in a schedule. */
import { ClusterLayer } from "./cluster/layer.js";
import type { Host, Layer } from "./layer.js";
import { LeaseLayer } from "./lease-layer.js";
import { Random } from "./random.js";

/**
 * What can be asked for: "raft" is the lease and a register on the product's own grantor, with changes of membership and
 * lost disks; "whole" the failover protocol with servers; "mixed" is either of them, as the seed decides.
 */
export const stacks = ["raft", "whole", "mixed"] as const;
export type Stack = (typeof stacks)[number];

/** Of "mixed": schedules of the whole stack have about twice as many events. */
const wholeShare = 0.4;

export function createLayer(stack: Stack, host: Host): Layer {
  switch (stack) {
    case "raft":
      return new LeaseLayer(host);
    case "whole":
      return new ClusterLayer(host);
    case "mixed":
      return createLayer(new Random(host.seed, 8).chance(wholeShare) ? "whole" : "raft", host);
  }
}
