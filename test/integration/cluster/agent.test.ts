// Only the agent is hurt, the server beside it is healthy: killed it costs nothing, frozen it costs the lease.
import assert from "node:assert/strict";
import type { DemoCluster, DemoNode } from "../../../src/cli/demo-cluster.js";
import { ask, expectOnePromotion, names, settle, standing } from "./checks.js";
import type { Load } from "./load.js";
import { useCluster } from "./scenario.js";

/** A killed agent costs nothing when the next one is up within the lease: also on a machine that is busy otherwise. */
const failoverTimeoutMs = 4000;
const { underLoad } = useCluster({ failoverTimeoutMs });

/** Kills it and waits until another one has taken its place and knows its cluster. */
async function replaceAgent(cluster: DemoCluster, node: DemoNode): Promise<void> {
  const old = node.agentPid();
  node.killAgent();
  await cluster.waitFor(
    `a new agent on ${node.name}`,
    async () => {
      const pid = node.agentPid();
      if (pid === null || pid === old) return "there is none";
      const { quorum } = await node.view();
      return quorum || "it has not heard of a leader yet";
    },
    30_000,
  );
}

/** Not one write failed: the sessions on the primary were neither refused anything nor broken. */
function expectNoFailedWrite(load: Load, primary: string): void {
  const { refused, indeterminate, breaks } = load.session(primary);
  assert.deepEqual({ refused, indeterminate, breaks }, { refused: [], indeterminate: [], breaks: 0 });
  assert.deepEqual(load.client.indeterminate, []);
  assert.deepEqual([...new Set(load.client.acknowledged.map(({ server }) => server))], [primary]);
}

underLoad(
  "killing the agent on the primary costs nothing: no failover, not one failed write",
  async (cluster, load) => {
    const before = await standing(cluster);
    await replaceAgent(cluster, cluster.node(before.primary));
    await outlastLeases(load, before.primary);
    await settle(load, "none");
    assert.deepEqual(await standing(cluster), before);
    expectNoFailedWrite(load, before.primary);
  },
);

underLoad("killing the agents on both standbys, one after the other, costs nothing", async (cluster, load) => {
  const before = await standing(cluster);
  for (const node of cluster.nodes) if (node.name !== before.primary) await replaceAgent(cluster, node);
  await outlastLeases(load, before.primary);
  await settle(load, "none");
  assert.deepEqual(await standing(cluster), before);
  expectNoFailedWrite(load, before.primary);
});

underLoad("killing the agent of a Raft leader that is not the primary costs nothing", async (cluster, load) => {
  const before = await standing(cluster);
  const primary = cluster.node(before.primary);
  // A standby's agent leads only while the primary's is away: that one is kept away until it does.
  let leader: DemoNode | null = null;
  await cluster.waitFor(
    "a standby's agent to be the Raft leader",
    async () => {
      if (primary.agentPid() !== null) primary.killAgent();
      for (const node of cluster.nodes) {
        if (node === primary) continue;
        const { leader: name, self } = await node.view();
        if (name === node.name) {
          leader = node;
          return true;
        }
        if (self.raftRole === "leader") return `${node.name} leads but does not say so`;
      }
      return "none of them leads";
    },
    30_000,
  );
  assert(leader !== null);
  await replaceAgent(cluster, leader);
  await outlastLeases(load, before.primary);
  await settle(load, "none");
  assert.deepEqual(await standing(cluster), before);
  expectNoFailedWrite(load, before.primary);
});

underLoad(
  "a frozen agent's primary stops by itself, is replaced, and rejoins when the agent goes on",
  async (cluster, load) => {
    const before = await standing(cluster);
    const old = cluster.node(before.primary);
    const pid = old.agentPid();
    old.pauseAgent();
    try {
      const pausedMs = performance.now();
      // The old server is alive and its sessions go on asking: it is the fence that stops them.
      await load.waitForRefusal(old.name, pausedMs);
      const [lease] = await ask<{ fenced: boolean; remaining_ms: string; token: string }>(
        cluster,
        old.name,
        "SELECT fenced, remaining_ms, token FROM pg_replica.lease()",
      );
      assert.deepEqual(lease, { fenced: true, remaining_ms: "0", token: before.token });
      await assert.rejects(ask(cluster, old.name, `INSERT INTO ${load.table} (id) VALUES (-1)`), { code: "25006" });
      const { refused, acknowledged } = load.session(old.name);
      const firstRefusedMs = refused[0]?.sentMs ?? 0;
      assert(!acknowledged.some(({ sentMs }) => sentMs > firstRefusedMs), "once fenced, it acknowledges nothing");
      await load.waitForClient(pausedMs, old.name);
      const others = names(cluster).filter((name) => name !== old.name);
      expectOnePromotion(before, await standing(cluster, others));
      // Frozen for three lease times in all.
      await cluster.waitFor(
        "three lease times to pass",
        () => performance.now() - pausedMs >= 3 * failoverTimeoutMs,
        4 * failoverTimeoutMs,
      );
      assert.equal(old.agentPid(), pid);
      assert.equal(
        (await ask<{ fenced: boolean }>(cluster, old.name, "SELECT fenced FROM pg_replica.lease()"))[0]?.fenced,
        true,
      );
    } finally {
      old.resumeAgent();
    }
    await settle(load, "unreplicated");
    expectOnePromotion(before, await standing(cluster));
  },
);

/** Until the primary's session has written for longer than a lease can last without a renewal. */
async function outlastLeases(load: Load, primary: string): Promise<void> {
  const sinceMs = performance.now();
  await load.waitForSession(primary, sinceMs + 2 * failoverTimeoutMs);
}
