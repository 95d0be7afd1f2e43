import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type Message, processIsAlive, Server, until } from "./server.js";

async function started(settings: Record<string, string | null> = {}): Promise<Server> {
  return (await Server.create(settings)).start();
}

function agentPid(server: Server): number {
  return server.messages("started").at(-1)?.pid as number;
}

describe("supervisor: the conversation on fd 3", () => {
  let server: Server;
  before(async () => {
    server = await started({
      "pg_replica.peers": "a=127.0.0.1:7400,b=[::1]:7401",
      "pg_replica.tags": "nosync, failover_priority=7",
      "pg_replica.advertise_dsn": 'host=x "quoted" \\back',
    });
  });
  after(() => server.destroy());

  it("starts NODE BUNDLE agent in PGDATA and sends the settings as AgentConfig", async () => {
    const { config } = (await server.message("config")) as Message & { config: Record<string, unknown> };
    const begun = await server.message("started");
    assert.equal(begun.cwd, server.data);
    const [bundle, command] = begun.argv as string[];
    assert.match(bundle ?? "", /\/pg_replica\/pg_replica\.mjs$/);
    assert.equal(command, "agent");
    const { markerKey, server: facts, ...settings } = config;
    assert.match(markerKey as string, /^[0-9a-f]{64}$/);
    assert.deepEqual(settings, {
      nodeId: "a",
      peers: [
        { name: "a", host: "127.0.0.1", port: 7400 },
        { name: "b", host: "::1", port: 7401 },
      ],
      raftPort: 7400,
      listenAddresses: "*",
      httpPort: 8008,
      bootstrap: false,
      synchronous: "async",
      failoverTimeoutMs: 3000,
      advertiseDsn: 'host=x "quoted" \\back',
      stateDir: join(server.data, "pg_replica"),
      tags: { nofailover: false, failoverPriority: 7, nosync: true, noloadbalance: false },
      secretFile: "",
      tlsCertFile: "",
      tlsKeyFile: "",
      tlsCaFile: "",
      logLevel: "info",
      maximumLagOnFailover: 1024 * 1024,
      onRoleChange: "",
      prePromote: "",
    });
    const { bindir, versionNum, systemIdentifier, ...rest } = facts as Record<string, unknown>;
    assert.ok(existsSync(join(bindir as string, "postgres")));
    assert.equal(String(versionNum), await server.value("SHOW server_version_num"));
    assert.equal(systemIdentifier, await server.value("SELECT system_identifier::text FROM pg_control_system()"));
    assert.deepEqual(rest, {
      pgdata: server.data,
      port: server.port,
      socketDirectory: server.folder,
      postmasterPid: server.postmasterPid(),
      dataChecksums: false,
      configFile: join(server.data, "postgresql.conf"),
    });
  });

  it("gives the agent fds 3 and 4, none of the server's own, a session of its own, and no secret in its environment", async () => {
    const stat = readFileSync(`/proc/${agentPid(server)}/stat`, "utf8");
    const session = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3]);
    assert.equal(session, agentPid(server));
    const files = (await server.message("started")).files as [number, string][];
    const given = new Map(files);
    assert.equal(given.get(0), "/dev/null");
    assert.match(given.get(3) ?? "", /^socket:/);
    assert.match(given.get(4) ?? "", /^pipe:/);
    assert.deepEqual(
      files.filter(([fd, target]) => fd > 4 && (target.startsWith("socket:") || target.startsWith(server.data))),
      [],
    );
    const environment = readFileSync(`/proc/${agentPid(server)}/environ`, "utf8");
    assert.equal(environment.includes(await server.markerKey()), false);
  });

  it("sends the settings again after a reload", async () => {
    await server.value("ALTER SYSTEM SET pg_replica.failover_timeout_ms = '5s'");
    await server.value("SELECT pg_reload_conf()");
    await server.message(
      "config",
      (message) => (message.config as { failoverTimeoutMs: number }).failoverTimeoutMs === 5000,
    );
  });

  it("writes the agent's log lines to the server's log at their level, never as ERROR", async () => {
    await server.say(
      { type: "log", level: "info", message: "line of info é" },
      { type: "log", level: "warning", message: "line of warning" },
      { type: "log", level: "error", message: "line of error %s" },
      { type: "log", level: "debug", message: "line of debug" },
      { type: "log", level: "info", message: "last line" },
    );
    await until("the last line", () => server.log().includes("last line"));
    assert.match(server.log(), /LOG: {2}pg_replica: line of info é/);
    assert.match(server.log(), /WARNING: {2}pg_replica: line of warning/);
    assert.match(server.log(), /WARNING: {2}pg_replica: error: line of error %s/);
    assert.doesNotMatch(server.log(), /line of debug/);
  });

  it("logs and ignores what it does not understand", async () => {
    for (const line of [
      "nonsense",
      '{"type":"unknown","id":1}',
      '{"type":"renew","id":-1}',
      '["type"]',
      "x".repeat(200_000),
    ]) {
      await server.say(line);
    }
    const known = await server.ask({ type: "expire" });
    assert.equal(known.token, "0.0");
    const complaints = server.log().match(/did not understand a line of the agent/g);
    assert.equal(complaints?.length, 5);
    assert.ok(
      server
        .log()
        .split("\n")
        .every((line) => line.length < 1000),
    );
  });

  it("gives a token only when it is newer, expired and closed", async () => {
    const first = await server.ask({ type: "token", token: "3.7" });
    assert.deepEqual([first.token, first.deadlineNs, first.open, first.remainingMs], ["3.7", "0", false, 0]);
    for (const token of ["3.7", "3.6", "2.9"]) {
      assert.equal((await server.ask({ type: "token", token })).token, "3.7", token);
    }
    assert.equal((await server.ask({ type: "token", token: "4.1" })).token, "4.1");
    assert.match(server.log(), /refused the agent's request "token"/);
  });

  it("renews from the stamp, only for the word's token, a stamp it gave, and at most 10 minutes", async () => {
    const { boottimeNs } = await server.ask({ type: "stamp" });
    const stampNs = boottimeNs as string;
    const good = { type: "renew", token: "4.1", stampNs, durationMs: 30_000 };
    for (const bad of [
      { ...good, token: "3.7" },
      { ...good, stampNs: String(BigInt(stampNs) + 1n) },
      { ...good, stampNs: "0" },
      { ...good, durationMs: 600_001 },
    ]) {
      assert.equal((await server.ask(bad)).deadlineNs, "0", JSON.stringify(bad));
    }
    const renewed = await server.ask(good);
    const deadline = BigInt(stampNs) + 30_000_000_000n;
    assert.equal(BigInt(renewed.deadlineNs as string), deadline - (deadline % 2n));
    assert.ok((renewed.remainingMs as number) > 0 && (renewed.remainingMs as number) <= 30_000);
    const shorter = await server.ask({ ...good, durationMs: 10 });
    assert.equal(shorter.deadlineNs, renewed.deadlineNs, "a renewal never moves the deadline back");
  });

  it("opens only for the word's token, and expire closes and keeps the token", async () => {
    assert.equal((await server.ask({ type: "open", token: "4.0" })).open, false);
    assert.equal((await server.ask({ type: "open", token: "4.1" })).open, true);
    const expired = await server.ask({ type: "expire" });
    assert.deepEqual([expired.token, expired.deadlineNs, expired.open], ["4.1", "0", false]);
  });

  it("starts a killed agent again; the server and the lease word are untouched", async () => {
    const stamp = await server.ask({ type: "stamp" });
    await server.ask({ type: "renew", token: "4.1", stampNs: stamp.boottimeNs, durationMs: 60_000 });
    const client = await server.connect();
    const first = agentPid(server);
    process.kill(first, "SIGKILL");
    await until("a second agent", () => agentPid(server) !== first);
    assert.equal((await client.query("SELECT 1 AS one")).rows[0].one, 1);
    assert.match(server.log(), /agent was ended by signal 9/);
    const old = await server.ask({
      type: "renew",
      token: "4.1",
      stampNs: stamp.boottimeNs,
      durationMs: 100_000,
    });
    assert.ok((old.remainingMs as number) > 0, "the lease of before is still there");
    assert.ok((old.remainingMs as number) <= 60_000, "a stamp of the earlier agent counts no more");
  });
});

describe("supervisor: ends", () => {
  it("ended alone, it is started again by the postmaster and finds the lease word as it was", async () => {
    const server = await started();
    try {
      await server.message("config");
      await server.ask({ type: "token", token: "4.1" });
      const first = agentPid(server);
      const parent = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${first}/status`, "utf8"))?.[1]);
      process.kill(parent, "SIGTERM");
      await until("another agent", () => agentPid(server) !== first);
      assert.equal(processIsAlive(server.postmasterPid()), true);
      const word = await server.ask({ type: "token", token: "3.9" });
      assert.equal(word.token, "4.1", "an older token is refused");
    } finally {
      await server.destroy();
    }
  });

  it("a fast stop sends shutdown, ends fd 3, and does not wait for a frozen agent", async () => {
    const server = await started();
    try {
      await server.message("config");
      process.kill(agentPid(server), "SIGSTOP");
      await server.stop("fast");
      assert.equal(processIsAlive(agentPid(server)), true, "the server was gone first");
      process.kill(agentPid(server), "SIGCONT");
      await server.message("shutdown", (message) => message.mode === "stop");
      await server.message("eof", (message) => message.name === "supervisor");
      await server.message("eof", (message) => message.name === "postmaster");
    } finally {
      await server.destroy();
    }
  });

  it("stops the server when the agent asks", async () => {
    const server = await started();
    try {
      const postmaster = server.postmasterPid();
      await server.say({ type: "stop", mode: "fast" });
      await until("the end of the postmaster", () => !processIsAlive(postmaster));
      assert.match(server.log(), /received fast shutdown request/);
    } finally {
      await server.destroy();
    }
  });

  it("a killed postmaster: lease expired, orphan backends ended, and the agent told so", async () => {
    const server = await started();
    try {
      await server.makeWritable("2.5");
      const client = await server.connect();
      const backend = (await client.query("SELECT pg_backend_pid() AS pid")).rows[0].pid as number;
      const endless = client.query("DO $$ BEGIN LOOP END LOOP; END $$").then(
        () => "success",
        () => "broken",
      );
      const observer = await server.connect();
      const busy = `SELECT 1 FROM pg_stat_activity WHERE pid = ${backend} AND state = 'active' AND query LIKE 'DO%'`;
      while ((await observer.query(busy)).rows.length === 0);
      process.kill(server.postmasterPid(), "SIGKILL");
      const released = await server.message("released");
      assert.equal(released.token, "2.5");
      assert.equal(released.gone, true);
      // Idle ones notice by themselves, and may be gone already; the busy one never would.
      assert.ok((released.backends as number) >= 1);
      assert.equal(processIsAlive(backend), false);
      assert.equal(await endless, "broken");
      await server.message("eof", (message) => message.name === "postmaster");
    } finally {
      await server.destroy();
    }
  });

  it("says when the Node.js program is not there, and goes on trying", async () => {
    const server = await started({ "pg_replica.node_path": "/nowhere/node" });
    try {
      await until("two attempts", () => (server.log().match(/could not find the Node\.js program/g) ?? []).length >= 2);
      assert.match(server.log(), /"\/nowhere\/node": set pg_replica\.node_path/);
    } finally {
      await server.destroy();
    }
  });

  it("backs off from an agent that ends at once", async () => {
    const server = await started({ "pg_replica.node_path": "/bin/false" });
    try {
      await until("four ends", () => (server.log().match(/the agent ended with exit code 1/g) ?? []).length >= 4);
      const delays = [...server.log().matchAll(/starting it again in (\d+) ms/g)].map((match) => Number(match[1]));
      assert.deepEqual(delays.slice(0, 4), [100, 200, 400, 800]);
    } finally {
      await server.destroy();
    }
  });
});
