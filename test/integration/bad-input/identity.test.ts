// Nodes that are not what the cluster takes them for: each is told what is wrong, and nothing of it changes.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { chownSync, existsSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer as createHttp } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { DemoCluster } from "../../../src/cli/demo-cluster.js";
import { createTransport } from "../../../src/transport/index.js";
import type { Transport } from "../../../src/transport/types.js";
import { BadNode, freePort, identityOf, listing, startCluster } from "./node.js";

describe("bad input: who a node is", () => {
  let cluster: DemoCluster;
  /** Of another database; never started. */
  let stranger: BadNode;
  const nodes: BadNode[] = [];
  const use = (node: BadNode): BadNode => {
    nodes.push(node);
    return node;
  };

  before(async () => {
    cluster = await startCluster();
    stranger = await BadNode.create(cluster, "stranger");
    await stranger.init();
  });
  after(async () => {
    await Promise.allSettled(nodes.map((node) => node.stop()));
    await cluster?.destroy();
  });

  const raftPortOfA = () => cluster.node("a").raftPort;
  const members = async () => (await cluster.node("a").view()).members.map(({ name, id }) => `${name} ${id}`);

  it("pg_replica.peers that is no list of peers stops init, join and the server, with what is wrong in it", async () => {
    const node = await BadNode.create(cluster, "peers");
    const made = await node.pgReplica("init", ...node.options(), "--peers", "b@10.0.0.1:7400", "--auth", "trust");
    assert.equal(made.code, 2, made.text);
    assert.match(made.text, /"b@10\.0\.0\.1:7400" is not name=host:port, as in a=10\.0\.0\.1:7400/);
    const joined = await node.pgReplica("join", ...node.options(), "--from", "127.0.0.1:1", "--peers", "a=:7400");
    assert.equal(joined.code, 2, joined.text);
    assert.equal(existsSync(node.pgdata), false);

    const server = use(await BadNode.copyOf(stranger, "server", { "pg_replica.peers": "a=10.0.0.1" }));
    const before = listing(server.pgdata);
    const ran = await server.runServer();
    assert.equal(ran.code, 1, ran.text);
    assert.match(ran.text, /FATAL: .*invalid value for parameter "pg_replica\.peers": "a=10\.0\.0\.1"/);
    assert.match(ran.text, /DETAIL: .*The entry "a=10\.0\.0\.1" has no ":port" after the host\./);
    assert.match(ran.text, /HINT: .*Write "name=host:port,name=host:port"/);
    assert.deepEqual(listing(server.pgdata), before);
  });

  it("join under the name of a node that is alive is refused before anything is made", async () => {
    const node = await BadNode.create(cluster, "a");
    const before = await members();
    const twin = join(cluster.directory, "twin");
    const joined = await node.pgReplica("join", ...node.options(), "--from", `127.0.0.1:${raftPortOfA()}`, "-D", twin);
    assert.equal(joined.code, 2, joined.text);
    assert.match(joined.text, /the cluster has a node "a" already, and it is alive at 127\.0\.0\.1:\d+/);
    assert.match(joined.text, /hint: Choose another --node-id/);
    assert.equal(existsSync(twin), false);
    assert.deepEqual(await members(), before);
  });

  it("a server that comes under the name of a living node is not registered; under its own name it is", async () => {
    const node = use(await BadNode.create(cluster, "b"));
    const joined = await node.join();
    assert.equal(joined.code, 0, joined.text);
    // As after a copy by other means than join: data of the cluster, no state yet.
    rmSync(node.stateDir, { recursive: true });
    node.set({ "pg_replica.node_id": "a", "pg_replica.peers": `seed=127.0.0.1:${raftPortOfA()}` });
    const before = await members();
    node.start();
    await node.says(
      /the cluster did not register this node yet: 127\.0\.0\.1:\d+: the cluster has a node "a" already, and it is alive at 127\.0\.0\.1:\d+: give this node another pg_replica\.node_id/,
    );
    assert.deepEqual(await members(), before);
    await node.stop();
    rmSync(node.stateDir, { recursive: true });
    node.set({ "pg_replica.node_id": "b" });
    node.start();
    await node.says(/registered with cluster [0-9a-f-]+ as member 2/);
    await cluster.waitFor(
      "b to stream",
      async () =>
        (await cluster.node("a").view()).members.some(({ name, state }) => name === "b" && state === "streaming"),
      30_000,
    );
    // It stays: the cluster keeps its majority when one of the next nodes is stopped.
  });

  it("a copied data directory that is started beside its original refuses the original's identity", async () => {
    const original = use(await BadNode.create(cluster, "original"));
    const joined = await original.join();
    assert.equal(joined.code, 0, joined.text);
    original.start();
    await original.says(/registered with cluster/);
    await original.says(/agent .* of node original .* is up/);
    await original.stop();
    const copy = use(await BadNode.copyOf(original, "copy", { "pg_replica.node_id": "original" }));
    rmSync(copy.logFile, { force: true });
    original.start();
    const before = identityOf(copy);
    copy.start();
    const [said] = await copy.says(/the agent can not start: .*meta: this state directory is a copy.*/);
    assert.match(said, /the node's own one was inode \d+, this one is inode \d+/);
    assert.match(said, /make another node with "pg_replica join"/);
    await copy.says(/starting it again in \d{4} ms/);
    await copy.stop();
    assert.deepEqual(identityOf(copy), before);
    await original.stop();
  });

  it("a server of another database is told both system identifiers and is not registered", async () => {
    const node = use(await BadNode.copyOf(stranger, "other"));
    const before = identityOf(node);
    const known = await members();
    node.start();
    const [said] = await node.says(/the agent can not start: this server has system identifier.*/);
    assert.match(said, /system identifier \d{19}, the cluster \d{19}: it is not a copy of the cluster's database/);
    assert.match(said, /Run pg_replica join on an empty data directory/);
    await node.stop();
    assert.deepEqual(identityOf(node), before);
    assert.deepEqual(await members(), known);
  });

  it("a cluster of another major version is refused by join and by the agent", async () => {
    const node = use(await BadNode.copyOf(stranger, "major"));
    const systemIdentifier =
      identityOf(node)
        .join("\n")
        .match(/system identifier: *(\d+)/)?.[1] ?? "";
    const { port, transport } = await fakeCluster({
      clusterId: randomUUID(),
      systemIdentifier,
      serverMajor: 99,
      leaseMs: 3000,
      primary: { name: "z", dsn: "host=127.0.0.1 port=1" },
      members: [],
    });
    try {
      node.set({ "pg_replica.peers": `z=127.0.0.1:${port}`, "pg_replica.secret_file": "" });
      const before = identityOf(node);
      node.start();
      await node.says(
        /the agent can not start: this server is PostgreSQL \d+, the cluster runs PostgreSQL 99\. Physical replication needs the same major version on all nodes/,
      );
      await node.stop();
      assert.deepEqual(identityOf(node), before);

      const joining = await BadNode.create(cluster, "joining");
      const ran = await joining.pgReplica(
        ...["join", ...joining.options(), "--secret-file", "", "--from", `127.0.0.1:${port}`],
      );
      assert.equal(ran.code, 2, ran.text);
      assert.match(ran.text, /PostgreSQL here is version \d+, the cluster runs 99/);
      assert.match(ran.text, /hint: Physical replication needs the same major version/);
      assert.equal(existsSync(joining.pgdata), false);
    } finally {
      await transport.stop();
    }
  });

  it("a peer that speaks HTTP is named, by the node that dials it and by join", async () => {
    const http = createHttp((_request, response) => response.end("hello"));
    await new Promise<void>((resolve) => http.listen(0, "127.0.0.1", resolve));
    try {
      const { port } = http.address() as AddressInfo;
      const node = use(await BadNode.copyOf(stranger, "dials", { "pg_replica.peers": `z=127.0.0.1:${port}` }));
      const before = identityOf(node);
      node.start();
      await node.says(
        /belongs to no cluster yet and no peer knows one \(the peer at 127\.0\.0\.1:\d+ speaks another protocol: this looks like HTTP/,
      );
      await node.stop();
      assert.deepEqual(identityOf(node), before);
      const joining = await BadNode.create(cluster, "joins-http");
      const ran = await joining.pgReplica("join", ...joining.options(), "--from", `127.0.0.1:${port}`);
      assert.equal(ran.code, 1, ran.text);
      assert.match(ran.text, /the peer at 127\.0\.0\.1:\d+ speaks another protocol: this looks like HTTP/);
      assert.match(ran.text, /hint: Name host and raft_port of a node that runs/);
      assert.equal(existsSync(joining.pgdata), false);
    } finally {
      http.closeAllConnections();
      await new Promise((resolve) => http.close(resolve));
    }
  });

  it("HTTP on the peer port is named once, however often it comes", async () => {
    for (let round = 0; round < 5; round++) {
      await assert.rejects(fetch(`http://127.0.0.1:${raftPortOfA()}/primary`));
    }
    const log = await cluster.node("a").logTail(1000);
    const said = log.match(/the peer at \S+ speaks another protocol: this looks like HTTP/g);
    assert.equal(said?.length, 1, log);
  });

  it("another secret is named on both sides, and the node stays outside", async () => {
    const secret = join(cluster.directory, "other-secret");
    writeFileSync(secret, "another secret of enough bytes\n", { mode: 0o600 });
    if (process.getuid?.() === 0) {
      const { uid, gid } = statSync(cluster.secretFile);
      chownSync(secret, uid, gid);
    }
    const node = use(await BadNode.copyOf(stranger, "keyless", { "pg_replica.secret_file": secret }));
    const before = identityOf(node);
    node.start();
    await node.says(
      /127\.0\.0\.1:\d+ closed the connection during the handshake: it is not pg_replica, or has another secret/,
    );
    await node.stop();
    assert.deepEqual(identityOf(node), before);
    assert.match(
      await cluster.node("a").logTail(1000),
      /the peer at 127\.0\.0\.1 \(which says it is guest "[^"]*"\) does not know the cluster secret/,
    );
    const ran = await node.pgReplica("list", "--host", `127.0.0.1:${raftPortOfA()}`, "--secret-file", secret);
    assert.equal(ran.code, 1, ran.text);
    assert.match(ran.text, /another secret/);
    assert.match(ran.text, /hint: Name the cluster's secret with --secret-file/);
    const without = await node.pgReplica("list", "--host", `127.0.0.1:${raftPortOfA()}`);
    assert.match(without.text, /requires the cluster secret/);
  });

  it("a node that does not name its limits takes the primary's, since with lower ones it would not start", async () => {
    const low = use(await BadNode.create(cluster, "low"));
    // Below what initdb records: the first node has to start with them all the same.
    await low.init({
      max_connections: "30",
      max_worker_processes: "4",
      "pg_replica.bootstrap": "on",
      "pg_replica.peers": "",
    });
    low.start();
    await low.says(/made cluster/);
    await cluster.waitFor("the new cluster's node to be open", () => asksFor(low, "writable: true"), 30_000);
    const high = use(await BadNode.create(cluster, "high"));
    const joined = await high.pgReplica(
      ...[
        "join",
        ...high.options({ max_connections: "20", "pg_replica.peers": "" }),
        "--from",
        `127.0.0.1:${low.raftPort}`,
      ],
    );
    assert.equal(joined.code, 0, joined.text);
    assert.match(joined.text, /max_connections = 30, as on the primary: with 20 this node would not start/);
    high.set({ "pg_replica.peers": `low=127.0.0.1:${low.raftPort}` });
    high.start();
    await cluster.waitFor("the joined node to stream", () => asksFor(high, "state: streaming"), 30_000);
    await high.stop();
    await low.stop();
  });
});

async function asksFor(node: BadNode, line: string): Promise<boolean | string> {
  const ran = await node.pgReplica("list", "--socket", node.socketPath, "--format", "json");
  if (ran.code !== 0) return ran.text;
  const wanted = line === "writable: true" ? '"phase": "steady"' : '"state": "streaming"';
  return ran.text.includes(wanted) || ran.text;
}

/** Speaks the peers' protocol and says this of its cluster. */
async function fakeCluster(info: object): Promise<{ readonly port: number; readonly transport: Transport }> {
  const port = await freePort();
  const transport = createTransport({
    self: { clusterId: "fake", id: 1, name: "z", incarnation: "00" },
    listenAddresses: "127.0.0.1",
    port,
    secret: null,
    tls: null,
    accepts: () => ({ ok: true }),
    reconnectMinMs: 100,
    reconnectMaxMs: 1000,
    events: {
      onRaft: () => undefined,
      onApp: () => undefined,
      onGuest: async () => ({ ok: true, result: info }),
      onDisconnect: () => undefined,
      onProblem: () => undefined,
    },
  });
  await transport.start();
  return { port, transport };
}
