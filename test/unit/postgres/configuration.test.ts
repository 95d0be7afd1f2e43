import assert from "node:assert/strict";
import {
  chmodSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, beforeEach, describe, it } from "node:test";
import fc from "fast-check";
import {
  checkServerSettings,
  clearPrimaryConninfo,
  ensureHbaLines,
  writeNodeConfiguration,
} from "../../../src/postgres/configuration.js";
import { changeSettings, quoteSetting } from "../../../src/postgres/configuration-file.js";
import { replaceFileDurably } from "../../../src/postgres/durable-file.js";

const pgdata = mkdtempSync(join(tmpdir(), "pg_replica-configuration-"));
after(() => rmSync(pgdata, { recursive: true, force: true }));
beforeEach(() => {
  for (const name of readdirSync(pgdata)) rmSync(join(pgdata, name));
});

const read = (name: string) => readFileSync(join(pgdata, name), "utf8");
const write = (name: string, text: string) => writeFileSync(join(pgdata, name), text);

describe("settings in a configuration file", () => {
  it("replaces a setting where it stands and drops its duplicates", () => {
    const text = "# port = 1\nPort = 5432 # old\nlisten_addresses='*'\nport 5433\n";
    assert.equal(changeSettings(text, { port: "7" }), "# port = 1\nport = '7'\nlisten_addresses='*'\n");
  });

  it("takes a setting out for null and keeps everything else byte by byte", () => {
    const text = "include 'x.conf'\n\n  a.b = 'c'\n# end";
    assert.equal(changeSettings(text, { "a.b": null }), "include 'x.conf'\n\n# end\n");
  });

  it("writes each setting exactly once, however often it is applied", () => {
    const values = fc.dictionary(
      fc.constantFrom("port", "a.b", "work_mem"),
      fc.string().filter((s) => !s.includes("\0")),
    );
    fc.assert(
      fc.property(values, values, (first, second) => {
        const once = changeSettings(changeSettings("", first), second);
        assert.equal(changeSettings(once, second), once);
        for (const [name, value] of Object.entries(second)) {
          assert.equal(once.split("\n").filter((line) => line === `${name} = ${quoteSetting(value)}`).length, 1);
          assert.equal(once.split("\n").filter((line) => line.startsWith(`${name} =`)).length, 1);
        }
      }),
    );
  });

  it("quotes what the parser would take for something else", () => {
    assert.equal(quoteSetting("it's a \\ and\na line"), "'it''s a \\\\ and\\na line'");
    assert.throws(() => quoteSetting("\0"), TypeError);
    assert.throws(() => changeSettings("", { "bad name": "x" }), TypeError);
  });
});

describe("the node's own configuration", () => {
  it("is included once, replaces itself, and is not shadowed by the source's ALTER SYSTEM", () => {
    write("postgresql.conf", "port = 5432");
    write("postgresql.auto.conf", "# Do not edit\npg_replica.node_id = 'source'\nwork_mem = '8MB'\n");
    writeNodeConfiguration(pgdata, { "pg_replica.node_id": "a", port: "7" });
    writeNodeConfiguration(pgdata, { "pg_replica.node_id": "b" });
    assert.equal(read("postgresql.conf"), "port = 5432\ninclude_if_exists = 'pg_replica.conf'\n");
    assert.match(read("pg_replica.conf"), /^#.*\npg_replica\.node_id = 'b'\nport = '7'\n$/);
    assert.equal(read("postgresql.auto.conf"), "# Do not edit\nwork_mem = '8MB'\n");
  });

  it("empties what points to a primary", () => {
    write("postgresql.auto.conf", "primary_conninfo = 'host=a'\nwork_mem = '8MB'\nprimary_conninfo = 'host=b'\n");
    clearPrimaryConninfo(pgdata);
    assert.equal(read("postgresql.auto.conf"), "primary_conninfo = ''\nwork_mem = '8MB'\nprimary_slot_name = ''\n");
  });

  it("keeps one block of managed lines at the end of pg_hba.conf", () => {
    write("pg_hba.conf", "local all all peer\n");
    const path = join(pgdata, "pg_hba.conf");
    assert.equal(ensureHbaLines(path, ["host replication all 10.0.0.0/8 scram-sha-256"]), true);
    assert.equal(ensureHbaLines(path, ["host replication all 10.0.0.0/8 scram-sha-256"]), false);
    assert.equal(ensureHbaLines(path, ["host all all 10.0.0.0/8 scram-sha-256"]), true);
    assert.equal(
      read("pg_hba.conf"),
      "local all all peer\n# pg_replica: begin of managed lines\nhost all all 10.0.0.0/8 scram-sha-256\n# pg_replica: end of managed lines\n",
    );
    assert.equal(ensureHbaLines(path, []), true);
    assert.equal(read("pg_hba.conf"), "local all all peer\n");
  });
});

describe("replacing a file", () => {
  it("keeps its mode and a link to it", () => {
    write("real.conf", "a = '1'\n");
    chmodSync(join(pgdata, "real.conf"), 0o640);
    symlinkSync("real.conf", join(pgdata, "link.conf"));
    replaceFileDurably(join(pgdata, "link.conf"), "new");
    assert.equal(read("real.conf"), "new");
    assert.equal(statSync(join(pgdata, "real.conf")).mode & 0o777, 0o640);
    assert.ok(lstatSync(join(pgdata, "link.conf")).isSymbolicLink());
    assert.deepEqual(readdirSync(pgdata).sort(), ["link.conf", "real.conf"]);
  });
});

describe("the check of a server's settings", () => {
  const good = {
    wal_level: "replica",
    max_wal_senders: "10",
    max_replication_slots: "10",
    wal_log_hints: "off",
    data_checksums: "on",
    hot_standby: "on",
    listen_addresses: "*",
    shared_preload_libraries: "pg_replica",
  };

  it("accepts a server that can be a member", () => {
    assert.deepEqual(checkServerSettings(good), []);
  });

  it("says what to write for each setting that is unsuitable", () => {
    const wrong = (more: Record<string, string>) =>
      checkServerSettings({ ...good, ...more }).map((problem) => `${problem.name}=${problem.wanted}`);
    assert.deepEqual(wrong({ wal_level: "minimal" }), ["wal_level=replica"]);
    assert.deepEqual(wrong({ max_wal_senders: "5" }), ["max_wal_senders=10"]);
    assert.deepEqual(wrong({ data_checksums: "off" }), ["wal_log_hints=on"]);
    assert.deepEqual(wrong({ hot_standby: "off" }), ["hot_standby=on"]);
    assert.deepEqual(wrong({ listen_addresses: "localhost" }), ["listen_addresses=*"]);
    assert.deepEqual(wrong({ shared_preload_libraries: "pg_stat_statements" }), [
      "shared_preload_libraries=pg_stat_statements, pg_replica",
    ]);
  });
});
