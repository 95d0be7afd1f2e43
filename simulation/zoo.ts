/**
 * Runs every mutant until a checker kills it.
 *
 *   npm run zoo -- --json
 */
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { type Mutant, mutants } from "./mutants.js";
import { runSchedule } from "./world.js";

export interface Kill {
  readonly name: string;
  /** Schedules until it was killed; null: it survived. */
  readonly schedules: number | null;
  /** The invariant that it broke. */
  readonly code: string | null;
}

/** Schedules of 3 and 5 nodes in turn, from `seed` on, at most `limit`. */
export function hunt(mutant: Mutant, seed: number, limit: number): Kill {
  for (let i = 0; i < limit; i++) {
    const { violation } = runSchedule({ seed: seed + i, nodes: i % 2 === 0 ? 3 : 5, faults: mutant.faults });
    if (violation !== null) return { name: mutant.name, schedules: i + 1, code: violation.code };
  }
  return { name: mutant.name, schedules: null, code: null };
}

function main(): void {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: "1" },
      limit: { type: "string", default: "5000" },
      only: { type: "string" },
      json: { type: "boolean", default: false },
    },
  });
  const hunted = mutants.filter((mutant) => values.only === undefined || mutant.name === values.only);
  if (hunted.length === 0) {
    console.error(`no mutant "${values.only}"; there are: ${mutants.map(({ name }) => name).join(", ")}`);
    process.exit(2);
  }
  const kills = hunted.map((mutant) => {
    const kill = hunt(mutant, Number(values.seed), Number(values.limit));
    const fate = kill.schedules === null ? "SURVIVED" : `killed by ${kill.code} after ${kill.schedules} schedules`;
    console.log(`${mutant.name.padEnd(24)} ${fate.padEnd(56)} ${mutant.text}`);
    return kill;
  });
  const killed = kills.filter((kill) => kill.schedules !== null).length;
  if (values.json) console.log(JSON.stringify({ mutants: kills.length, killed, kills }));
  process.exitCode = killed === kills.length ? 0 : 1;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) main();
