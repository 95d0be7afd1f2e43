// A cluster for a whole file, and what a failing test needs to be understood: the ends of the servers' logs.
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createDemoCluster, type DemoCluster, type DemoOptions } from "../../../src/cli/demo-cluster.js";
import { Load } from "./load.js";

export const failoverTimeoutMs = 2000;

export interface Scenarios {
  readonly cluster: () => DemoCluster;
  /** A test that finds the cluster healthy; what it ends with, the next one finds. */
  readonly scenario: (name: string, body: (cluster: DemoCluster) => Promise<void>) => void;
  /** The same with a load on it, which is ended in any case. */
  readonly underLoad: (name: string, body: (cluster: DemoCluster, load: Load) => Promise<void>) => void;
}

/** Started before the first test of the file, gone after the last. */
export function useCluster(options: Partial<DemoOptions> = {}): Scenarios {
  let cluster: DemoCluster | null = null;
  const running = (): DemoCluster => {
    if (cluster === null) throw new Error("the cluster was not made");
    return cluster;
  };
  before(async () => {
    // Short: it holds Unix sockets.
    const directory = await mkdtemp(join(tmpdir(), "pgr-"));
    // The load is refused on every standby, all the time: the statements are not worth their lines.
    const settings = { log_min_error_statement: "panic", ...options.settings };
    cluster = await createDemoCluster({ directory, failoverTimeoutMs, ...options, settings });
    await withLogs(cluster, () => running().start());
  });
  after(async () => {
    await cluster?.destroy();
  });
  const scenario: Scenarios["scenario"] = (name, body) => {
    test(name, () =>
      withLogs(running(), async () => {
        await running().waitForHealthy();
        await body(running());
      }),
    );
  };
  const underLoad: Scenarios["underLoad"] = (name, body) =>
    scenario(name, async (cluster) => {
      const load = await Load.start(cluster);
      try {
        await body(cluster, load);
      } finally {
        await load.stop();
      }
    });
  return { cluster: running, scenario, underLoad };
}

/** What the load causes on servers that do not take writes. */
const noise =
  /read-only transaction|is starting up|does not let this node write|holds no valid lease|HINT: +Connect to the current primary/;

async function withLogs(cluster: DemoCluster, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    for (const node of cluster.nodes) {
      const lines = (await node.logTail(5000)).split("\n").filter((line) => !noise.test(line));
      process.stderr.write(`---- the end of ${node.name}'s log ----\n${lines.slice(-60).join("\n")}\n`);
    }
    throw error;
  }
}

/** What is added to a node's log from now on. */
export async function watchLog(cluster: DemoCluster, name: string): Promise<() => Promise<string>> {
  const all = () => cluster.node(name).logTail(Number.MAX_SAFE_INTEGER);
  const { length } = await all();
  return async () => (await all()).slice(length);
}
