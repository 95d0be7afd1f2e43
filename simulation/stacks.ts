/** Which layer runs on top of Raft in a schedule. */
import { ClusterLayer } from "./cluster/layer.js";
import { calmedForProfile } from "./cluster/profiles.js";
import type { Knobs } from "./knobs.js";
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
  return isWhole(stack, host.seed) ? new ClusterLayer(host) : new LeaseLayer(host);
}

/** Knobs of the world that what runs on top of it wants otherwise in this schedule. */
export function worldKnobsOf(stack: Stack, seed: number, drawn: Knobs): Partial<Knobs> {
  return isWhole(stack, seed) ? calmedForProfile(seed, drawn) : {};
}

function isWhole(stack: Stack, seed: number): boolean {
  return stack === "mixed" ? new Random(seed, 8).chance(wholeShare) : stack === "whole";
}
