import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Server, until } from "./server.js";

describe("SQL functions through the agent", () => {
  let server: Server;
  const reply = (answer: unknown): void =>
    writeFileSync(join(server.folder, "reply.json"), `${JSON.stringify(answer)}\n`);
  const raw = (text: string): void => writeFileSync(join(server.folder, "reply.json"), text);

  before(async () => {
    server = await (await Server.create()).start();
    await server.makeWritable();
    await server.value("CREATE EXTENSION pg_replica");
    await server.value("CREATE ROLE watcher LOGIN IN ROLE pg_monitor");
    await server.value("CREATE ROLE nobody LOGIN");
  });
  after(() => server.destroy());

  it("status() gives one typed row, for pg_monitor too", async () => {
    reply({
      ok: true,
      result: {
        node_id: "a",
        role: "primary",
        raft_role: "leader",
        term: 3,
        leader: "a",
        primary: "a",
        token: "3.9",
        timeline: 2,
        receive_lsn: null,
        replay_lsn: null,
        flush_lsn: "0/3000148",
        lag_bytes: null,
        lag_seconds: 0.5,
        lease_remaining_ms: 2500,
        synchronous: "async",
        paused: false,
        version: "0.1.0 é",
      },
    });
    const watcher = await server.connect("watcher");
    const { rows } = await watcher.query("SELECT * FROM pg_replica.status()");
    assert.equal(rows.length, 1);
    assert.equal(rows[0].primary, "a");
    assert.equal(rows[0].flush_lsn, "0/3000148");
    assert.equal(rows[0].lag_bytes, null);
    assert.equal(rows[0].version, "0.1.0 é");
    assert.deepEqual(server.messages("request").at(-1)?.request, { command: "status", args: {} });
  });

  it("members() and history() give a row for each element", async () => {
    const one = {
      node_id: "a",
      host: "h",
      port: 5432,
      tags: { nofailover: true },
      last_seen: "2026-01-02T03:04:05.678Z",
    };
    reply({ ok: true, result: [one, { ...one, node_id: "b", lsn: "1/2" }] });
    const client = await server.connect();
    const members = await client.query("SELECT node_id, port, lsn, tags, last_seen FROM pg_replica.members()");
    assert.deepEqual(members.rows[1], {
      node_id: "b",
      port: 5432,
      lsn: "1/2",
      tags: { nofailover: true },
      last_seen: new Date("2026-01-02T03:04:05.678Z"),
    });
    reply({ ok: true, result: [{ index: 12, at: "2026-01-02T03:04:05Z", kind: "begin", description: "why" }] });
    const history = await client.query("SELECT index, kind, token, description FROM pg_replica.history()");
    assert.deepEqual(history.rows, [{ index: "12", kind: "begin", token: null, description: "why" }]);
  });

  it("failover() passes its arguments on and gives the agent's sentence", async () => {
    reply({ ok: true, result: "switched over to b" });
    assert.equal(await server.value("SELECT pg_replica.failover('b', allow_data_loss => true)"), "switched over to b");
    assert.deepEqual(server.messages("request").at(-1)?.request, {
      command: "failover",
      args: { target: "b", allow_data_loss: true },
    });
    await server.value("SELECT pg_replica.failover(E'new\\nline')");
    assert.deepEqual(server.messages("request").at(-1)?.request, {
      command: "failover",
      args: { target: "new\nline", allow_data_loss: false },
    });
    await server.value("SELECT pg_replica.pause()");
    await server.value("SELECT pg_replica.resume()");
    assert.deepEqual(server.messages("request").at(-1)?.request, { command: "resume", args: {} });
  });

  it("an error of the agent becomes one of the server with its SQLSTATE, DETAIL and HINT", async () => {
    const error = {
      code: "no_target",
      message: "no such node",
      detail: "z is unknown",
      hint: "see members()",
      sqlstate: "55000",
    };
    reply({ ok: false, error });
    await assert.rejects(server.value("SELECT pg_replica.failover('z')"), {
      code: "55000",
      message: "no such node",
      detail: "z is unknown",
      hint: "see members()",
    });
    reply({ ok: false, error: { message: "odd", sqlstate: "00000" } });
    await assert.rejects(server.value("SELECT pg_replica.pause()"), { code: "XX000", message: "odd" });
  });

  it("an answer that is not understood is an error, not a crash", async () => {
    for (const text of ["[]\n", '{"ok":1}\n', '{"ok":false}\n', "{\n"]) {
      raw(text);
      await assert.rejects(server.value("SELECT pg_replica.pause()"), /agent|invalid/, text);
    }
    assert.equal(await server.value("SELECT 1"), 1);
  });

  it("changes are not for everybody, nor is the raw call for pg_monitor", async () => {
    const nobody = await server.connect("nobody");
    await assert.rejects(nobody.query("SELECT * FROM pg_replica.status()"), { code: "42501" });
    const watcher = await server.connect("watcher");
    await assert.rejects(watcher.query("SELECT pg_replica.failover()"), { code: "42501" });
    await assert.rejects(watcher.query("SELECT pg_replica._call('pause', '{}')"), { code: "42501" });
    assert.deepEqual((await watcher.query("SELECT * FROM pg_replica.token")).rows, []);
  });

  it("a wait for an agent that does not answer can be cancelled", async () => {
    raw("");
    const client = await server.connect();
    await client.query("SET statement_timeout = 200");
    await assert.rejects(client.query("SELECT pg_replica.pause()"), { code: "57014" });
  });

  it("without an agent the error is 08006 with a hint", async () => {
    await server.value("ALTER SYSTEM SET pg_replica.node_path = '/bin/false'");
    await server.value("SELECT pg_reload_conf()");
    const configs = server.messages("config").length;
    await until("the reload", () => server.messages("config").length > configs || server.log().includes("node_path"));
    process.kill(server.messages("started").at(-1)?.pid as number, "SIGKILL");
    await until("the end of the agent", () => server.log().includes("ended by signal 9"));
    await assert.rejects(server.value("SELECT * FROM pg_replica.status()"), { code: "08006", hint: /log says why/ });
  });
});
