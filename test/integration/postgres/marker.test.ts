import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { LocalServer } from "../../../src/postgres/types.js";
import { markerKeyOf, withLibrary } from "./library.js";
import { caughtUp, TestCluster, type TestServer, until } from "./servers.js";

const marker = { parent: null, node: "a" };

describe("marker of a promotion", () => {
  const cluster = new TestCluster();
  let server: TestServer;
  let local: LocalServer;
  let key: string;

  before(async () => {
    server = await cluster.primary(withLibrary("a", cluster));
    key = await markerKeyOf(cluster);
    local = server.local({}, key);
  });
  after(() => cluster.close());

  it("is written while the server is closed to everybody else", async () => {
    assert.equal((await local.observe()).inRecovery, true, "every start is a standby start");
    assert.equal((await local.pledge({ waitLsn: null, waitMs: 0, deadlineMs: 10_000 })).markerToken, null);
    await local.promote(10_000);
    const lsn = await local.writeMarker({ ...marker, token: { term: 1, index: 1 }, markerKey: key });
    assert.equal(await server.value(`SELECT pg_current_wal_flush_lsn() >= '${lsn}'`), "true");
    assert.deepEqual((await local.observe()).markerToken, { term: 1, index: 1 });
    await assert.rejects(server.sql("CREATE TABLE t (i int)"), { code: "25006" });
    assert.equal(await server.value("SELECT node FROM pg_replica.token"), "a");
  });

  it("replaces an older one, names its parent, and never goes back", async () => {
    const parent = { term: 1, index: 1 };
    await local.writeMarker({ ...marker, parent, token: { term: 2, index: 7 }, markerKey: key });
    await local.writeMarker({ ...marker, parent, token: { term: 2, index: 7 }, markerKey: key });
    assert.equal(await server.value("SELECT parent_term || '.' || parent_index FROM pg_replica.token"), "1.1");
    const older = local.writeMarker({ ...marker, token: { term: 2, index: 6 }, markerKey: key });
    await assert.rejects(older, { code: "MARKER_OUTDATED" });
    assert.deepEqual((await local.observe()).markerToken, { term: 2, index: 7 });
  });

  it("needs the key", async () => {
    const wrong = server.local({}, "0".repeat(key.length));
    const written = wrong.writeMarker({ ...marker, token: { term: 3, index: 1 }, markerKey: "0".repeat(key.length) });
    await assert.rejects(written, { code: "SERVER_STATEMENT", sqlState: "25006" });
  });

  it("keeps the key out of statements that others can see", async () => {
    const seen = await server.value(
      `SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%${key}%' AND pid <> pg_backend_pid()`,
    );
    assert.equal(seen, "0");
    assert.ok(!server.logLines.join("").includes(key));
  });

  it("reaches a standby, which reports it in its pledge", async () => {
    await local.maintainSlots([{ slotName: "pg_replica_2", confirmedLsn: null }]);
    const standby = await cluster.standby("standby", server);
    await caughtUp(server, standby);
    const result = await standby.local().pledge({ waitLsn: null, waitMs: 0, deadlineMs: 10_000 });
    assert.deepEqual(result.markerToken, { term: 2, index: 7 });
    assert.equal(result.timeline, 2);
  });

  it("lets the commit probe through once the server is open, and not past the lease", async () => {
    await local.probeCommit(key);
    writeFileSync(join(cluster.directory, "open"), "");
    await until("ordinary sessions may write", () =>
      server.sql("CREATE TABLE IF NOT EXISTS t (i int)").then(
        () => true,
        () => false,
      ),
    );
    writeFileSync(join(cluster.directory, "expire"), "");
    await until("the lease has ended", () =>
      local.probeCommit(key).then(
        () => false,
        (error: { sqlState?: string }) => error.sqlState === "25006",
      ),
    );
    assert.equal((await local.observe()).reachable, true, "reads still work");
    await assert.rejects(local.writeMarker({ ...marker, token: { term: 4, index: 1 }, markerKey: key }), {
      sqlState: "25006",
    });
    await local.maintainSlots([{ slotName: "pg_replica_2", confirmedLsn: null }]);
  });
});
