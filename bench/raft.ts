/** What a Raft group costs by its size: the product's core, log, driver and transport, each node in its own process. */
import { rmSync } from "node:fs";
import { mkdir, mkdtemp, readFile, writeFile } from "node:fs/promises";
import { cpus, loadavg, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describeError } from "../src/cli/errors.js";
import { leaseTimings } from "../src/control/index.js";
import { bareAppends, fileSystemOf } from "./bare-disk.js";
import { killEverything } from "./raft-cluster.js";
import { measureSize, type SizeResult } from "./raft-measures.js";
import { type RaftBenchOptions, raftBenchUsage, readRaftOptions } from "./raft-options.js";
import { intoDocument, type Machine, markdown, type RaftResult } from "./raft-report.js";
import { percentile, round } from "./statistics.js";

const page = fileURLToPath(new URL("../../docs/benchmarks.md", import.meta.url));

async function describeMachine(directory: string): Promise<Machine> {
  const appends = await bareAppends(directory, 200, 256);
  return {
    cores: cpus().length,
    cpu: cpus()[0]?.model ?? "unknown",
    memoryBytes: totalmem(),
    node: process.versions.node,
    fileSystem: await fileSystemOf(directory),
    fdatasyncMs: round(percentile(appends, 50), 2),
    load: round(loadavg()[0] ?? 0, 2),
  };
}

async function measure(options: RaftBenchOptions, directory: string): Promise<RaftResult> {
  const { electionTimeoutMs, heartbeatIntervalMs } = leaseTimings(options.leaseMs);
  const startMs = performance.now();
  const machine = await describeMachine(directory);
  const sizes: SizeResult[] = [];
  for (const [at, size] of options.nodes.entries()) {
    const proposals = at === 0 ? options.proposals : options.proposalsOthers;
    sizes.push(await measureSize({ options, directory, note }, size, proposals));
  }
  return {
    machine,
    electionTimeoutMs,
    heartbeatIntervalMs,
    rounds: options.rounds,
    restartRounds: options.restartRounds,
    elapsedSeconds: round((performance.now() - startMs) / 1000),
    sizes,
  };
}

/** Ctrl-C ends the measurement, and what it started ends with it. */
async function unlessStopped<T>(work: Promise<T>): Promise<T> {
  const stopped = new Promise<never>((_, reject) => {
    const stop = () => reject(new Error("stopped"));
    process.once("SIGINT", stop).once("SIGTERM", stop).once("SIGHUP", stop);
  });
  // What fails after that has been stopped is no news.
  work.catch(() => undefined);
  return Promise.race([work, stopped]);
}

function note(text: string): void {
  console.error(text);
}

async function main(): Promise<number> {
  const options = readRaftOptions(process.argv.slice(2));
  if (options === null) {
    console.log(raftBenchUsage);
    return 0;
  }
  const place = options.directory ?? tmpdir();
  await mkdir(place, { recursive: true });
  const directory = await mkdtemp(join(place, "pg_replica-raft-bench-"));
  // On whatever path this process ends; a node that is dying may still make a file.
  process.on("exit", () => rmSync(directory, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 }));
  try {
    const result = await unlessStopped(measure(options, directory));
    if (result.machine.fileSystem === "tmpfs")
      note(`${place} is in memory, where fdatasync costs nothing: choose a disk with --directory`);
    const text = markdown(result);
    console.log(text);
    if (options.docs) await writeFile(page, intoDocument(await readFile(page, "utf8"), text));
    if (options.json) console.log(JSON.stringify(result));
    return 0;
  } finally {
    await killEverything();
  }
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(`raft: ${describeError(error)}`);
    process.exit(2);
  },
);
