import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { stopServer, waitForShutdownCheckpoint } from "../../../src/postgres/postmaster.js";
import { caughtUp, TestCluster, type TestServer, until } from "./servers.js";

const member = (dsn: string, id: number) => ({
  token: { term: 1, index: id },
  dsn,
  applicationName: `pg_replica_${id}`,
  slotName: `pg_replica_${id}`,
});
const request = { waitLsn: null, waitMs: 0, deadlineMs: 10_000 };

describe("promotion after the death of the primary", () => {
  const cluster = new TestCluster();
  let primary: TestServer;
  let next: TestServer;
  let third: TestServer;
  before(async () => {
    primary = await cluster.primary();
    await primary.sql("CREATE TABLE t (i int)");
    next = await cluster.standby("next", primary);
    third = await cluster.standby("third", primary);
  });
  after(() => cluster.close());

  it("promotes at once, tells timeline and fork, and the other follows with a slot that was kept", async () => {
    const [nextLocal, thirdLocal] = [next.local(), third.local()];
    await nextLocal.maintainSlots([{ slotName: "pg_replica_3", confirmedLsn: null }]);
    await primary.sql("INSERT INTO t SELECT generate_series(1, 100)");
    await caughtUp(primary, next);
    await caughtUp(primary, third);
    await primary.killAll();
    // No pledge before: the race of the receiver's death with the request.
    const promotion = await nextLocal.promote(10_000);
    assert.equal(promotion.timeline, 2);
    assert.deepEqual(await nextLocal.promote(10_000), promotion, "asking again changes nothing");
    const seen = await nextLocal.observe();
    assert.equal(seen.inRecovery, false);
    assert.equal(seen.timeline, 2, "before any checkpoint");
    assert.ok(seen.writeLsn !== null && seen.flushLsn !== null);

    const pledged = await thirdLocal.pledge(request);
    assert.equal(pledged.timeline, 1);
    assert.equal(await next.value(`SELECT '${pledged.lsn}'::pg_lsn <= '${promotion.forkLsn}'`), "true");
    await next.sql("INSERT INTO t VALUES (101)");
    await thirdLocal.follow(member(next.dsn, 3));
    await until(
      "the row of the new timeline arrives",
      async () => (await third.value("SELECT count(*) FROM t")) === "101",
    );
    const follower = await thirdLocal.observe();
    assert.equal(follower.timeline, 2, "the timeline that is replayed");
    assert.equal(follower.receiver?.status, "streaming");
    assert.match(follower.primaryConninfo ?? "", /pg_replica_3/);
    await until("the primary knows the standby", async () =>
      (await nextLocal.observe()).standbys.some((s) => s.applicationName === "pg_replica_3" && s.state === "streaming"),
    );
    assert.equal((await thirdLocal.pledge(request)).timeline, 2);
  });

  it("does not configure again what is in force", async () => {
    const local = third.local();
    await local.follow(member(next.dsn, 3));
    await until("it streams", async () => (await local.observe()).receiver?.status === "streaming");
    const before = await third.value("SELECT modification FROM pg_stat_file('postgresql.auto.conf')");
    await local.follow(member(next.dsn, 3));
    assert.equal(await third.value("SELECT modification FROM pg_stat_file('postgresql.auto.conf')"), before);
  });

  it("gives up at its deadline when the server can not leave recovery", async () => {
    const startup = Number(await third.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'"));
    process.kill(startup, "SIGSTOP");
    try {
      await assert.rejects(third.local().promote(200), { code: "PROMOTION_NOT_DONE" });
    } finally {
      process.kill(startup, "SIGCONT");
    }
  });
});

describe("shutdown for a switchover", () => {
  const cluster = new TestCluster();
  after(() => cluster.close());

  it("gives exactly the position that a standby shows when it has replayed the shutdown checkpoint", async () => {
    const primary = await cluster.primary();
    const standby = await cluster.standby("standby", primary);
    await primary.local().checkpoint();
    await primary.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)");
    assert.equal(await stopServer(primary.pgdata, "fast"), true);
    const lsn = await waitForShutdownCheckpoint(primary.pgdata, 10_000);
    const result = await standby.local().pledge({ waitLsn: lsn, waitMs: 10_000, deadlineMs: 10_000 });
    assert.equal(result.lsn, lsn);
    assert.equal(result.timeline, 1);
    const promotion = await standby.local().promote(10_000);
    assert.equal(promotion.forkLsn, lsn);
  });

  it("says in which state the server is when the shutdown does not come", async () => {
    const [, standby] = cluster.servers;
    assert.ok(standby);
    await assert.rejects(waitForShutdownCheckpoint(standby.pgdata, 20), /not shut down as a primary.*state is "in/);
  });

  it("stops only the server that it means", async () => {
    const [primary, standby] = cluster.servers;
    assert.ok(primary && standby);
    await assert.rejects(stopServer(standby.pgdata, "immediate", 1), { code: "SERVER_PROCESS" });
    await until("the old primary is gone", async () => (await stopServer(primary.pgdata, "fast")) === false);
    assert.equal(await stopServer(standby.pgdata, "immediate", standby.postmasterPid), true);
  });
});
