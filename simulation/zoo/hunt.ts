/** Runs schedules of a mutant until a checker kills it. */
import type { Faults } from "../faults.js";
import type { ScheduleResult } from "../world.js";
import type { Mutant } from "./mutant.js";
import { importPatched } from "./patched-tree.js";

/** One schedule of a mutant. */
export type Prey = (seed: number, nodes: number) => ScheduleResult;

export interface Kill {
  /** Schedules until it was killed, this one included. */
  readonly schedules: number;
  readonly seed: number;
  readonly nodes: number;
  /** The invariant that it broke. */
  readonly code: string;
}

/** Cluster sizes of a hunt, in turn. */
const sizes = [3, 5] as const;

/** Builds the mutant: the simulator and the product as they are, but for its bug. */
export async function breed(mutant: Mutant): Promise<Prey> {
  const { runSchedule, sound } = await importPatched<typeof import("../world.js")>(
    "simulation/world.js",
    mutant.patches,
  );
  const faults: Faults = { ...sound, ...mutant.faults };
  return (seed, nodes) => runSchedule({ seed, nodes, faults });
}

/** Schedules of 3 and 5 nodes in turn, from `seed` on, at most `limit`; null: it survived. */
export function hunt(prey: Prey, seed: number, limit: number): Kill | null {
  for (let i = 0; i < limit; i++) {
    const at = { seed: (seed + i) >>> 0, nodes: sizes[i % sizes.length] as number };
    const { violation } = prey(at.seed, at.nodes);
    if (violation !== null) return { ...at, schedules: i + 1, code: codeOf(violation) };
  }
  return null;
}

/** An assertion in the product's own code that fails is a kill like any other; it is named so. */
export function codeOf(violation: { readonly code: string; readonly message: string }): string {
  if (violation.code !== "threw") return violation.code;
  return violation.message.startsWith("RaftInvariantError") ? "invariant in the core" : "exception";
}
