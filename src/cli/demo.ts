/** `demo`: a real cluster on this machine, shown live until Ctrl-C. */
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { showCluster } from "./cluster-output.js";
import { createDemoCluster, type DemoCluster } from "./demo-cluster.js";
import { describeRound, runFailoverRounds } from "./demo-failover.js";
import { describeError } from "./errors.js";
import type { Terminal } from "./terminal.js";

export interface DemoFlags {
  readonly directory?: string;
  readonly bindir?: string;
  /** Kill primaries and check what must hold, instead of showing the cluster. */
  readonly failover?: boolean;
}

const refreshMs = 1000;

export async function runDemo(flags: DemoFlags, terminal: Terminal): Promise<void> {
  const stop = new AbortController();
  const onSignal = () => stop.abort();
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  const directory = flags.directory ?? (await mkdtemp(join(tmpdir(), "pg_replica-demo-")));
  const cluster = await createDemoCluster({
    directory,
    bindir: flags.bindir,
    onStep: (text) => terminal.note(text),
  });
  try {
    await untilStopped(cluster.start(), stop.signal);
    if (flags.failover === true) {
      await showFailovers(cluster, terminal);
      return;
    }
    while (!stop.signal.aborted) {
      const text = await describe(cluster, terminal);
      terminal.clear();
      terminal.print(text);
      await delay(refreshMs, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  } finally {
    terminal.note("stopping the servers");
    await (flags.directory === undefined ? cluster.destroy() : cluster.stop());
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

/** There and back: the second round kills the node that the first one promoted. */
async function showFailovers(cluster: DemoCluster, terminal: Terminal): Promise<void> {
  terminal.print(await describe(cluster, terminal));
  await runFailoverRounds(cluster, 2, (result) => terminal.print(`\n${describeRound(result)}`));
  terminal.print(`\n${await describe(cluster, terminal)}`);
  terminal.print("\nEverything held, in both directions.");
}

/** Ctrl-C while the cluster is being made: do not wait for the rest. */
async function untilStopped(work: Promise<void>, signal: AbortSignal): Promise<void> {
  const stopped = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
  // What fails after that has been stopped is no news.
  work.catch(() => undefined);
  await Promise.race([work, stopped]);
}

async function describe(cluster: DemoCluster, terminal: Terminal): Promise<string> {
  const problems: string[] = [];
  for (const node of cluster.nodes) {
    try {
      const view = await node.view();
      const table = showCluster(view, { format: "pretty", colors: terminal.colors });
      return `${table}\n\n psql '${cluster.connectionString()}'\n Ctrl-C stops the servers and removes them.`;
    } catch (error) {
      problems.push(`${node.name}: ${describeError(error)}`);
    }
  }
  return `no agent answers:\n${problems.join("\n")}`;
}
