import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Server, until } from "./server.js";

describe("settings", () => {
  let server: Server;
  before(async () => {
    server = await (await Server.create()).start();
  });
  after(() => server.destroy());

  for (const [name, value, detail] of [
    ["peers", "a", /no "=" between/],
    ["peers", "a=host", /no ":port"/],
    ["peers", "a=host:0", /"0" .* is not a port/],
    ["peers", "a=host:65536", /not a port/],
    ["peers", "a=host:1,", /empty entry/],
    ["peers", "a=fe80::1:7400", /must stand in brackets/],
    ["peers", "a=[fe80::1:7400", /bracket .* is not closed/],
    ["peers", "A=host:1", /"A" .* is not a valid node name/],
    ["peers", "a=x:1,b=y:1,a=z:1", /"a" stands there twice/],
    ["peers", "a=:1", /is not a host name/],
    ["tags", "nofailovr", /not a tag/],
    ["tags", "failover_priority=high", /needs a whole number/],
    ["tags", "nosync=maybe", /must be true or false/],
    ["synchronous", "quorum", /asynchronous replication only/],
  ] as const) {
    it(`${name} = '${value}' is refused with what is wrong and what to write`, async () => {
      await assert.rejects(server.value(`ALTER SYSTEM SET pg_replica.${name} = '${value}'`), {
        code: "22023",
        detail,
        hint: /./,
      });
    });
  }

  for (const [name, value] of [
    ["failover_timeout_ms", "100"],
    ["http_port", "-1"],
    ["raft_port", "0"],
    ["maximum_lag_on_failover", "-2"],
    ["log_level", "loud"],
    ["no_such_setting", "1"],
  ] as const) {
    it(`${name} = '${value}' is refused`, () =>
      assert.rejects(server.value(`ALTER SYSTEM SET pg_replica.${name} = '${value}'`)));
  }

  for (const [name, value] of [
    ["peers", "a=10.0.0.1:7400, b=[fd00::2]:7400 , c=db3.example.org:7400"],
    ["peers", ""],
    ["tags", "nofailover, failover_priority=50, nosync=false, noloadbalance=true"],
    ["failover_timeout_ms", "2s"],
    ["maximum_lag_on_failover", "16MB"],
    ["maximum_lag_on_failover", "-1"],
    ["node_id", "db-1.example_x"],
  ] as const) {
    it(`${name} = '${value}' is accepted`, async () => {
      await server.value(`ALTER SYSTEM SET pg_replica.${name} = '${value}'`);
    });
  }

  it("a bad value written by hand is logged at reload and the old one kept", async () => {
    server.configure("pg_replica.tags", "whatever");
    await server.value("SELECT pg_reload_conf()");
    await until("the complaint", () => /invalid value for parameter "pg_replica.tags"/.test(server.log()));
  });

  it("every setting has a description, and file names and commands are for superusers", async () => {
    const client = await server.connect();
    const { rows } = await client.query(
      "SELECT name FROM pg_settings WHERE name LIKE 'pg\\_replica.%' AND short_desc <> '' ORDER BY name",
    );
    assert.deepEqual(
      rows.map((row: { name: string }) => row.name.replace("pg_replica.", "")),
      [
        "advertise_dsn",
        "bootstrap",
        "enabled",
        "failover_timeout_ms",
        "http_port",
        "listen_addresses",
        "log_level",
        "maximum_lag_on_failover",
        "node_id",
        "node_path",
        "on_role_change",
        "peers",
        "pre_promote",
        "raft_port",
        "secret_file",
        "state_dir",
        "synchronous",
        "tags",
        "tls_ca_file",
        "tls_cert_file",
        "tls_key_file",
      ],
    );
    await server.makeWritable();
    await server.value("CREATE ROLE plain LOGIN");
    const plain = await server.connect("plain");
    await assert.rejects(plain.query("SHOW pg_replica.secret_file"), { code: "42501" });
    await assert.rejects(plain.query("SHOW pg_replica.marker_key"), { code: "42501" });
    await assert.rejects(plain.query("SET pg_replica.marker_key = 'x'"), { code: "42501" });
  });
});
