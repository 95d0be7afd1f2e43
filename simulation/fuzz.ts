/**
 * Fuzzes what a node reads from disk and network:
 *
 *   npm run fuzz -- --minutes 10 --seed 1 [--part storage|transport] [--cases N]
 *
 * Case number N of a seed is always the same one. The last line is one JSON object; the exit code is 1 when a case failed.
 */
import { parseArgs } from "node:util";
import { type FuzzOutcome, fuzzStorage } from "./fuzz-storage.js";
import { fuzzTransport } from "./fuzz-transport.js";
import { Random } from "./random.js";

const parts = { storage: fuzzStorage, transport: fuzzTransport } as const;
type Part = keyof typeof parts;

/** A case that takes longer than this hangs, as far as a node is concerned. */
const slowCaseMs = 5000;
const failuresShown = 5;

interface Summary {
  seed: number;
  cases: number;
  refusals: number;
  prefixes: number;
  whole: number;
  forged: number;
  crashes: number;
  slowestCaseMs: number;
}

const counter: Record<FuzzOutcome, "refusals" | "prefixes" | "whole" | "forged"> = {
  refused: "refusals",
  prefix: "prefixes",
  whole: "whole",
  forged: "forged",
};

function runCase(summary: Summary, part: Part, number: number): void {
  const startedMs = performance.now();
  summary.cases += 1;
  try {
    summary[counter[parts[part](new Random(summary.seed, number))]] += 1;
  } catch (error) {
    summary.crashes += 1;
    if (summary.crashes <= failuresShown) {
      console.error(`${part}, case ${number}: ${error instanceof Error ? error.stack : String(error)}`);
      console.error(`again: npm run fuzz -- --seed ${summary.seed} --part ${part} --first ${number} --cases 1`);
    }
  }
  const tookMs = performance.now() - startedMs;
  summary.slowestCaseMs = Math.max(summary.slowestCaseMs, Math.round(tookMs));
  if (tookMs > slowCaseMs) {
    summary.crashes += 1;
    console.error(`${part}, case ${number}: took ${Math.round(tookMs)} ms`);
  }
}

function main(): void {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "1" },
      cases: { type: "string", default: "Infinity" },
      first: { type: "string", default: "1" },
      seed: { type: "string", default: "1" },
      part: { type: "string", default: "storage,transport" },
    },
  });
  const chosen = values.part.split(",").filter((part): part is Part => part in parts);
  const [minutes, cases, first, seed] = [values.minutes, values.cases, values.first, values.seed].map(Number) as [
    number,
    number,
    number,
    number,
  ];
  if (chosen.length === 0 || [minutes, cases, first, seed].some(Number.isNaN)) {
    throw new TypeError(
      "usage: npm run fuzz -- [--minutes N] [--seed S] [--part storage|transport] [--first N] [--cases N]",
    );
  }
  const summary: Summary = {
    seed,
    cases: 0,
    refusals: 0,
    prefixes: 0,
    whole: 0,
    forged: 0,
    crashes: 0,
    slowestCaseMs: 0,
  };
  const endMs = performance.now() + minutes * 60_000;
  for (let number = first; number < first + cases && performance.now() < endMs; number++) {
    for (const part of chosen) runCase(summary, part, number);
  }
  console.log(JSON.stringify(summary));
  process.exitCode = summary.crashes === 0 ? 0 : 1;
}

main();
