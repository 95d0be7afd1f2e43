/** Runs schedules of a mutant until a checker kills it. */
import type { Faults } from "../faults.js";
import type { Stack } from "../stacks.js";
import { runSchedule, type ScheduleOptions, type ScheduleResult } from "../world.js";
import type { Mutant } from "./mutant.js";
import { importPatched } from "./patched-tree.js";

/** A mutant, ready to run. */
export interface Prey {
  readonly stack: Stack;
  run(seed: number, nodes: number, edited?: Pick<ScheduleOptions, "set" | "injector" | "trace">): ScheduleResult;
}

export interface Kill {
  /** Schedules until it was killed, this one included. */
  readonly schedules: number;
  readonly seed: number;
  readonly nodes: number;
  /** The invariant that it broke. */
  readonly code: string;
}

/** Cluster sizes of a hunt, in turn. */
const sizes: { readonly [Name in Stack]: readonly number[] } = { raft: [3, 5], whole: [3, 5, 3, 4], mixed: [3, 5] };

/** Builds the mutant: the simulator and the product as they are, but for its bug. */
export async function breed(mutant: Mutant): Promise<Prey> {
  const { runSchedule, sound } = await importPatched<typeof import("../world.js")>(
    "simulation/world.js",
    mutant.patches,
  );
  const faults: Faults = { ...sound, ...mutant.faults };
  const stack = mutant.stack ?? "raft";
  return { stack, run: (seed, nodes, edited) => runSchedule({ seed, nodes, stack, faults, ...edited }) };
}

/** Schedules of several sizes in turn, from `seed` on, at most `limit`; null: it survived. */
export function hunt(prey: Prey, seed: number, limit: number): Kill | null {
  for (let i = 0; i < limit; i++) {
    const of = sizes[prey.stack];
    const at = { seed: (seed + i) >>> 0, nodes: of[i % of.length] as number };
    const { violation } = prey.run(at.seed, at.nodes);
    if (violation === null || failsAnyway(at.seed, at.nodes, prey.stack)) continue;
    return { ...at, schedules: i + 1, code: codeOf(violation) };
  }
  return null;
}

/** A schedule that the product itself does not survive says nothing about the mutant. */
function failsAnyway(seed: number, nodes: number, stack: Stack): boolean {
  return runSchedule({ seed, nodes, stack }).violation !== null;
}

/** An assertion in the product's own code that fails is a kill like any other; it is named so. */
export function codeOf(violation: { readonly code: string; readonly message: string }): string {
  if (violation.code !== "threw") return violation.code;
  return violation.message.startsWith("RaftInvariantError") ? "invariant in the core" : "exception";
}
