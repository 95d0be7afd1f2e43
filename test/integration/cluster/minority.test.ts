// Two of three hosts are gone: nobody writes, the one that is left says why, and one more is enough to go on.
import assert from "node:assert/strict";
import type { DemoCluster } from "../../../src/cli/demo-cluster.js";
import { ask, names, settle, standing } from "./checks.js";
import { pgReplica } from "./commands.js";
import { failoverTimeoutMs, useCluster } from "./scenario.js";

const { underLoad } = useCluster();

async function expectListSaysSo(cluster: DemoCluster, node: string): Promise<void> {
  await cluster.waitFor(
    `${node} to notice that it is alone`,
    async () => !(await cluster.node(node).view()).quorum || "it still counts on a majority",
    10 * failoverTimeoutMs,
  );
  const pretty = await pgReplica(cluster, node, "list");
  assert.equal(pretty.code, 0, pretty.err);
  assert.match(pretty.out, new RegExp(`No majority of the members is reached from ${node}`));
  const json = await pgReplica(cluster, node, "list", "-f", "json");
  assert.equal((JSON.parse(json.out) as { quorum: boolean }).quorum, false);
}

underLoad(
  "a primary that is left alone fences itself, and goes on as soon as one more node is back",
  async (cluster, load) => {
    const before = await standing(cluster);
    const [first, second] = names(cluster).filter((name) => name !== before.primary);
    assert(first !== undefined && second !== undefined);
    await Promise.all([first, second].map((name) => cluster.node(name).killHost()));
    const aloneMs = performance.now();
    await load.waitForRefusal(before.primary, aloneMs);
    const [lease] = await ask(cluster, before.primary, "SELECT fenced, remaining_ms FROM pg_replica.lease()");
    assert.deepEqual(lease, { fenced: true, remaining_ms: "0" });
    await expectListSaysSo(cluster, before.primary);
    const { acknowledged, refused } = load.session(before.primary);
    const fencedMs = refused.find(({ sentMs }) => sentMs >= aloneMs)?.sentMs ?? 0;
    assert(!acknowledged.some(({ sentMs }) => sentMs > fencedMs), "once fenced, it acknowledges nothing");
    const returnedMs = performance.now();
    cluster.node(first).startHost();
    await load.waitForClient(returnedMs);
    cluster.node(second).startHost();
    await settle(load, "none");
    assert.deepEqual(await standing(cluster), before, "the primary takes up its lease again");
  },
);

underLoad(
  "a standby that is left alone is not promoted, and one more node is enough to go on",
  async (cluster, load) => {
    const before = await standing(cluster);
    const [left, returning] = names(cluster).filter((name) => name !== before.primary);
    assert(left !== undefined && returning !== undefined);
    await Promise.all([before.primary, returning].map((name) => cluster.node(name).killHost()));
    const aloneMs = performance.now();
    await expectListSaysSo(cluster, left);
    // It has had all the time that a failover takes, and more.
    await cluster.waitFor(
      "three lease times to pass",
      () => performance.now() - aloneMs >= 3 * failoverTimeoutMs,
      4 * failoverTimeoutMs,
    );
    assert.deepEqual(await ask(cluster, left, "SELECT pg_is_in_recovery() AS standby"), [{ standby: true }]);
    assert.deepEqual(load.session(left).acknowledged, []);
    const returnedMs = performance.now();
    cluster.node(returning).startHost();
    await load.waitForClient(returnedMs);
    cluster.node(before.primary).startHost();
    await settle(load, "unreplicated");
  },
);
