/**
 * Hunts every mutant of the bug zoo until a checker kills it, several times from different seeds.
 *
 *   npm run zoo -- --json
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { type Failing, failureReport, shrinkReport } from "./report.js";
import { parseEdit } from "./shrink-edit.js";
import { breed } from "./zoo/hunt.js";
import type { Order, Outcome } from "./zoo/hunter.js";
import { type Mutant, mutants, unkilled } from "./zoo/index.js";
import { type Record, readRecords, writeDocs, writeRecords } from "./zoo/records.js";

const usage = `usage: npm run zoo -- [options]
  --only NAME     hunt this mutant only; may be repeated, and a name may end with *; without it, all but those that
                  nothing has killed yet
  --hunts N       independent hunts of each mutant (default 5)
  --limit N       schedules of a hunt after which the mutant has survived (default 50000)
  --seed S        first seed of the first hunt (default 1); hunt i begins at S + 1000000 i
  --workers N     threads (default: all cores)
  --refresh       write the kills to simulation/zoo/records.json, where the tests begin
  --docs          write the table of docs/simulator.md from simulation/zoo/records.json
  --list          print the names and end
  --replay        run one schedule of the one mutant of --only, with --seed and --nodes, and report how it fails
  --shrink        make that schedule small; without --seed the recorded one
  --nodes N       with --replay and --shrink: nodes of the cluster
  --keep LIST     with --replay: do only these faults and operations, like crash:1,loss:3-7
  --set LIST      with --replay: knobs with other values than drawn
  --json          the last line is one JSON object
exit status 1: a mutant survived`;

function fromCommandLine() {
  const { values } = parseArgs({
    options: {
      only: { type: "string", multiple: true },
      hunts: { type: "string", default: "5" },
      limit: { type: "string", default: "50000" },
      seed: { type: "string" },
      workers: { type: "string", default: String(availableParallelism()) },
      refresh: { type: "boolean", default: false },
      docs: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      replay: { type: "boolean", default: false },
      shrink: { type: "boolean", default: false },
      nodes: { type: "string" },
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
  return {
    ...values,
    hunted: values.only === undefined ? mutants.filter(({ name }) => !unkilled.has(name)) : chosen(values.only),
    hunts: whole("--hunts", values.hunts, 0, 1000),
    limit: whole("--limit", values.limit, 1, 1_000_000),
    seed: values.seed === undefined ? undefined : whole("--seed", values.seed, 0, 4294967295),
    nodes: values.nodes === undefined ? undefined : whole("--nodes", values.nodes, 1, 9),
    workers: whole("--workers", values.workers, 1, 256),
  };
}

function whole(name: string, text: string, low: number, high: number): number {
  const value = Number(text);
  if (text.trim() !== "" && Number.isInteger(value) && value >= low && value <= high) return value;
  return refuse(`${name} must be a whole number from ${low} to ${high}, not "${text}"`);
}

function refuse(problem: string): never {
  console.error(`${problem}\n${usage}`);
  process.exit(2);
}

function chosen(patterns: readonly string[]): readonly Mutant[] {
  const fits = (name: string, pattern: string): boolean =>
    pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern;
  for (const pattern of patterns) {
    if (!mutants.some(({ name }) => fits(name, pattern))) refuse(`there is no mutant "${pattern}"; see --list`);
  }
  return mutants.filter(({ name }) => patterns.some((pattern) => fits(name, pattern)));
}

/** The hunts of the hard ones first, so that no thread is left with a long one at the end. */
function ordersFor(hunted: readonly Mutant[], hunts: number, seed: number, limit: number): Order[] {
  const records = readRecords();
  const expected = ({ name }: Mutant): number => records.get(name)?.median ?? Number.POSITIVE_INFINITY;
  const hardFirst = [...hunted].sort((a, b) => (expected(a) < expected(b) ? 1 : -1));
  return hardFirst.flatMap(({ name }) =>
    Array.from({ length: hunts }, (_, hunt) => ({ name, hunt, seed: seed + 1_000_000 * hunt, limit })),
  );
}

/** Lets `workers` threads work through the orders, each taking the next one when it is done with its last. */
function carryOut(orders: readonly Order[], workers: number, seen: (outcome: Outcome) => void): Promise<unknown> {
  let next = 0;
  const work = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const worker = new Worker(new URL("./zoo/hunter.js", import.meta.url));
      const order = (): void => {
        const following = orders[next++];
        if (following !== undefined) worker.postMessage(following);
        else void worker.terminate().then(() => resolve());
      };
      worker.on("message", (outcome: Outcome) => {
        seen(outcome);
        order();
      });
      worker.on("error", reject);
      order();
    });
  return Promise.all(Array.from({ length: Math.min(workers, orders.length) }, work));
}

/** A row of the table; null when not every hunt ended with a kill. */
function recordOf(name: string, outcomes: readonly Outcome[]): Record | null {
  const kills = outcomes.flatMap(({ kill }) => kill ?? []);
  if (kills.length < outcomes.length || kills.length === 0) return null;
  kills.sort((a, b) => a.schedules - b.schedules);
  const counts = new Map<string, number>();
  for (const { code } of kills) counts.set(code, (counts.get(code) ?? 0) + 1);
  const killedBy = [...counts]
    .sort((a, b) => b[1] - a[1])
    .map(([code]) => code)
    .join(", ");
  const middle = kills[(kills.length - 1) >> 1];
  const [first, last] = [kills[0], kills.at(-1)];
  if (first === undefined || middle === undefined || last === undefined) return null;
  const { seed, nodes } = first;
  return { name, seed, nodes, killedBy, median: middle.schedules, max: last.schedules, hunts: kills.length };
}

function print({ name, rule }: Mutant, record: Record | null, seconds: number): void {
  const fate =
    record === null
      ? "SURVIVED"
      : `median ${String(record.median).padStart(5)} max ${String(record.max).padStart(5)} by ${record.killedBy}`;
  console.log(`${name.padEnd(34)} ${rule.padEnd(13)} ${seconds.toFixed(1).padStart(7)} s  ${fate}`);
}

type Options = ReturnType<typeof fromCommandLine>;

/** One schedule of one mutant, to look at. @returns the exit status. */
async function runOne({ hunted, seed, nodes, keep, set, shrink }: Options): Promise<number> {
  const [mutant] = hunted;
  if (mutant === undefined || hunted.length > 1) return refuse("--replay and --shrink take one mutant: see --only");
  const { name } = mutant;
  const record = readRecords().get(name);
  const at = { seed: seed ?? record?.seed ?? 1, nodes: nodes ?? record?.nodes ?? 3 };
  const prey = await breed(mutant);
  const failed: Failing = {
    ...at,
    command: `npm run zoo -- --only ${name} --seed ${at.seed} --replay`,
    run: (size, edited) => prey.run(at.seed, size, edited),
  };
  const report = shrink ? shrinkReport(failed)?.text : failureReport(failed, parseEdit(keep, set));
  console.log(report ?? `${name} survives seed ${at.seed} with ${at.nodes} nodes`);
  return 0;
}

async function main(): Promise<void> {
  const options = fromCommandLine();
  if (options.replay || options.shrink) {
    process.exitCode = await runOne(options);
    return;
  }
  if (options.list) {
    for (const { name, rule, text } of options.hunted) console.log(`${name.padEnd(34)} ${rule.padEnd(13)} ${text}`);
    return;
  }
  const records = readRecords();
  const outcomes = new Map<string, Outcome[]>(options.hunted.map(({ name }) => [name, []]));
  const rows = new Map<string, Record | null>();
  const startedMs = performance.now();
  await carryOut(
    ordersFor(options.hunted, options.hunts, options.seed ?? 1, options.limit),
    options.workers,
    (outcome) => {
      const { name } = outcome.order;
      const of = outcomes.get(name) ?? [];
      of.push(outcome);
      if (of.length < options.hunts) return;
      const record = recordOf(name, of);
      rows.set(name, record);
      const mutant = options.hunted.find((one) => one.name === name) as Mutant;
      print(
        mutant,
        record,
        of.reduce((sum, { seconds }) => sum + seconds, 0),
      );
      if (record !== null && options.refresh) writeRecords(records.set(name, record), mutants);
    },
  );
  if (options.docs) writeDocs(records, mutants);
  const { user, system } = process.cpuUsage();
  const survivors = [...rows].filter(([, record]) => record === null).map(([name]) => name);
  const summary = {
    mutants: options.hunted.length,
    killed: rows.size - survivors.length,
    survivors,
    hunts: options.hunts,
    limit: options.limit,
    notKilledYet: [...unkilled],
    seconds: Math.round((performance.now() - startedMs) / 1000),
    cpuSeconds: Math.round((user + system) / 1e6),
    table: options.hunted.flatMap(({ name }) => rows.get(name) ?? []),
  };
  if (options.json) console.log(JSON.stringify(summary));
  else if (rows.size > 0) console.log(`${summary.killed} of ${summary.mutants} mutants killed in ${summary.seconds} s`);
  process.exitCode = survivors.length === 0 ? 0 : 1;
}

await main();
