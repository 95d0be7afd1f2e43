// A standby comes back after its primary has thrown away the WAL that it needs.
import assert from "node:assert/strict";
import { withClient } from "../../../src/cli/cluster-writer.js";
import { serverConfig } from "../../../src/cli/demo-failover.js";
import { ask, settle, standing } from "./checks.js";
import { useCluster, watchLog } from "./scenario.js";

const { underLoad } = useCluster({
  settings: { wal_keep_size: "0", max_slot_wal_keep_size: "1MB", min_wal_size: "32MB", max_wal_size: "64MB" },
});

underLoad(
  "a standby whose WAL is gone from the primary is rebuilt by itself and streams again",
  async (cluster, load) => {
    const before = await standing(cluster);
    const standby = cluster.nodes.find(({ name }) => name !== before.primary);
    assert(standby !== undefined);
    const [slot] = await ask<{ name: string }>(
      cluster,
      standby.name,
      "SELECT slot_name AS name FROM pg_stat_wal_receiver",
    );
    await standby.killHost();
    await withClient(serverConfig(cluster, cluster.node(before.primary)), (client) =>
      cluster.waitFor(
        `the slot ${slot?.name} to lose its WAL`,
        async () => {
          await client.query("SELECT pg_switch_wal()");
          await client.query("CHECKPOINT");
          const { rows } = await client.query<{ wal_status: string }>(
            "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1",
            [slot?.name],
          );
          return rows.length === 0 || rows[0]?.wal_status === "lost" || `its WAL is ${rows[0]?.wal_status}`;
        },
        60_000,
      ),
    );
    const log = await watchLog(cluster, standby.name);
    standby.startHost();
    await settle(load, "none");
    assert.deepEqual(await standing(cluster), before, "the primary stays");
    assert.match(await log(), new RegExp(`^rebuilt from ${before.primary}`, "m"));
  },
);
