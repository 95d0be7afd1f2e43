/**
 * How long a multi-host client can not write when its primary fails or is switched over, beside what bare PostgreSQL
 * needs on the same machine in the same run. Rounds of all kinds take turns, so that they share the machine's moods.
 */
import { chmod, copyFile, mkdtemp, rm, writeFile } from "node:fs/promises";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import Table from "cli-table3";
import { findBindir } from "../src/cli/bindir.js";
import { prepareTable } from "../src/cli/cluster-writer.js";
import { createDemoCluster, type DemoCluster } from "../src/cli/demo-cluster.js";
import { serverConfig } from "../src/cli/demo-failover.js";
import { describeError } from "../src/cli/errors.js";
import { BarePair } from "./bare-pair.js";
import { bareKilled, bareSwitchedOver, hostKilled, postmasterKilled, switchedOver, table } from "./failover-rounds.js";
import { round, type Summary, summarize } from "./statistics.js";

const failoverTimeoutMs = 2000;
const settings = { shared_buffers: "32MB", max_wal_size: "256MB" };
const causes = ["postmaster", "host", "switchover"] as const;
type Cause = (typeof causes)[number];
type Kind = Cause | "barePromote" | "bareSwitchover";

const kindNames: Readonly<Record<Kind, string>> = {
  postmaster: "postmaster killed",
  host: `host killed, failover_timeout_ms = ${failoverTimeoutMs}`,
  switchover: "switchover, write gap",
  barePromote: "bare: postmaster killed, pg_promote at once",
  bareSwitchover: "bare: fast shutdown, pg_promote",
};

interface Options {
  readonly json: boolean;
  readonly rounds: number;
  readonly causes: readonly Cause[];
  readonly bindir: string;
  /** Another build of the program than the installed one. */
  readonly bundle: string | null;
  readonly keep: boolean;
}

const usage = `failover.sh [--json] [--rounds N] [--cause postmaster|host|switchover|all] [--bindir DIR]
  --json     one JSON object as the last line
  --rounds   measured rounds of each kind (default 5)
  --cause    only this one, with its bare limit (default all)
  --bundle   measure this pg_replica.mjs instead of the installed one
  --keep     leave the servers' folder (with their logs) where it is`;

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      json: { type: "boolean", default: false },
      rounds: { type: "string", default: "5" },
      cause: { type: "string", default: "all" },
      bindir: { type: "string" },
      bundle: { type: "string" },
      keep: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(usage);
    process.exit(0);
  }
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1)
    throw new Error(`--rounds takes a number from 1, not "${values.rounds}"`);
  const wanted = causes.filter((cause) => values.cause === "all" || values.cause === cause);
  if (wanted.length === 0) throw new Error(`--cause takes ${causes.join(", ")} or all, not "${values.cause}"`);
  return {
    json: values.json,
    rounds,
    causes: wanted,
    bindir: findBindir(values.bindir),
    bundle: values.bundle ?? null,
    keep: values.keep,
  };
}

/** A switchover is compared with a bare one, everything else with a bare promotion. */
function kindsOf(wanted: readonly Cause[]): readonly Kind[] {
  const kinds: Kind[] = [];
  if (wanted.some((cause) => cause !== "switchover")) kinds.push("barePromote");
  if (wanted.includes("switchover")) kinds.push("bareSwitchover");
  return [...wanted, ...kinds];
}

async function measure(options: Options, directory: string): Promise<ReadonlyMap<Kind, Summary>> {
  const cluster = await makeCluster(options, join(directory, "c"));
  const pair = await BarePair.prepare({ directory: join(directory, "b"), bindir: options.bindir, settings });
  const run = async () => {
    note("making a cluster of three nodes");
    await cluster.start();
    const primary = await cluster.waitForPrimary(cluster.nodes.map((node) => node.name));
    await prepareTable(serverConfig(cluster, primary), table);
    note("making a primary and a standby without pg_replica");
    await pair.start();
    await prepareTable(pair.config(pair.primary), table);
    return runRounds(options, cluster, pair);
  };
  try {
    return await unlessStopped(run());
  } finally {
    await pair.stop();
    await cluster.stop();
  }
}

/** Ctrl-C ends the measurement, and what it started ends with it. */
async function unlessStopped<T>(work: Promise<T>): Promise<T> {
  const stopped = new Promise<never>((_, reject) => {
    const stop = () => reject(new Error("stopped"));
    process.once("SIGINT", stop).once("SIGTERM", stop);
  });
  // What fails after that has been stopped is no news.
  work.catch(() => undefined);
  return Promise.race([work, stopped]);
}

async function runRounds(options: Options, cluster: DemoCluster, pair: BarePair): Promise<ReadonlyMap<Kind, Summary>> {
  const runs: Readonly<Record<Kind, () => Promise<number>>> = {
    postmaster: () => postmasterKilled(cluster),
    host: () => hostKilled(cluster),
    switchover: () => switchedOver(cluster),
    barePromote: () => bareKilled(pair),
    bareSwitchover: () => bareSwitchedOver(pair),
  };
  const values = new Map<Kind, number[]>();
  for (let number = 1; number <= options.rounds; number++) {
    for (const kind of kindsOf(options.causes)) {
      const took = await runs[kind]();
      values.set(kind, [...(values.get(kind) ?? []), took]);
      note(`round ${number} of ${options.rounds}: ${kindNames[kind]}: ${took.toFixed(0)} ms`);
    }
  }
  return new Map([...values].map(([kind, list]) => [kind, summarize(list)]));
}

async function makeCluster(options: Options, directory: string): Promise<DemoCluster> {
  const common = { directory, bindir: options.bindir, failoverTimeoutMs };
  if (options.bundle === null) return createDemoCluster({ ...common, settings });
  const copy = `${directory}.mjs`;
  await copyFile(options.bundle, copy);
  await chmod(copy, 0o644);
  // The supervisor starts "NODE BUNDLE agent"; this stands in for NODE and takes the other bundle.
  const node = `${directory}.node`;
  await writeFile(node, `#!/bin/sh\nshift\nexec "${process.execPath}" "${copy}" "$@"\n`);
  await chmod(node, 0o755);
  return createDemoCluster({
    ...common,
    settings: { ...settings, "pg_replica.node_path": node },
    program: [process.execPath, copy],
  });
}

interface Floor {
  readonly limitMs: number;
  readonly held: boolean;
}

/** All keys are always there; what was not measured is null. */
function evaluate(options: Options, summaries: ReadonlyMap<Kind, Summary>): Record<string, unknown> {
  const median = (kind: Kind) => summaries.get(kind)?.median ?? null;
  const [postmaster, host, gap] = [median("postmaster"), median("host"), median("switchover")];
  const [bare, bareGap] = [median("barePromote"), median("bareSwitchover")];
  const ratio = (over: number | null, under: number | null) =>
    over === null || under === null ? null : round(over / under, 2);
  const floor = (value: number | null, base: number | null, limit: (base: number) => number): Floor | null =>
    value === null || base === null ? null : { limitMs: round(limit(base)), held: value <= limit(base) };
  const rounded = (value: number | null) => (value === null ? null : round(value));
  return {
    rounds: options.rounds,
    failoverTimeoutMs,
    postmasterKilledMs: rounded(postmaster),
    hostKilledMs: rounded(host),
    switchoverGapMs: rounded(gap),
    barePromoteMs: rounded(bare),
    bareSwitchoverMs: rounded(bareGap),
    postmasterRatio: ratio(postmaster, bare),
    hostOverTimeoutInBare: ratio(host === null ? null : host - failoverTimeoutMs, bare),
    switchoverRatio: ratio(gap, bareGap),
    floors: {
      postmaster: floor(postmaster, bare, (base) => Math.max(3 * base, 400)),
      host: floor(host, bare, (base) => failoverTimeoutMs + 2 * base),
      switchover: floor(gap, bareGap, (base) => 3 * base),
    },
    values: Object.fromEntries([...summaries].map(([kind, { values }]) => [kind, values.map((one) => round(one))])),
    load: loadavg().map((one) => round(one, 2)),
  };
}

function show(summaries: ReadonlyMap<Kind, Summary>, result: Record<string, unknown>): void {
  const lines = new Table({ head: ["", "median ms", "min", "max", "floor ms", ""], style: { head: [], border: [] } });
  const floors = result.floors as Readonly<Record<string, Floor | null>>;
  for (const [kind, { median, min, max }] of summaries) {
    const floor = floors[kind] ?? null;
    const verdict = floor === null ? ["", ""] : [floor.limitMs.toFixed(0), floor.held ? "held" : "NOT HELD"];
    lines.push([kindNames[kind], median.toFixed(0), min.toFixed(0), max.toFixed(0), ...verdict]);
  }
  console.log(lines.toString());
}

function note(text: string): void {
  console.error(text);
}

async function main(): Promise<number> {
  const options = readOptions();
  const directory = await mkdtemp(join(tmpdir(), "pg_replica-bench-"));
  await chmod(directory, 0o711);
  try {
    const summaries = await measure(options, directory);
    const result = evaluate(options, summaries);
    show(summaries, result);
    if (options.json) console.log(JSON.stringify(result));
    const floors = Object.values(result.floors as Readonly<Record<string, Floor | null>>);
    return floors.every((floor) => floor === null || floor.held) ? 0 : 1;
  } finally {
    if (options.keep) note(`the servers' folder is ${directory}`);
    else await rm(directory, { recursive: true, force: true });
  }
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(`failover: ${describeError(error)}`);
    process.exit(2);
  },
);
