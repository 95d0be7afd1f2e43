import assert from "node:assert/strict";
import { appendFileSync, cpSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { asPostgres, installed, Server, until } from "./server.js";

/** Runs `body` on a fresh server that is not started yet. */
async function withServer(settings: Record<string, string | null>, body: (server: Server) => Promise<void>) {
  const server = await Server.create(settings);
  try {
    await body(server);
  } finally {
    await server.destroy();
  }
}

describe("start: every start is a standby start", () => {
  it("forces recovery, and again after a promotion", () =>
    withServer({}, async (server) => {
      await server.start();
      assert.equal(server.has("standby.signal"), true);
      assert.equal(await server.value("SELECT pg_is_in_recovery()"), true);
      await server.promote();
      assert.equal(server.has("standby.signal"), false);
      await server.stop("immediate");
      await server.start();
      assert.equal(await server.value("SELECT pg_is_in_recovery()"), true);
    }));

  it("forces its settings over files, ALTER SYSTEM and the command line", () =>
    withServer({ restart_after_crash: "on", hot_standby: "off" }, async (server) => {
      await server.start(["-c", "wal_retrieve_retry_interval=5s", "-c", "wal_log_hints=off"]);
      await server.value("ALTER SYSTEM SET restart_after_crash = on");
      await server.value("SELECT pg_reload_conf()");
      await until("the reload", () => server.log().includes("reloading configuration files"));
      for (const [name, value] of [
        ["restart_after_crash", "off"],
        ["hot_standby", "on"],
        ["wal_log_hints", "on"],
        ["wal_retrieve_retry_interval", "100ms"],
      ]) {
        assert.equal(await server.value(`SHOW ${name}`), value, name);
        assert.equal(await server.value(`SELECT source FROM pg_settings WHERE name = '${name}'`), "override", name);
      }
    }));

  it("ends the server after a crash of a backend, instead of restarting it writable", () =>
    withServer({}, async (server) => {
      await (await server.start()).promote();
      const postmaster = server.postmasterPid();
      const checkpointer = await server.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
      process.kill(checkpointer as number, "SIGKILL");
      await until("the end of the postmaster", () => !existsSync(`/proc/${postmaster}`));
    }));

  it("starts without an upstream, keeps the rest of postgresql.auto.conf, and takes a new one by reload", () =>
    withServer({ primary_conninfo: "host=in_postgresql_conf" }, async (server) => {
      server.write(
        "postgresql.auto.conf",
        [
          "# kept",
          "primary_conninfo = 'host=one'",
          "  PRIMARY_CONNINFO='host=two'",
          "primary_slot_name = 'slot'",
          "primary_conninfo_like.thing = 'kept'",
          "restore_command = 'false'",
          "work_mem = '7MB'",
        ].join("\n"),
      );
      await server.start();
      assert.equal(
        server.read("postgresql.auto.conf"),
        "# kept\nprimary_conninfo_like.thing = 'kept'\nrestore_command = 'false'\nwork_mem = '7MB'\nprimary_conninfo = ''\n",
      );
      assert.equal(await server.value("SHOW primary_conninfo"), "");
      assert.equal(await server.value("SHOW primary_slot_name"), "");
      assert.equal(await server.value("SHOW work_mem"), "7MB");
      await server.value("ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'");
      await server.value("ALTER SYSTEM SET primary_slot_name = 'new'");
      await server.value("SELECT pg_reload_conf()");
      // The startup process takes it too: a receiver tries to connect there.
      await until("a connection attempt to the new upstream", () => server.log().includes("/nowhere/"));
      assert.equal(await server.value("SHOW primary_conninfo"), "host=/nowhere");
      assert.equal(await server.value("SHOW primary_slot_name"), "new");
    }));

  it("does not fill the log while there is no upstream", () =>
    withServer({}, async (server) => {
      await server.start();
      await server.value("ALTER SYSTEM SET primary_conninfo = 'host=/nowhere'");
      await server.value("SELECT pg_reload_conf()");
      const attempts = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'RecoveryRetrieveRetryInterval'";
      await until("a connection attempt", () => server.log().includes("/nowhere/"));
      // Many turns of the loop are seen to have begun a wait; each would have written its line.
      const client = await server.connect();
      let waits = 0;
      for (let waiting = false; waits < 10; ) {
        const now = (await client.query(attempts)).rows[0].count === "1";
        if (now && !waiting) waits++;
        waiting = now;
      }
      assert.ok((server.log().match(/\/nowhere\//g) ?? []).length <= 3);
      assert.ok((server.log().match(/waiting for WAL to become available/g) ?? []).length <= 3);
    }));

  it("lets the startup process acknowledge a reload", () =>
    withServer({}, async (server) => {
      await server.start();
      await server.makeWritable();
      await server.value("CREATE EXTENSION pg_replica");
      await server.stop();
      await server.start();
      const generation = "SELECT pg_replica.startup_generation()";
      assert.equal(await server.value(generation), 0);
      await server.value("ALTER SYSTEM SET pg_replica.reload_generation = 41");
      await server.value("SELECT pg_reload_conf()");
      const client = await server.connect();
      const deadline = performance.now() + 20_000;
      let seen: unknown;
      while (seen !== 41 && performance.now() < deadline) {
        seen = (await client.query({ text: generation, rowMode: "array" })).rows[0]?.[0];
      }
      assert.equal(seen, 41);
      assert.doesNotMatch(server.log(), /removed from configuration file/);
    }));
});

describe("start: refused", () => {
  for (const name of ["rejoin.json", "rejoin.phase"]) {
    it(`while ${name} says that a rejoin is pending, naming the command to run`, () =>
      withServer({}, async (server) => {
        server.write(`pg_replica/${name}`, "{}");
        assert.notEqual(await server.tryStart(), 0);
        assert.match(server.log(), /FATAL: .*must rejoin/);
        assert.match(server.log(), /HINT: .*pg_replica prepare -D/);
        assert.equal(server.has("standby.signal"), false);
      }));
  }

  it("without a node name", () =>
    withServer({ "pg_replica.node_id": null }, async (server) => {
      assert.notEqual(await server.tryStart(), 0);
      assert.match(server.log(), /FATAL: .*no name/);
      assert.match(server.log(), /HINT: .*pg_replica\.node_id/);
    }));

  it("with primary_conninfo on the command line", () =>
    withServer({}, async (server) => {
      assert.notEqual(await server.tryStart(["-c", "primary_conninfo=host=x"]), 0);
      assert.match(server.log(), /FATAL: .*primary_conninfo must not be set on the server's command line/);
    }));

  it("with the socket directory inside the data directory", () =>
    withServer({}, async (server) => {
      server.configure("unix_socket_directories", server.data);
      assert.notEqual(await server.tryStart(), 0);
      assert.match(server.log(), /FATAL: .*no place for the agent's local socket/);
    }));

  it("with a bad value in postgresql.conf, instead of taking the default", () =>
    withServer({ "pg_replica.peers": "a=h:1,a=h:2" }, async (server) => {
      assert.notEqual(await server.tryStart(), 0);
      assert.match(server.log(), /FATAL: .*invalid value for parameter "pg_replica.peers"/);
      assert.match(server.log(), /DETAIL: .*"a" stands there twice/);
    }));

  it("with a number out of range in postgresql.conf", () =>
    withServer({ "pg_replica.raft_port": "70000" }, async (server) => {
      assert.notEqual(await server.tryStart(), 0);
      assert.match(server.log(), /FATAL: .*70000 is outside the valid range/);
    }));
});

describe("start: whatever is not a server start is left alone", () => {
  it("postgres -C, also for a setting computed at run time", () =>
    withServer({ primary_conninfo: "host=x" }, async (server) => {
      const conf = server.read("postgresql.auto.conf");
      for (const args of [["-C", "shared_memory_size"], ["-Cshared_memory_size"], ["-C", "primary_conninfo"]]) {
        const done = await asPostgres("postgres", ["-D", server.data, ...args]);
        assert.equal(done.code, 0, done.stderr);
        assert.match(done.stdout, /^(\d+|host=x)$/m);
      }
      assert.equal(server.has("standby.signal"), false);
      assert.equal(server.read("postgresql.auto.conf"), conf);
    }));

  it("postgres --single", () =>
    withServer({ "pg_replica.node_id": null }, async (server) => {
      const postgres = join(installed("--bindir"), "postgres");
      const script = 'echo "CREATE TABLE t (a int)" | "$0" --single -D "$1" postgres';
      const done = await asPostgres("/bin/sh", ["-c", script, postgres, server.data]);
      assert.equal(done.code, 0, done.stderr);
      assert.doesNotMatch(done.stderr + done.stdout, /ERROR|FATAL/);
      assert.equal(server.has("standby.signal"), false);
    }));

  it("initdb with the library preloaded by its settings", () =>
    withServer({}, async (server) => {
      const target = join(server.folder, "fresh");
      const share = join(server.folder, "share");
      cpSync(installed("--sharedir"), share, { recursive: true, dereference: true });
      appendFileSync(join(share, "postgresql.conf.sample"), "shared_preload_libraries = 'pg_replica'\n");
      const done = await asPostgres("initdb", ["-L", share, "-D", target, "-N"]);
      assert.equal(done.code, 0, done.stderr);
      assert.match(readFileSync(join(target, "postgresql.conf"), "utf8"), /'pg_replica'/);
      assert.equal(existsSync(join(target, "standby.signal")), false);
    }));

  it("PG_REPLICA_DISABLE=1 in the environment does what enabled = off does", () =>
    withServer({}, async (server) => {
      await server.start([], { PG_REPLICA_DISABLE: "1" });
      assert.equal(await server.value("SHOW pg_replica.enabled"), "off");
      await server.value("CREATE TABLE t (a int)");
      assert.equal(server.has("standby.signal"), false);
    }));
});
