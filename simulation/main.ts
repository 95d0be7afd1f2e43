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
import { failing, failureReport, gitCommit, shrinkReport } from "./report.js";
import { type Edit, EditError, parseEdit } from "./shrink-edit.js";
import { type Stack, stacks } from "./stacks.js";
import type { Progress, Schedule, WorkOrder } from "./worker.js";

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
  --nodes LIST    nodes of a cluster, 1 to 9 (default 3); of a list like 3,5,7 the seed takes one, 6 : 3 : 1
  --stack NAME    what runs on top of Raft: ${stacks.join(", ")} (default mixed)
  --workers N     threads (default: all cores)
  --no-recorded   skip the seeds of simulation/seeds.txt
  --replay        run the one schedule of --seed and --nodes and report how it fails, if it does
  --shrink        make the one schedule of --seed and --nodes small, if it fails
  --keep LIST     with --replay: do only these faults and operations, like crash:1,loss:3-7
  --set LIST      with --replay: knobs with other values than drawn, like lossChance=0,ordered=true
  --json          the last line is one JSON object`;

function fromCommandLine() {
  const { values } = parseArgs({
    options: {
      schedules: { type: "string" },
      minutes: { type: "string" },
      seed: { type: "string", default: "1" },
      nodes: { type: "string", default: "3" },
      stack: { type: "string", default: "mixed" },
      workers: { type: "string", default: String(availableParallelism()) },
      "no-recorded": { type: "boolean", default: false },
      replay: { type: "boolean", default: false },
      shrink: { type: "boolean", default: false },
      keep: { type: "string" },
      set: { type: "string" },
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
    nodes: values.nodes.split(",").map((size) => whole("--nodes", size, 1, 9)),
    stack: stackNamed(values.stack),
    workers: whole("--workers", values.workers, 1, 256),
    recorded: !values["no-recorded"],
    replay: values.replay || values.keep !== undefined || values.set !== undefined,
    shrink: values.shrink,
    edit: edited(values.keep, values.set),
    json: values.json,
  };
}

function stackNamed(name: string): Stack {
  const stack = stacks.find((known) => known === name);
  if (stack !== undefined) return stack;
  console.error(`--stack must be one of ${stacks.join(", ")}, not "${name}"\n${usage}`);
  process.exit(2);
}

function edited(keep: string | undefined, set: string | undefined): Edit {
  try {
    return parseEdit(keep, set);
  } catch (error) {
    if (!(error instanceof EditError)) throw error;
    console.error(`${error.message}\n${usage}`);
    process.exit(2);
  }
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

/** Lines of "seed nodes [stack] # why", "raft" when no stack is named; the file lies in the sources, beside this program's. */
function recordedSeeds(): Schedule[] {
  const path = fileURLToPath(new URL("../../simulation/seeds.txt", import.meta.url));
  const lines = readFileSync(path, "utf8").split("\n");
  const seeds: Schedule[] = [];
  for (const [at, line] of lines.entries()) {
    const text = line.replace(/#.*/, "").trim();
    if (text === "") continue;
    const match = /^(\d+)\s+(\d+)(?:\s+(\w+))?$/.exec(text);
    if (match === null) throw new Error(`${path}:${at + 1}: expected "seed nodes [stack]", found "${text}"`);
    seeds.push({ seed: Number(match[1]), nodes: Number(match[2]), stack: stackNamed(match[3] ?? "raft") });
  }
  return seeds;
}

function runWorker(order: WorkOrder, totals: Totals, marks: Marks): Promise<Schedule | null> {
  return new Promise((resolve, reject) => {
    let failed: Schedule | null = null;
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

/** All that helps to understand a failure: its end, and the smallest schedule that fails alike. */
function explain(seed: number, nodes: number, stack: Stack): void {
  const failed = failing(seed, nodes, stack);
  console.error(failureReport(failed));
  console.error(shrinkReport(failed)?.text ?? "it did not fail when run again: not deterministic");
}

/** @returns the exit status. */
function runOne({ seed, nodes, stack, edit, shrink }: ReturnType<typeof fromCommandLine>): number {
  const failed = failing(seed, nodes[0] as number, stack);
  const report = shrink ? shrinkReport(failed)?.text : failureReport(failed, edit);
  console.log(report ?? `seed ${seed} with ${failed.nodes} nodes breaks no invariant`);
  return report === undefined || report.endsWith("breaks no invariant") ? 0 : 1;
}

async function main(): Promise<void> {
  const options = fromCommandLine();
  if (options.replay || options.shrink) {
    process.exitCode = runOne(options);
    return;
  }
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
      stack: options.stack,
      worker: i,
      workers: options.workers,
      untilMs,
      stop,
    };
  });
  const progress = setInterval(() => {
    const minutes = Math.round((performance.now() - startedMs) / 60_000);
    console.error(
      `${minutes} min: ${totals.schedules} schedules, ${totals.events} events, ${totals.violations} violations`,
    );
  }, 60_000);
  const failures = await Promise.all(orders.map((order) => runWorker(order, totals, marks)));
  clearInterval(progress);
  const seconds = (performance.now() - startedMs) / 1000;
  const failed = failures.find((failure) => failure !== null) ?? null;
  if (failed !== null) explain(failed.seed, failed.nodes, failed.stack);
  const unseenMarks = marks.unseen();
  const summary = {
    schedules: totals.schedules,
    nodes: options.nodes,
    stack: options.stack,
    commit: gitCommit(),
    simulatedSeconds: Math.round(totals.simulatedMs / 1000),
    seconds: Math.round(seconds * 10) / 10,
    events: totals.events,
    eventsPerSecond: Math.round(totals.events / seconds),
    schedulesPerSecond: Math.round((10 * totals.schedules) / seconds) / 10,
    timesRealTime: Math.round(totals.simulatedMs / 1000 / seconds),
    violations: totals.violations,
    failedSeed: failed?.seed ?? null,
    unseenMarks,
    marks,
  };
  if (options.json) console.log(JSON.stringify(summary));
  else {
    console.log(
      `${summary.schedules} schedules of ${options.nodes.join(" or ")} nodes, ${summary.simulatedSeconds} simulated seconds in ` +
        `${summary.seconds} s (${summary.eventsPerSecond} events/s): ${summary.violations} violations`,
    );
    if (unseenMarks.length > 0) console.log(`never happened: ${unseenMarks.join(", ")}`);
  }
  process.exitCode = failed === null ? 0 : 1;
}

await main();
