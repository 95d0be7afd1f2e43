import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type pg from "pg";
import { Server, until } from "./server.js";

const readOnly = { code: "25006" };

async function show(client: pg.Client, name: string): Promise<unknown> {
  const result = await client.query({ text: `SHOW ${name}`, rowMode: "array" });
  return result.rows[0]?.[0];
}

describe("fence: a promoted server without a lease", () => {
  let server: Server;
  let client: pg.Client;

  before(async () => {
    server = await (await Server.create()).start();
    await server.makeWritable();
    await server.value("CREATE TABLE t (a int)");
    await server.value("CREATE SEQUENCE s");
    await server.value("INSERT INTO t VALUES (1)");
    await server.value("CREATE EXTENSION pg_replica");
    await server.ask({ type: "expire" });
    client = await server.connect();
  });
  after(() => server.destroy());

  for (const statement of [
    "INSERT INTO t VALUES (2)",
    "UPDATE t SET a = 3",
    "DELETE FROM t",
    "WITH x AS (INSERT INTO t VALUES (2) RETURNING a) SELECT * FROM x",
    "COPY t FROM PROGRAM 'echo 7'",
    "CREATE TABLE u (a int)",
    "CREATE TEMP TABLE u (a int)",
    "CREATE TABLE u AS SELECT 1",
    "CREATE DATABASE d",
    "CREATE ROLE r",
    "DROP TABLE t",
    "TRUNCATE t",
    "SELECT nextval('s')",
    "SELECT setval('s', 10)",
    "SELECT * FROM t FOR UPDATE",
    "EXPLAIN ANALYZE INSERT INTO t VALUES (2)",
    "DO $$ BEGIN INSERT INTO t VALUES (2); END $$",
    "DO $$ BEGIN PERFORM nextval('s'); END $$",
    "SELECT lo_create(0)",
    "SELECT txid_current()",
    "VACUUM FULL t",
    "NOTIFY channel",
    "ALTER SYSTEM SET work_mem = '5MB'",
    "COMMIT PREPARED 'none'",
    "ROLLBACK PREPARED 'none'",
    "BEGIN; SET TRANSACTION READ WRITE; INSERT INTO t VALUES (2); COMMIT",
    "SET default_transaction_read_only = off; INSERT INTO t VALUES (2)",
  ]) {
    it(`refuses: ${statement}`, async () => {
      await assert.rejects(client.query(statement), readOnly);
      await client.query("ROLLBACK");
    });
  }

  it("says why in DETAIL and where to go in HINT", async () => {
    await assert.rejects(client.query("INSERT INTO t VALUES (2)"), {
      code: "25006",
      detail: /no valid lease/,
      hint: /primary/,
    });
  });

  it("answers reads", async () => {
    const { rows } = await client.query("SELECT a FROM t");
    assert.deepEqual(rows, [{ a: 1 }]);
  });

  it("makes new sessions report read-only, so that target_session_attrs=read-write skips the node", async () => {
    const fresh = await server.connect();
    assert.equal(await show(fresh, "default_transaction_read_only"), "on");
    assert.equal(await show(fresh, "transaction_read_only"), "on");
  });

  it("shows the expired lease, and the session as fenced", async () => {
    const { rows } = await client.query("SELECT * FROM pg_replica.lease()");
    assert.deepEqual(rows, [{ token: "1.1", remaining_ms: "0", open: false, fenced: true }]);
  });

  it("still refuses after a renewal until the lease is opened, and names that state", async () => {
    await server.renew("1.1", 60_000);
    await assert.rejects(client.query("INSERT INTO t VALUES (2)"), { code: "25006", detail: /not open/ });
  });

  it("lets the marker session write before the lease is open, and nobody with another key", async () => {
    const marker = await server.connect();
    await marker.query(`SET pg_replica.marker_key = '${await server.markerKey()}'`);
    await marker.query("INSERT INTO t VALUES (100)");
    const other = await server.connect();
    await other.query(`SET pg_replica.marker_key = '${"0".repeat(64)}'`);
    await assert.rejects(other.query("INSERT INTO t VALUES (101)"), readOnly);
  });

  it("lets sessions that began fenced write once the lease is open", async () => {
    const early = await server.connect();
    assert.equal(await show(early, "transaction_read_only"), "on");
    await server.ask({ type: "open", token: "1.1" });
    await early.query("INSERT INTO t VALUES (4)");
    assert.equal(await show(early, "transaction_read_only"), "off");
    assert.equal(await show(early, "default_transaction_read_only"), "off");
    await client.query("INSERT INTO t VALUES (5)");
  });

  it("refuses the commit of a transaction whose lease ended in the middle", async () => {
    const before = await server.value("SELECT count(*) FROM t");
    await client.query("BEGIN");
    await client.query("INSERT INTO t VALUES (6)");
    await server.ask({ type: "expire" });
    await assert.rejects(client.query("COMMIT"), readOnly);
    assert.equal(await server.value("SELECT count(*) FROM t"), before);
  });

  it("refuses PREPARE TRANSACTION and COMMIT PREPARED when the lease ended", async () => {
    await server.renew("1.1", 60_000);
    await server.ask({ type: "open", token: "1.1" });
    await client.query("BEGIN; INSERT INTO t VALUES (7); PREPARE TRANSACTION 'p'");
    await client.query("BEGIN; INSERT INTO t VALUES (8)");
    await server.ask({ type: "expire" });
    await assert.rejects(client.query("PREPARE TRANSACTION 'q'"), readOnly);
    await assert.rejects(client.query("COMMIT PREPARED 'p'"), readOnly);
    await server.renew("1.1", 60_000);
    await server.ask({ type: "open", token: "1.1" });
    await client.query("COMMIT PREPARED 'p'");
    await server.ask({ type: "expire" });
  });

  it("closes the marker session at the deadline as well, but lets it configure the server", async () => {
    const marker = await server.connect();
    await marker.query(`SET pg_replica.marker_key = '${await server.markerKey()}'`);
    await assert.rejects(marker.query("INSERT INTO t VALUES (102)"), readOnly);
    await marker.query("ALTER SYSTEM SET work_mem = '5MB'");
  });

  it("stops writes by the clock alone, with the agent and the supervisor frozen", async () => {
    await server.renew("1.1", 1500);
    await server.ask({ type: "open", token: "1.1" });
    const agent = server.messages("started").at(-1)?.pid as number;
    const supervisor = Number(await server.value(`SELECT pg_read_file('/proc/${agent}/stat')`).then(parentOf));
    process.kill(agent, "SIGSTOP");
    process.kill(supervisor, "SIGSTOP");
    try {
      let last: unknown;
      let count = 0;
      await assert.rejects(async () => {
        for (;;) {
          await client.query("INSERT INTO t VALUES (9)");
          last = ++count;
        }
      }, readOnly);
      assert.notEqual(last, undefined);
    } finally {
      process.kill(supervisor, "SIGCONT");
      process.kill(agent, "SIGCONT");
    }
  });
});

function parentOf(stat: unknown): string {
  const text = String(stat);
  return text.slice(text.lastIndexOf(")") + 2).split(" ")[1] ?? "";
}

describe("fence: between a commit and its answer", () => {
  let server: Server;
  before(async () => {
    server = await (await Server.create()).start();
    await server.makeWritable();
    await server.value("CREATE TABLE t (a int)");
    for (const name of ["p", "q"]) {
      const client = await server.connect();
      await client.query(`BEGIN; INSERT INTO t VALUES (0); PREPARE TRANSACTION '${name}'`);
    }
    // A synchronous standby that does not exist keeps a commit between its check and its answer.
    await server.value("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    await server.value("SELECT pg_reload_conf()");
    await until("synchronous_standby_names in force", () => server.log().includes("nobody"));
  });
  after(() => server.destroy());

  for (const statement of [
    "INSERT INTO t VALUES (1)",
    "BEGIN; INSERT INTO t VALUES (1); COMMIT; SELECT 1",
    "DO $$ BEGIN INSERT INTO t VALUES (1); COMMIT; END $$",
    "BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'r'",
    "COMMIT PREPARED 'p'",
    "ROLLBACK PREPARED 'q'",
  ]) {
    it(`closes the connection when the lease ends there, instead of saying success: ${statement}`, async () => {
      await server.renew("1.1", 60_000);
      await server.ask({ type: "open", token: "1.1" });
      const client = await server.connect();
      const observer = await server.connect();
      const answer = client.query(statement).then(
        () => "acknowledged",
        (error: Error & { code?: string }) => error.code ?? "closed",
      );
      const waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
      while ((await observer.query(waiting)).rows.length === 0);
      await server.ask({ type: "expire" });
      await observer.query(`SELECT pg_cancel_backend(pid) FROM (${waiting}) AS w`);
      const complaints = (): number => (server.log().match(/the lease ended during a commit/g) ?? []).length;
      assert.equal(await answer, "closed");
      assert.ok(complaints() > 0);
    });
  }
});

describe("fence: switched off", () => {
  it("enabled = off leaves plain PostgreSQL: no fence, no worker, no forced settings", async () => {
    const server = await (await Server.create({ "pg_replica.enabled": "off", "pg_replica.node_id": null })).start();
    try {
      await server.value("CREATE TABLE t (a int)");
      assert.equal(await server.value("SHOW restart_after_crash"), "on");
      assert.equal(await server.value("SHOW wal_log_hints"), "off");
      assert.equal(server.has("standby.signal"), false);
      assert.deepEqual(server.messages(), []);
      await server.value("CREATE EXTENSION pg_replica");
      assert.equal(await server.value("SELECT fenced FROM pg_replica.lease()"), false);
      await assert.rejects(server.value("SELECT * FROM pg_replica.status()"), { code: "55000" });
    } finally {
      await server.destroy();
    }
  });
});
