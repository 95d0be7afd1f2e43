import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { LocalServer } from "../../../src/postgres/types.js";
import { caughtUp, TestCluster, type TestServer, until } from "./servers.js";

const slotsSql = "SELECT slot_name, restart_lsn::text AS lsn, wal_status FROM pg_replication_slots ORDER BY 1";
interface SlotRow {
  slot_name: string;
  lsn: string | null;
  wal_status: string | null;
}

describe("member slots", () => {
  const cluster = new TestCluster();
  let primary: TestServer;
  let standby: TestServer;
  let onPrimary: LocalServer;
  let onStandby: LocalServer;
  before(async () => {
    primary = await cluster.primary(["max_slot_wal_keep_size=32MB"]);
    await primary.sql("CREATE TABLE t (i int)");
    standby = await cluster.standby("standby", primary);
    onPrimary = primary.local();
    onStandby = standby.local();
  });
  after(() => cluster.close());

  it("are made with their WAL reserved, on a standby too", async () => {
    await onStandby.maintainSlots([
      { slotName: "pg_replica_1", confirmedLsn: null },
      { slotName: "pg_replica_3", confirmedLsn: null },
    ]);
    const rows = await standby.sql<SlotRow>(slotsSql);
    assert.deepEqual(
      rows.map((row) => row.slot_name),
      ["pg_replica_1", "pg_replica_3"],
    );
    assert.ok(rows.every((row) => row.lsn !== null && row.wal_status === "reserved"));
  });

  it("advance to what the member confirmed, not beyond own replay, never backwards", async () => {
    await primary.sql("INSERT INTO t SELECT generate_series(1, 1000)");
    await caughtUp(primary, standby);
    const replay = await standby.value("SELECT pg_last_wal_replay_lsn()");
    await onStandby.maintainSlots([
      { slotName: "pg_replica_1", confirmedLsn: "0/2000100" },
      { slotName: "pg_replica_3", confirmedLsn: "FFFF/0" },
    ]);
    const advanced = await standby.sql<SlotRow>(slotsSql);
    assert.equal(advanced[1]?.lsn, replay);
    await onStandby.maintainSlots([
      { slotName: "pg_replica_1", confirmedLsn: null },
      { slotName: "pg_replica_3", confirmedLsn: "0/2000100" },
    ]);
    assert.deepEqual(await standby.sql<SlotRow>(slotsSql), advanced);
  });

  it("are dropped with their member, other slots are left alone", async () => {
    await standby.sql("SELECT pg_create_physical_replication_slot('backup_tool', true)");
    await onStandby.maintainSlots([{ slotName: "pg_replica_3", confirmedLsn: null }]);
    const rows = await standby.sql<SlotRow>(slotsSql);
    assert.deepEqual(
      rows.map((row) => row.slot_name),
      ["backup_tool", "pg_replica_3"],
    );
  });

  it("in use are neither dropped nor advanced", async () => {
    await onPrimary.maintainSlots([{ slotName: "pg_replica_2", confirmedLsn: null }]);
    const target = { token: { term: 1, index: 1 }, dsn: primary.dsn, applicationName: "b", slotName: "pg_replica_2" };
    await onStandby.follow(target);
    await until(
      "the slot is in use",
      async () =>
        (await primary.value("SELECT active FROM pg_replication_slots WHERE slot_name = 'pg_replica_2'")) === "true",
    );
    await onPrimary.maintainSlots([{ slotName: "pg_replica_2", confirmedLsn: "0/1000000" }]);
    await onPrimary.maintainSlots([]);
    assert.equal(await primary.value("SELECT count(*) FROM pg_replication_slots"), "1");
  });

  it("that lost their WAL are made anew", async () => {
    await onPrimary.maintainSlots([{ slotName: "pg_replica_9", confirmedLsn: null }]);
    for (let round = 0; round < 8; round += 1) {
      await primary.sql("INSERT INTO t SELECT generate_series(1, 1000)");
      await primary.sql("SELECT pg_switch_wal()");
    }
    await primary.sql("CHECKPOINT");
    const status = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'pg_replica_9'";
    assert.equal(await primary.value(status), "lost");
    await onPrimary.maintainSlots([{ slotName: "pg_replica_9", confirmedLsn: null }]);
    assert.equal(await primary.value(status), "reserved");
  });

  it("of a foreign kind are refused", async () => {
    await assert.rejects(onPrimary.maintainSlots([{ slotName: "else", confirmedLsn: null }]), { code: "SERVER_STATE" });
  });
});
