import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { establishIdentity, founderId } from "../../../src/agent/identity.js";
import type { AgentConfig, Token } from "../../../src/control/types.js";
import { formatStateDir, readMeta, writeMeta } from "../../../src/storage/index.js";
import { freePort, startNode } from "../transport/helpers.js";
import { LogLines, until } from "./fakes.js";

async function stateDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "pg_replica-identity-"));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return join(dir, "state");
}

function config(dir: string, peerPort: number, change: Partial<AgentConfig> = {}): AgentConfig {
  return {
    nodeId: "b",
    peers: [{ name: "a", host: "127.0.0.1", port: peerPort }],
    raftPort: 7400,
    httpPort: 0,
    bootstrap: false,
    advertiseDsn: "host=b",
    stateDir: dir,
    tags: { nofailover: false, failoverPriority: 100, nosync: false, noloadbalance: false },
    server: { pgdata: "/data", versionNum: 150018, systemIdentifier: "7", port: 5432 },
    ...change,
  } as unknown as AgentConfig;
}

const credentials = { secret: null, tls: null };
const members = [{ id: 1, name: "a", address: "127.0.0.1:1" }];

function clusterInfo(clusterId: string) {
  return { ok: true, result: { clusterId, systemIdentifier: "7", serverMajor: 15, members } } as const;
}

test("a node that stopped between its registration and its first log entry asks who its peers are", async (t) => {
  const dir = await stateDir(t);
  const peer = await startNode(t, 1, { answer: async () => clusterInfo("c1") });
  const meta = { format: 1, nodeName: "b", incarnation: "disk", clusterId: "c1", systemIdentifier: "7" } as const;
  await formatStateDir(dir, { ...meta, raftId: 0 });
  await writeMeta(dir, { ...meta, raftId: 4 });
  const log = new LogLines().logger;
  const ownMarker = () => Promise.reject(new Error("not asked for"));
  const found = await establishIdentity({ config: config(dir, peer.port), credentials, log, ownMarker });
  t.after(() => found.storage.close());
  assert.deepEqual(found.knownPeers, members);
  assert.equal(found.meta.raftId, 4);
});

test("bootstrap makes a cluster of a server whose data belong to none", async (t) => {
  const dir = await stateDir(t);
  const settings = config(dir, await freePort(), { bootstrap: true });
  const log = new LogLines().logger;
  const found = await establishIdentity({ config: settings, credentials, log, ownMarker: async () => null });
  t.after(() => found.storage.close());
  assert.equal(found.meta.raftId, founderId);
});

test("bootstrap left on makes no second cluster of data that belong to one, though no peer answers", async (t) => {
  const dir = await stateDir(t);
  const port = await freePort();
  const log = new LogLines();
  const marker: Token = { term: 1, index: 4 };
  const settings = config(dir, port, { bootstrap: true });
  const pending = establishIdentity({ config: settings, credentials, log: log.logger, ownMarker: async () => marker });
  await until(() => log.has("no peer knows one"), "it waits for a peer");
  assert.ok(log.has("belong to a cluster already (token 1.4)"));
  assert.equal(await readMeta(dir), null, "nothing is written");
  // The peer comes back: this node joins the cluster that its data belong to.
  await startNode(t, 1, {
    port,
    self: { clusterId: "c1", id: 1, name: "a", incarnation: "disk-a" },
    answer: async (request) => (request.kind === "register" ? { ok: true, result: { id: 5 } } : clusterInfo("c1")),
  });
  const found = await pending;
  t.after(() => found.storage.close());
  assert.equal(found.meta.clusterId, "c1");
  assert.equal(found.meta.raftId, 5);
});
