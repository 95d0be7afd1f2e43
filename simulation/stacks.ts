/** Which layer runs on top of Raft in a schedule. */
import type { Host, Layer } from "./layer.js";
import { LeaseLayer } from "./lease-layer.js";

/** What can be asked for: "raft" is the lease and a register on the product's own grantor. */
export const stacks = ["raft"] as const;
export type Stack = (typeof stacks)[number];
export const defaultStack: Stack = "raft";

export function createLayer(stack: Stack, host: Host): Layer {
  switch (stack) {
    case "raft":
      return new LeaseLayer(host);
  }
}
