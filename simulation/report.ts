/** Runs a failed schedule once more, this time keeping its last events, and prints all that a person needs. */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { drawKnobs, restingKnobs } from "./knobs.js";
import type { Stack } from "./stacks.js";
import { Trace } from "./trace.js";
import { type Faults, runSchedule } from "./world.js";

export function failureReport(seed: number, nodes: number, faults?: Faults, stack: Stack = "raft"): string {
  const trace = new Trace();
  const result = runSchedule({ seed, nodes, stack, trace, ...(faults === undefined ? {} : { faults }) });
  const { violation } = result;
  if (violation === null)
    return `seed ${seed} with ${nodes} nodes broke no invariant when run again: not deterministic`;
  return [
    `seed ${seed}, ${nodes} nodes, ${result.layer}: invariant broken at ${result.simulatedMs.toFixed(3)} ms, event ${result.events}`,
    `commit ${gitCommit()}`,
    `knobs ${JSON.stringify({ ...knobsInUse(seed, nodes), ...result.layerKnobs })}`,
    "last events:",
    ...trace.lines().map((line) => `  ${line}`),
    "nodes:",
    ...result.dump.map((line) => `  ${line}`),
    `${violation.code}: ${violation.message}`,
    `replay: npm run sim -- --no-recorded --workers 1 --schedules 1 --nodes ${nodes} --stack ${stack} --seed ${seed}`,
  ].join("\n");
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

export function printFailure(seed: number, nodes: number, stack: Stack): void {
  console.error(failureReport(seed, nodes, undefined, stack));
}
