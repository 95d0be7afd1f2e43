/** Runs a failed schedule once more, this time keeping its last events, and prints all that a person needs. */
import { Trace } from "./trace.js";
import { type Faults, runSchedule } from "./world.js";

export function failureReport(seed: number, nodes: number, faults?: Faults): string {
  const trace = new Trace();
  const result = runSchedule({ seed, nodes, trace, ...(faults === undefined ? {} : { faults }) });
  const { violation } = result;
  if (violation === null)
    return `seed ${seed} with ${nodes} nodes broke no invariant when run again: not deterministic`;
  return [
    `seed ${seed}, ${nodes} nodes: invariant broken at ${result.simulatedMs.toFixed(3)} ms, event ${result.events}`,
    `knobs ${JSON.stringify(result.knobs)}`,
    "last events:",
    ...trace.lines().map((line) => `  ${line}`),
    "nodes:",
    ...result.dump.map((line) => `  ${line}`),
    `${violation.code}: ${violation.message}`,
    `replay: npm run sim -- --no-recorded --workers 1 --schedules 1 --nodes ${nodes} --seed ${seed}`,
  ].join("\n");
}

export function printFailure(seed: number, nodes: number): void {
  console.error(failureReport(seed, nodes));
}
