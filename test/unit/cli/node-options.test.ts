import assert from "node:assert/strict";
import { test } from "node:test";
import { type ClusterInfo, checkJoin } from "../../../src/cli/join.js";
import {
  hbaLines,
  type NodeFlags,
  nodeId,
  nodeSettings,
  parsePeers,
  stateDirectory,
} from "../../../src/cli/node-options.js";

const flags: NodeFlags = {
  pgdata: "/data",
  nodeId: "a",
  port: 5432,
  raftPort: 7400,
  httpPort: 8008,
  listenAddresses: "*",
  failoverTimeoutMs: 3000,
  set: { shared_buffers: "32MB" },
};

test("the first node bootstraps, others do not, and --set wins", () => {
  assert.equal(nodeSettings(flags, true)["pg_replica.bootstrap"], "on");
  assert.equal(nodeSettings(flags, false)["pg_replica.bootstrap"], "off");
  const settings = nodeSettings({ ...flags, set: { max_wal_senders: "40" } }, true);
  assert.equal(settings.max_wal_senders, "40");
  assert.equal(settings.shared_preload_libraries, "pg_replica");
  assert.equal(settings["pg_replica.node_id"], "a");
});

test("peers are name=host:port, each name once", () => {
  assert.deepEqual(parsePeers("a=10.0.0.1:7400, b=[fd00::2]:7401"), [
    { name: "a", host: "10.0.0.1", port: 7400 },
    { name: "b", host: "fd00::2", port: 7401 },
  ]);
  for (const bad of ["a", "a=h", "a=h:0", "a=h:1,", "A=h:1", "a=fd00::2:7400", "a=h:1,a=i:2"]) {
    assert.throws(() => parsePeers(bad), /name=host:port|stands there twice/, bad);
  }
  assert.throws(() => nodeId("Bad Name"), /1 to 63/);
});

test("pg_hba lets only the nodes in, as the replication user", () => {
  const lines = hbaLines({
    ...flags,
    peers: "a=10.0.0.1:7400,b=db2.example:7400",
    advertiseDsn: "host=10.0.0.1 user=repl",
  });
  assert.deepEqual(lines, [
    'host all "repl" 10.0.0.1/32 scram-sha-256',
    'host replication "repl" 10.0.0.1/32 scram-sha-256',
    'host all "repl" "db2.example" scram-sha-256',
    'host replication "repl" "db2.example" scram-sha-256',
  ]);
  assert.match(
    hbaLines({ ...flags, superuser: "postgres", auth: "md5" })[0] ?? "",
    /^host all "postgres" samenet md5$/,
  );
});

test("the state directory may be named relative to the data directory", () => {
  assert.equal(stateDirectory(flags), "/data/pg_replica");
  assert.equal(stateDirectory({ ...flags, set: { "pg_replica.state_dir": "x" } }), "/data/x");
  assert.equal(stateDirectory({ ...flags, set: { "pg_replica.state_dir": "/y" } }), "/y");
});

const info: ClusterInfo = {
  clusterId: "6b1c",
  systemIdentifier: "73",
  serverMajor: 15,
  leaseMs: 3000,
  primary: { name: "a", dsn: "host=10.0.0.1" },
  members: [
    { id: 1, name: "a", address: "10.0.0.1:7400", dsn: "", alive: true },
    { id: 2, name: "b", address: "10.0.0.2:7400", dsn: "", alive: false },
  ],
};

test("join refuses another major version and the name of a living node", () => {
  assert.throws(() => checkJoin({ nodeId: "c" }, info, 16), /version 16, the cluster runs 15/);
  assert.throws(
    () => checkJoin({ nodeId: "a" }, info, 15),
    /has a node "a" already, and it is alive at 10\.0\.0\.1:7400/,
  );
  checkJoin({ nodeId: "b" }, info, 15);
  checkJoin({ nodeId: "c" }, info, 15);
});
