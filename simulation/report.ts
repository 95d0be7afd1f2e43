/** Runs a failed schedule once more, this time keeping its last events, and prints all that a person needs. */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type Injected, Injector } from "./injector.js";
import { drawKnobs, type Knobs, restingKnobs } from "./knobs.js";
import { type Shrunk, shrink } from "./shrink.js";
import { type Edit, formatEdit, unedited } from "./shrink-edit.js";
import type { Stack } from "./stacks.js";
import { Trace } from "./trace.js";
import { runSchedule, type ScheduleOptions, type ScheduleResult } from "./world.js";

/** A schedule that fails, of the product as it is or of a mutant. */
export interface Failing {
  readonly seed: number;
  readonly nodes: number;
  /** What runs it again, but for the number of nodes and what is changed. */
  readonly command: string;
  run(nodes: number, edited: Pick<ScheduleOptions, "set" | "injector" | "trace">): ScheduleResult;
}

export function failing(seed: number, nodes: number, stack: Stack = "raft"): Failing {
  const command = `npm run sim -- --stack ${stack} --seed ${seed} --replay`;
  return { seed, nodes, command, run: (size, edited) => runSchedule({ seed, nodes: size, stack, ...edited }) };
}

export function failureReport(failed: Failing, edit: Edit = unedited): string {
  const { seed, nodes } = failed;
  const trace = new Trace();
  const result = failed.run(nodes, { trace, set: edit.set, injector: new Injector(edit.kept) });
  const { violation } = result;
  if (violation === null) return `seed ${seed} with ${nodes} nodes breaks no invariant`;
  return [
    `seed ${seed}, ${nodes} nodes, ${result.layer}: invariant broken at ${result.simulatedMs.toFixed(3)} ms, event ${result.events}`,
    `commit ${gitCommit()}`,
    `knobs ${JSON.stringify({ ...knobsInUse(seed, nodes), ...edit.set, ...result.layerKnobs })}`,
    "last events:",
    ...trace.lines().map((line) => `  ${line}`),
    "nodes:",
    ...result.dump.map((line) => `  ${line}`),
    `${violation.code}: ${violation.message}`,
    `replay: ${replayCommand(failed, nodes, edit)}`,
  ].join("\n");
}

/** Makes the schedule small and says what is left of it; null when it does not fail. */
export function shrinkReport(failed: Failing): { readonly text: string; readonly shrunk: Shrunk } | null {
  const run = (nodes: number, set: Partial<Knobs>, injector: Injector): ScheduleResult =>
    failed.run(nodes, { set, injector });
  const shrunk = shrink(failed.nodes, run);
  if (shrunk === null) return null;
  const { injected, injectedBefore, events, eventsBefore, code, runs, nodes, edit } = shrunk;
  const text = [
    `shrunk in ${runs} runs: ${injected.length} of ${injectedBefore} faults and operations, ` +
      `${events} of ${eventsBefore} events, until ${code}:`,
    ...injected.map((one) => `  ${injectedLine(one)}`),
    `replay: ${replayCommand(failed, nodes, edit)}`,
  ].join("\n");
  return { text, shrunk };
}

function injectedLine({ kind, number, atMs, node, to }: Injected): string {
  const where = node === 0 ? "" : to === 0 ? ` at node ${node}` : ` from node ${node} to ${to}`;
  return `${atMs.toFixed(3)} ms ${kind} ${number}${where}`;
}

function replayCommand({ command }: Failing, nodes: number, edit: Edit): string {
  return `${command} --nodes ${nodes} ${formatEdit(edit)}`.trimEnd();
}

/** Without the faults that this schedule does not have. */
function knobsInUse(seed: number, nodes: number): Record<string, unknown> {
  const resting: Readonly<Record<string, unknown>> = restingKnobs;
  return Object.fromEntries(Object.entries(drawKnobs(seed, nodes)).filter(([name, value]) => resting[name] !== value));
}

/** Of the sources that were built; "unknown" outside a checkout. */
export function gitCommit(): string {
  const git = (...args: string[]): string =>
    execFileSync("git", args, {
      cwd: fileURLToPath(new URL("../..", import.meta.url)),
      encoding: "utf8",
      stdio: "pipe",
    });
  try {
    return git("rev-parse", "--short=12", "HEAD").trim() + (git("status", "--porcelain") === "" ? "" : " with changes");
  } catch {
    return "unknown";
  }
}
