// Planned switchovers under load, by SQL and by the command line, and what is refused.
import assert from "node:assert/strict";
import type { DemoCluster } from "../../../src/cli/demo-cluster.js";
import { ask, expectOnePromotion, names, type Standing, settle, standing } from "./checks.js";
import { pgReplica } from "./commands.js";
import type { Load } from "./load.js";
import { useCluster, watchLog } from "./scenario.js";

const { scenario, underLoad } = useCluster();

async function switchOver(
  cluster: DemoCluster,
  load: Load,
  start: (before: Standing) => Promise<unknown>,
): Promise<Standing> {
  const before = await standing(cluster);
  const log = await watchLog(cluster, before.primary);
  const sinceMs = performance.now();
  await start(before);
  await load.waitForClient(sinceMs, before.primary);
  await settle(load, "none");
  const after = await standing(cluster);
  expectOnePromotion(before, after);
  const said = await log();
  assert.match(said, new RegExp(`following ${after.primary} under token`));
  assert.doesNotMatch(said, /rewound|rebuilt|rejoin: /, "the old primary follows as it is");
  return after;
}

function standbyOf(cluster: DemoCluster, { primary }: Standing): string {
  const standby = names(cluster).find((name) => name !== primary);
  assert(standby !== undefined);
  return standby;
}

underLoad("a switchover by SQL on the primary goes to the named node and loses nothing", async (cluster, load) => {
  const after = await switchOver(cluster, load, async ({ primary }) => {
    const rows = await ask(cluster, primary, "SELECT pg_replica.failover('b')");
    assert.deepEqual(rows, [{ failover: "switchover from a to b started" }]);
  });
  assert.equal(after.primary, "b");
});

underLoad(
  "a switchover by SQL on a standby, without a target, goes to a standby and loses nothing",
  async (cluster, load) => {
    await switchOver(cluster, load, (before) =>
      ask(cluster, standbyOf(cluster, before), "SELECT pg_replica.failover()"),
    );
  },
);

underLoad(
  "a switchover by the command line ends when the candidate is open, and loses nothing",
  async (cluster, load) => {
    const { primary } = await standing(cluster);
    const candidate = names(cluster).findLast((name) => name !== primary) ?? "";
    const after = await switchOver(cluster, load, async (before) => {
      const ran = await pgReplica(cluster, before.primary, "switchover", "--candidate", candidate, "--yes");
      assert.equal(ran.code, 0, ran.err);
      assert.match(ran.out, new RegExp(`${candidate} is the primary \\(token `));
    });
    assert.equal(after.primary, candidate);
  },
);

scenario("a switchover to an unknown node or to the primary itself is refused and changes nothing", async (cluster) => {
  const before = await standing(cluster);
  const standby = standbyOf(cluster, before);
  const refusals: Array<[string, RegExp]> = [
    ["nobody", /there is no node "nobody"/],
    [before.primary, new RegExp(`${before.primary} is the primary already`)],
  ];
  for (const [target, message] of refusals) {
    for (const node of [before.primary, standby]) {
      const refused = ask(cluster, node, `SELECT pg_replica.failover('${target}')`);
      await assert.rejects(refused, (error: { code?: string; message: string }) => {
        assert.match(error.message, message);
        assert.equal(error.code, "22023");
        return true;
      });
      const ran = await pgReplica(cluster, node, "switchover", "--candidate", target, "--yes");
      assert.notEqual(ran.code, 0);
      assert.match(ran.err, message);
    }
  }
  const unconfirmed = await pgReplica(cluster, standby, "switchover", "--candidate", standby);
  assert.notEqual(unconfirmed.code, 0, "without a terminal and without --yes nothing is done");
  const dry = await pgReplica(cluster, standby, "switchover", "--candidate", standby, "--dry-run");
  assert.equal(dry.code, 0);
  assert.match(dry.out, new RegExp(`would do: switchover from ${before.primary} to ${standby}`));
  assert.deepEqual(await standing(cluster), before);
});
