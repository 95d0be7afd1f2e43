/**
 * The simulator's command line: runs schedules on all cores, first every seed that ever failed, and ends with exit
 * status 1 at the first broken invariant, printing all that is needed to run that one schedule again.
 *
 *   npm run sim -- --schedules 1000 --seed 1 --nodes 3 --json
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { Marks } from "./marks.js";
import { printFailure } from "./report.js";
import type { Progress, WorkOrder } from "./worker.js";

interface Totals {
  schedules: number;
  simulatedMs: number;
  events: number;
  violations: number;
}

const usage = `usage: npm run sim -- [options]
  --schedules N   schedules to run (default 1000; with --minutes: as many as fit)
  --minutes N     run for N minutes instead
  --seed S        first seed (default 1); schedule i has seed S + i
  --nodes N       nodes of a cluster, 1 to 9 (default 3)
  --workers N     threads (default: all cores)
  --no-recorded   skip the seeds of simulation/seeds.txt
  --json          the last line is one JSON object`;

function fromCommandLine() {
  const { values } = parseArgs({
    options: {
      schedules: { type: "string" },
      minutes: { type: "string" },
      seed: { type: "string", default: "1" },
      nodes: { type: "string", default: "3" },
      workers: { type: "string", default: String(availableParallelism()) },
      "no-recorded": { type: "boolean", default: false },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    process.exit(0);
  }
  const minutes = values.minutes === undefined ? null : number("--minutes", values.minutes, 0, 100_000);
  const schedules = values.schedules ?? (minutes === null ? "1000" : "4294967296");
  return {
    minutes,
    schedules: whole("--schedules", schedules, 1, 4294967296),
    seed: whole("--seed", values.seed, 0, 4294967295),
    nodes: whole("--nodes", values.nodes, 1, 9),
    workers: whole("--workers", values.workers, 1, 256),
    recorded: !values["no-recorded"],
    json: values.json,
  };
}

function number(name: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (text.trim() !== "" && value >= low && value <= high) return value;
  console.error(`${name} must be a number from ${low} to ${high}, not "${text}"\n${usage}`);
  process.exit(2);
}

function whole(name: string, text: string, low: number, high: number): number {
  if (!Number.isInteger(Number(text))) number(name, "", low, high);
  return number(name, text, low, high);
}

/** Lines of "seed nodes # why"; the file lies in the sources, beside this program's. */
function recordedSeeds(): Array<{ seed: number; nodes: number }> {
  const path = fileURLToPath(new URL("../../simulation/seeds.txt", import.meta.url));
  const lines = readFileSync(path, "utf8").split("\n");
  const seeds: Array<{ seed: number; nodes: number }> = [];
  for (const [at, line] of lines.entries()) {
    const text = line.replace(/#.*/, "").trim();
    if (text === "") continue;
    const match = /^(\d+)\s+(\d+)$/.exec(text);
    if (match === null) throw new Error(`${path}:${at + 1}: expected "seed nodes", found "${text}"`);
    seeds.push({ seed: Number(match[1]), nodes: Number(match[2]) });
  }
  return seeds;
}

function runWorker(order: WorkOrder, totals: Totals, marks: Marks): Promise<{ seed: number; nodes: number } | null> {
  return new Promise((resolve, reject) => {
    let failed: { seed: number; nodes: number } | null = null;
    const worker = new Worker(new URL("./worker.js", import.meta.url), { workerData: order });
    worker.on("message", (progress: Progress) => {
      totals.schedules += progress.schedules;
      totals.simulatedMs += progress.simulatedMs;
      totals.events += progress.events;
      marks.add(progress.marks);
      if (progress.failed === null) return;
      totals.violations++;
      failed = progress.failed;
      // The others may stop as well: one failure is enough to look at.
      Atomics.store(new Int32Array(order.stop), 0, 1);
    });
    worker.on("error", reject);
    worker.on("exit", () => resolve(failed));
  });
}

async function main(): Promise<void> {
  const options = fromCommandLine();
  const totals: Totals = { schedules: 0, simulatedMs: 0, events: 0, violations: 0 };
  const marks = new Marks();
  const stop = new SharedArrayBuffer(4);
  const startedMs = performance.now();
  const untilMs = options.minutes === null ? null : Date.now() + options.minutes * 60_000;
  const recorded = options.recorded ? recordedSeeds() : [];
  const orders = Array.from({ length: options.workers }, (_, i): WorkOrder => {
    return {
      recorded: recorded.filter((_seed, at) => at % options.workers === i),
      firstSeed: options.seed,
      schedules: options.schedules,
      nodes: options.nodes,
      worker: i,
      workers: options.workers,
      untilMs,
      stop,
    };
  });
  const failures = await Promise.all(orders.map((order) => runWorker(order, totals, marks)));
  const seconds = (performance.now() - startedMs) / 1000;
  const failed = failures.find((failure) => failure !== null) ?? null;
  if (failed !== null) printFailure(failed.seed, failed.nodes);
  const summary = {
    schedules: totals.schedules,
    nodes: options.nodes,
    simulatedSeconds: Math.round(totals.simulatedMs / 1000),
    seconds: Math.round(seconds * 10) / 10,
    events: totals.events,
    eventsPerSecond: Math.round(totals.events / seconds),
    timesRealTime: Math.round(totals.simulatedMs / 1000 / seconds),
    violations: totals.violations,
    failedSeed: failed?.seed ?? null,
    marks,
  };
  if (options.json) console.log(JSON.stringify(summary));
  else {
    console.log(
      `${summary.schedules} schedules of ${options.nodes} nodes, ${summary.simulatedSeconds} simulated seconds in ` +
        `${summary.seconds} s (${summary.eventsPerSecond} events/s): ${summary.violations} violations`,
    );
    const unseen = Object.entries(marks).filter(([, count]) => count === 0);
    if (unseen.length > 0) console.log(`never happened: ${unseen.map(([name]) => name).join(", ")}`);
  }
  process.exitCode = failed === null ? 0 : 1;
}

await main();
