/** Which layer runs on top of Raft in a schedule. */
import { ClusterLayer } from "./cluster/layer.js";
import type { Host, Layer } from "./layer.js";
import { LeaseLayer } from "./lease-layer.js";

/** What can be asked for: "raft" is the lease and a register on the product's own grantor; "cluster" the whole failover protocol. */
export const stacks = ["raft", "cluster"] as const;
export type Stack = (typeof stacks)[number];
export const defaultStack: Stack = "raft";

export function createLayer(stack: Stack, host: Host): Layer {
  switch (stack) {
    case "raft":
      return new LeaseLayer(host);
    case "cluster":
      return new ClusterLayer(host);
  }
}
