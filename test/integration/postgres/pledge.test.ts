import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { LocalServer } from "../../../src/postgres/types.js";
import { withLibrary } from "./library.js";
import { caughtUp, childPids, TestCluster, type TestServer, until } from "./servers.js";

const request = { waitLsn: null, waitMs: 0, deadlineMs: 10_000 };

async function receivers(server: TestServer): Promise<string> {
  return server.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walreceiver'");
}

/** What was not received by the time of the pledge is lost to this standby, so the test waits for it first. */
async function received(standby: TestServer, lsn: string): Promise<void> {
  await until(
    `the standby has received ${lsn}`,
    async () => (await standby.value(`SELECT pg_last_wal_receive_lsn() >= '${lsn}'`)) === "true",
  );
}

/** Writes on the primary and sees that the pledged standby gets none of it. */
async function assertStaysStill(primary: TestServer, standby: TestServer, lsn: string): Promise<void> {
  await primary.sql("INSERT INTO t SELECT generate_series(1, 1000)");
  for (let look = 0; look < 30; look += 1) {
    assert.equal(await receivers(standby), "0", "the receiver came back");
    assert.equal(await standby.value("SELECT pg_last_wal_replay_lsn()"), lsn, "the position moved after the pledge");
    await standby.sql("SELECT pg_sleep(0.01)");
  }
}

for (const kind of ["plain server", "server with the library"] as const) {
  describe(`pledge on a ${kind}`, () => {
    const cluster = new TestCluster();
    let primary: TestServer;
    let standby: TestServer;
    let local: LocalServer;
    const settings = kind === "plain server" ? [] : withLibrary("b", cluster);

    before(async () => {
      primary = await cluster.primary();
      await primary.sql("CREATE TABLE t (i int)");
      if (kind !== "plain server") await primary.sql("CREATE EXTENSION pg_replica");
      await primary.sql("SELECT pg_create_physical_replication_slot('pg_replica_2', true)");
      standby = await cluster.standby("standby", primary, settings);
      local = standby.local();
    });
    after(() => cluster.close());

    /** Brings the standby back to streaming, through `follow` as the agent does. */
    async function follow(): Promise<void> {
      await local.follow({
        token: { term: 1, index: 1 },
        dsn: primary.dsn,
        applicationName: "pg_replica_2",
        slotName: "pg_replica_2",
      });
      await until("the standby streams", async () => (await local.observe()).receiver?.status === "streaming");
      await primary.sql("INSERT INTO t VALUES (0)");
      await caughtUp(primary, standby);
    }

    it("ends a running receiver for good and reports where replay stands", async () => {
      await follow();
      const result = await local.pledge(request);
      assert.equal(result.timeline, 1);
      assert.equal(result.markerToken, null);
      assert.ok(result.lastPrimaryLsn !== null);
      await assertStaysStill(primary, standby, result.lsn);
      const seen = await local.observe();
      assert.equal(seen.replayDone, true);
      assert.equal(seen.receiver, null);
      assert.equal(seen.primaryConninfo, "");
      assert.equal(seen.primarySlotName, "pg_replica_2", "its own slot, whoever the next primary is");
    });

    it("is idempotent", async () => {
      const first = await local.pledge(request);
      const second = await local.pledge(request);
      assert.equal(second.lsn, first.lsn);
    });

    it("waits for a position first, and goes on when it does not come", async () => {
      await follow();
      await primary.sql("INSERT INTO t SELECT generate_series(1, 20000)");
      const lsn = await primary.value("SELECT pg_current_wal_flush_lsn()");
      const result = await local.pledge({ ...request, waitLsn: lsn, waitMs: 10_000 });
      assert.equal(await standby.value(`SELECT '${result.lsn}'::pg_lsn >= '${lsn}'`), "true");
      const late = await local.pledge({ ...request, waitLsn: "FFFF/0", waitMs: 50 });
      assert.equal(late.lsn, result.lsn);
    });

    it("resumes paused replay and reports everything that was received", async () => {
      await follow();
      await standby.sql("SELECT pg_wal_replay_pause()");
      await until(
        "replay is paused",
        async () => (await standby.value("SELECT pg_get_wal_replay_pause_state()")) === "paused",
      );
      assert.equal((await local.observe()).replayPaused, true);
      await primary.sql("INSERT INTO t SELECT generate_series(1, 5000)");
      const lsn = await primary.value("SELECT pg_current_wal_flush_lsn()");
      await received(standby, lsn);
      const result = await local.pledge(request);
      assert.equal(await standby.value(`SELECT '${result.lsn}'::pg_lsn >= '${lsn}'`), "true");
      await assertStaysStill(primary, standby, result.lsn);
    });

    it("ends readers that block replay", async () => {
      await follow();
      await primary.sql("CREATE TABLE IF NOT EXISTS gone (i int); INSERT INTO gone SELECT generate_series(1, 1000)");
      await caughtUp(primary, standby);
      const reader = await standby.client();
      await reader.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
      await reader.query("SELECT count(*) FROM gone");
      await primary.sql("DELETE FROM gone");
      await primary.sql("VACUUM gone");
      // What VACUUM leaves flushed may end inside a record, which no standby can replay; a commit ends a record.
      await primary.sql("INSERT INTO t VALUES (2)");
      const lsn = await primary.value("SELECT pg_current_wal_flush_lsn()");
      await received(standby, lsn);
      await until("replay is blocked", async () =>
        /^RecoveryConflict|^relation$/.test(
          await standby.value("SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'"),
        ),
      );
      const result = await local.pledge(request);
      assert.equal(await standby.value(`SELECT '${result.lsn}'::pg_lsn >= '${lsn}'`), "true");
      await assert.rejects(reader.query("SELECT 1"));
      await assertStaysStill(primary, standby, result.lsn);
    });

    it("does not wait out an apply delay, and leaves the operator's setting as it was", async () => {
      await follow();
      await standby.sql("ALTER SYSTEM SET recovery_min_apply_delay = '5min'");
      await standby.sql("SELECT pg_reload_conf()");
      await until("the delay is read", async () => (await standby.value("SHOW recovery_min_apply_delay")) === "5min");
      await primary.sql("INSERT INTO t VALUES (1)");
      const lsn = await primary.value("SELECT pg_current_wal_flush_lsn()");
      await received(standby, lsn);
      await until(
        "the commit waits for the delay",
        async () =>
          (await standby.value("SELECT wait_event FROM pg_stat_activity WHERE backend_type = 'startup'")) ===
          "RecoveryApplyDelay",
      );
      const result = await local.pledge(request);
      assert.equal(await standby.value(`SELECT '${result.lsn}'::pg_lsn >= '${lsn}'`), "true");
      await until("the delay is back", async () => (await standby.value("SHOW recovery_min_apply_delay")) === "5min");
      await standby.sql("ALTER SYSTEM RESET recovery_min_apply_delay");
      await standby.sql("SELECT pg_reload_conf()");
    });

    it("counts when the received WAL ends inside a record", async () => {
      await follow();
      // The end of a record that is longer than what a receiver writes at once may be missing for ever.
      const writer = await primary.client();
      const writing = writer.query(
        "DO $$ BEGIN FOR n IN 1..40 LOOP PERFORM pg_logical_emit_message(false, 'x', repeat('y', 900000)); END LOOP; END $$",
      );
      const result = await local.pledge(request);
      await writing;
      await assertStaysStill(primary, standby, result.lsn);
    });

    it("fails with what is missing when the startup process does not answer", async () => {
      await follow();
      const startup = await standby.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'");
      process.kill(Number(startup), "SIGSTOP");
      try {
        await assert.rejects(local.pledge({ ...request, deadlineMs: 600 }), (error: Error & { code?: string }) => {
          assert.equal(error.code, "PLEDGE_NOT_PROVEN");
          assert.match(
            error.message,
            kind === "plain server" ? /replay is not finished/ : /startup process has not read/,
          );
          return true;
        });
      } finally {
        process.kill(Number(startup), "SIGCONT");
      }
      assert.ok(childPids(standby.postmasterPid).length > 0);
      await local.pledge(request);
    });

    it("is refused on a primary", async () => {
      await assert.rejects(primary.local().pledge(request), { code: "SERVER_STATE" });
    });
  });
}
