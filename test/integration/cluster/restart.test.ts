// The whole cluster goes down, in good order or by a power cut, and comes up in different orders.
import assert from "node:assert/strict";
import type { DemoCluster } from "../../../src/cli/demo-cluster.js";
import { names, type Standing, settle, standing } from "./checks.js";
import { Load } from "./load.js";
import { useCluster } from "./scenario.js";

const { scenario } = useCluster();

function standbysOf(cluster: DemoCluster, { primary }: Standing): string[] {
  return names(cluster).filter((name) => name !== primary);
}

/** Load, then `stop` under it, then `start`; afterwards the load goes on and everything is checked. */
async function restart(
  cluster: DemoCluster,
  loss: "none" | "unreplicated",
  stop: (before: Standing) => Promise<void>,
  start: (before: Standing) => Promise<void>,
): Promise<{ before: Standing; after: Standing }> {
  const before = await standing(cluster);
  const load = await Load.start(cluster);
  try {
    await stop(before);
    for (const node of cluster.nodes) assert.equal(node.postmasterPid(), null, `${node.name} is down`);
    const sinceMs = performance.now();
    await start(before);
    await load.waitForClient(sinceMs);
    await settle(load, loss);
  } finally {
    await load.stop();
  }
  const after = await standing(cluster);
  assert(after.timeline >= before.timeline);
  return { before, after };
}

async function stopAtOnce(cluster: DemoCluster): Promise<void> {
  await Promise.all(cluster.nodes.map((node) => node.stopHost()));
}

scenario("stopped standbys first and started primary first, the cluster goes on with every row", async (cluster) => {
  await restart(
    cluster,
    "none",
    async (before) => {
      for (const name of [...standbysOf(cluster, before), before.primary]) await cluster.node(name).stopHost();
    },
    async (before) => {
      for (const name of [before.primary, ...standbysOf(cluster, before)]) cluster.node(name).startHost();
    },
  );
});

scenario(
  "stopped primary first and started in the order of the stop, the cluster goes on with every row",
  async (cluster) => {
    await restart(
      cluster,
      "none",
      async (before) => {
        for (const name of [before.primary, ...standbysOf(cluster, before)]) await cluster.node(name).stopHost();
      },
      async (before) => {
        for (const name of [before.primary, ...standbysOf(cluster, before)]) cluster.node(name).startHost();
      },
    );
  },
);

scenario("stopped all at once and started primary last, the cluster goes on with every row", async (cluster) => {
  await restart(
    cluster,
    "none",
    () => stopAtOnce(cluster),
    async (before) => {
      for (const name of [...standbysOf(cluster, before), before.primary]) cluster.node(name).startHost();
    },
  );
});

scenario(
  "stopped all at once, two nodes go on without the last primary, which follows when it comes",
  async (cluster) => {
    const { before, after } = await restart(
      cluster,
      "unreplicated",
      () => stopAtOnce(cluster),
      async (before) => {
        const others = standbysOf(cluster, before);
        for (const name of others) cluster.node(name).startHost();
        await cluster.waitForPrimary(others);
        cluster.node(before.primary).startHost();
      },
    );
    assert.notEqual(after.primary, before.primary);
  },
);

scenario("after a power cut of all three hosts the cluster comes up with every row", async (cluster) => {
  await restart(
    cluster,
    "none",
    async () => {
      await Promise.all(cluster.nodes.map((node) => node.killHost()));
    },
    async () => {
      for (const node of cluster.nodes) node.startHost();
    },
  );
});
