/** What the last hunt of each mutant found: kept with the sources, where the tests begin and the documentation reads. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Mutant } from "./mutant.js";

export interface Record {
  readonly name: string;
  /** A schedule that killed it. */
  readonly seed: number;
  readonly nodes: number;
  /** The invariants that it broke, the most frequent one first. */
  readonly killedBy: string;
  /** Schedules until it was killed, over all hunts. */
  readonly median: number;
  readonly max: number;
  readonly hunts: number;
}

const path = fileURLToPath(new URL("../../../simulation/zoo/records.json", import.meta.url));
const docsPath = fileURLToPath(new URL("../../../docs/simulator.md", import.meta.url));
const docsBegin = "<!-- zoo: written by `npm run zoo -- --docs` -->";
const docsEnd = "<!-- end of zoo -->";

export function readRecords(): Map<string, Record> {
  const records = JSON.parse(readFileSync(path, "utf8")) as readonly Record[];
  return new Map(records.map((record) => [record.name, record]));
}

/** In the order of the zoo; records of mutants that are no more are dropped. */
export function writeRecords(records: ReadonlyMap<string, Record>, mutants: readonly Mutant[]): void {
  const kept = mutants.flatMap(({ name }) => records.get(name) ?? []);
  writeFileSync(path, `${JSON.stringify(kept, null, 2)}\n`);
}

/** The table of docs/simulator.md. */
export function docsTable(records: ReadonlyMap<string, Record>, mutants: readonly Mutant[]): string {
  const rows = mutants.map(({ name, rule, text }) => {
    const record = records.get(name);
    if (record === undefined) return `| \`${name}\` | ${rule} | ${text} | *not yet* | | | |`;
    const { killedBy, median, max, hunts } = record;
    return `| \`${name}\` | ${rule} | ${text} | ${killedBy} | ${median} | ${max} | ${hunts} |`;
  });
  const head = "| mutant | rule | what is wrong | killed by | median | max | hunts |";
  return [head, "|---|---|---|---|---|---|---|", ...rows].join("\n");
}

/** The documentation with the table put in between its markers. */
export function withTable(docs: string, table: string): string {
  const begin = docs.indexOf(docsBegin);
  const end = docs.indexOf(docsEnd);
  if (begin < 0 || end < begin) throw new Error(`docs/simulator.md lacks the lines "${docsBegin}" and "${docsEnd}"`);
  return `${docs.slice(0, begin + docsBegin.length)}\n${table}\n${docs.slice(end)}`;
}

export function readDocs(): string {
  return readFileSync(docsPath, "utf8");
}

export function writeDocs(records: ReadonlyMap<string, Record>, mutants: readonly Mutant[]): void {
  writeFileSync(docsPath, withTable(readDocs(), docsTable(records, mutants)));
}
