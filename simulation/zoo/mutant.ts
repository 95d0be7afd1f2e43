/** What a mutant of the bug zoo is. */
import type { Faults } from "../faults.js";
import type { Stack } from "../stacks.js";
import type { Patch } from "./patched-tree.js";

/** One known way to get consensus, storage or the lease wrong. */
export interface Mutant {
  readonly name: string;
  /** The rule that it breaks: a number of docs/raft-rules.md, or a section of docs/protocol.md. */
  readonly rule: string;
  /** What is wrong, in one sentence. */
  readonly text: string;
  /** What runs on top of Raft; left out: the lease alone. */
  readonly stack?: Stack;
  /** The bug, as a change of the product's built code. */
  readonly patches: readonly Patch[];
  /** What the simulator plays of the agent is broken here, as far as the product's own code has no part in it. */
  readonly faults?: Partial<Faults>;
}

/** A bug in `src/raft`. */
export function raft(
  name: string,
  rule: string,
  text: string,
  file: string,
  find: string,
  replace: string,
  ...more: readonly Patch[]
): Mutant {
  return { name, rule, text, patches: [{ file: `src/raft/${file}.js`, find, replace }, ...more] };
}

/** A further change of `src/raft`, for bugs that show in two places. */
export function alsoRaft(file: string, find: string, replace: string): Patch {
  return { file: `src/raft/${file}.js`, find, replace };
}

/** A bug in `src/control`. */
export function control(name: string, rule: string, text: string, file: string, find: string, replace: string): Mutant {
  return { name, rule, text, patches: [{ file: `src/control/${file}.js`, find, replace }] };
}
