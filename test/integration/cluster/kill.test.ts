// The primary's server, its whole host, and a standby's host are killed or frozen under load.
import assert from "node:assert/strict";
import { runFailoverRounds } from "../../../src/cli/demo-failover.js";
import { ask, expectOnePromotion, names, settle, standing } from "./checks.js";
import { freezeHost } from "./freeze.js";
import { failoverTimeoutMs, useCluster, watchLog } from "./scenario.js";

const { underLoad } = useCluster();

underLoad(
  "a killed primary is replaced, rewound without its unreplicated rows, there and back",
  async (cluster, load) => {
    const primaries: string[] = [];
    await runFailoverRounds(cluster, 2, ({ from, to }) => primaries.push(`${from} to ${to}`));
    assert.equal(primaries.length, 2);
    await settle(load, "unreplicated");
  },
);

underLoad("a primary whose whole host dies is replaced, and follows when the host returns", async (cluster, load) => {
  const before = await standing(cluster);
  const log = await watchLog(cluster, before.primary);
  await cluster.node(before.primary).killHost();
  await load.waitForClient(performance.now(), before.primary);
  const after = await standing(cluster);
  expectOnePromotion(before, after);
  cluster.node(before.primary).startHost();
  await settle(load, "unreplicated");
  assert.deepEqual(await standing(cluster), after, "the old primary's return changes nothing");
  assert.match(await log(), new RegExp(`following ${after.primary} under token`));
});

underLoad(
  "a standby whose whole host dies costs no write, and streams again when it returns",
  async (cluster, load) => {
    const before = await standing(cluster);
    const standby = cluster.nodes.find(({ name }) => name !== before.primary);
    assert(standby !== undefined);
    await standby.killHost();
    await load.waitForClient(performance.now(), undefined, 50);
    standby.startHost();
    await settle(load, "none");
    assert.deepEqual(await standing(cluster), before, "the primary stays");
    const { refused, indeterminate, breaks } = load.session(before.primary);
    assert.deepEqual({ refused, indeterminate, breaks }, { refused: [], indeterminate: [], breaks: 0 });
    assert.deepEqual(load.client.indeterminate, []);
  },
);

underLoad(
  "a primary whose whole host freezes acknowledges nothing when it goes on, and rejoins",
  async (cluster, load) => {
    const before = await standing(cluster);
    const others = names(cluster).filter((name) => name !== before.primary);
    const thaw = freezeHost(cluster.node(before.primary));
    let thawedMs = 0;
    try {
      const frozenMs = performance.now();
      await load.waitForClient(frozenMs, before.primary);
      expectOnePromotion(before, await standing(cluster, others));
      await cluster.waitFor(
        "three lease times to pass",
        () => performance.now() - frozenMs >= 3 * failoverTimeoutMs,
        4 * failoverTimeoutMs,
      );
    } finally {
      thawedMs = performance.now();
      thaw();
    }
    await cluster.waitFor(
      `${before.primary} to be a standby`,
      async () => {
        const [row] = await ask<{ standby: boolean }>(cluster, before.primary, "SELECT pg_is_in_recovery() AS standby");
        return row?.standby === true || "it is out of recovery";
      },
      60_000,
    );
    // The statement that was under way when the host froze is still answered then, but not with success.
    const late = load.session(before.primary).acknowledged.filter(({ ackedMs }) => ackedMs >= thawedMs);
    assert.deepEqual(late, []);
    await settle(load, "unreplicated");
    expectOnePromotion(before, await standing(cluster));
  },
);
