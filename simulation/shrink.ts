/**
 * Makes a failing schedule small: fewer nodes, calmer knobs, and of the faults and operations only those without which
 * the same invariant is not broken. Deterministic: the effort is bounded in runs, not in time.
 */
import { type FaultKind, type Injected, Injector, type Kept } from "./injector.js";
import type { Knobs } from "./knobs.js";
import { ddmin } from "./shrink-ddmin.js";
import { type Edit, unedited } from "./shrink-edit.js";
import type { ScheduleResult } from "./world.js";

/** Runs one schedule; a mutant's are shrunk in the same way. */
export type RunEdited = (nodes: number, set: Partial<Knobs>, injector: Injector) => ScheduleResult;

export interface Shrunk {
  readonly nodes: number;
  readonly edit: Edit;
  /** What was done to the cluster until the invariant broke, in order. */
  readonly injected: readonly Injected[];
  readonly injectedBefore: number;
  readonly events: number;
  readonly eventsBefore: number;
  readonly code: string;
  readonly runs: number;
}

interface Failure {
  readonly nodes: number;
  readonly edit: Edit;
  readonly injected: readonly Injected[];
  readonly events: number;
}

/** Values that make a schedule easier to read, each tried by itself. */
const calmer: ReadonlyArray<Partial<Knobs>> = [
  { clockRateBound: 0 },
  { tickJitter: 0 },
  { copyMessages: false },
  { ordered: true },
  { compactEvery: 0 },
  { burstChance: 0 },
  { deafAfterFaults: false },
  { maxBytesPerAppend: 1 << 20, maxInflightAppends: 64, maxUncommittedBytes: 1 << 20 },
  { hostCrashChance: 0 },
];

const mostRuns = 500;

/** @returns null when the schedule does not fail. */
export function shrink(nodes: number, run: RunEdited, runs = mostRuns): Shrunk | null {
  return new Shrinking(run, runs).shrink(nodes);
}

class Shrinking {
  readonly #run: RunEdited;
  readonly #most: number;
  #runs = 0;
  #code = "";

  constructor(run: RunEdited, most: number) {
    this.#run = run;
    this.#most = most;
  }

  shrink(nodes: number): Shrunk | null {
    const first = this.#first(nodes);
    if (first === null) return null;
    let best = this.#fewerNodes(first);
    best = this.#shorter(best);
    best = this.#withoutKinds(best);
    best = this.#calmer(best);
    best = this.#fewest(best);
    return {
      ...best,
      injectedBefore: first.injected.length,
      eventsBefore: first.events,
      code: this.#code,
      runs: this.#runs,
    };
  }

  #first(nodes: number): Failure | null {
    const injector = new Injector(null, true);
    const result = this.#run(nodes, {}, injector);
    this.#runs = 1;
    if (result.violation === null) return null;
    this.#code = result.violation.code;
    return { nodes, edit: unedited, injected: injector.injected ?? [], events: result.events };
  }

  /** The failure of a changed schedule; null when it breaks nothing, or something else; undefined: no more tries. */
  #try(nodes: number, edit: Edit): Failure | null | undefined {
    if (this.#runs >= this.#most) return undefined;
    this.#runs++;
    const injector = new Injector(edit.kept, true);
    const { violation, events } = this.#run(nodes, edit.set, injector);
    if (violation?.code !== this.#code) return null;
    return { nodes, edit, injected: injector.injected ?? [], events };
  }

  /** Another number of nodes is another schedule altogether; a small one that fails alike is worth more than any. */
  #fewerNodes(best: Failure): Failure {
    for (let nodes = 1; nodes < best.nodes; nodes++) {
      const failure = this.#try(nodes, best.edit);
      if (failure) return failure;
    }
    return best;
  }

  /** Ends the faults earlier: what is missing after them is then missing sooner. */
  #shorter(best: Failure): Failure {
    const lastMs = best.injected.at(-1)?.atMs ?? 0;
    for (const part of [0.05, 0.1, 0.25, 0.5, 0.75]) {
      const faultsMs = Math.ceil(lastMs * part);
      const failure = this.#try(best.nodes, { ...best.edit, set: { ...best.edit.set, faultsMs } });
      if (failure && failure.injected.length < best.injected.length) return failure;
    }
    return best;
  }

  #withoutKinds(start: Failure): Failure {
    let best = start;
    const counts = new Map<FaultKind, number>();
    for (const { kind } of start.injected) counts.set(kind, (counts.get(kind) ?? 0) + 1);
    for (const [kind] of [...counts].sort((a, b) => b[1] - a[1])) {
      const rest = best.injected.filter((one) => one.kind !== kind);
      best = this.#try(best.nodes, { ...best.edit, kept: keptOf(rest) }) || best;
    }
    return best;
  }

  #calmer(start: Failure): Failure {
    let best = start;
    for (const values of calmer) {
      const failure = this.#try(best.nodes, { ...best.edit, set: { ...best.edit.set, ...values } });
      if (failure && failure.injected.length <= best.injected.length) best = failure;
    }
    return best;
  }

  #fewest(start: Failure): Failure {
    let best = start;
    ddmin(start.injected, (some) => {
      const failure = this.#try(best.nodes, { ...best.edit, kept: keptOf(some) });
      if (failure === undefined) return null;
      if (failure !== null) best = failure;
      return failure !== null;
    });
    return best;
  }
}

function keptOf(injected: readonly Injected[]): Kept {
  const kept = new Map<FaultKind, Set<number>>();
  for (const { kind, number } of injected) {
    const numbers = kept.get(kind);
    if (numbers === undefined) kept.set(kind, new Set([number]));
    else numbers.add(number);
  }
  return kept;
}
