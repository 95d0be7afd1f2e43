// SQL, HTTP, command line and libpq's multi-host URL, on every node, before and after a failover.
import assert from "node:assert/strict";
import type { DemoCluster } from "../../../src/cli/demo-cluster.js";
import { ask, expectOnePromotion, names, type Standing, settle, standing } from "./checks.js";
import { pgReplica, psql } from "./commands.js";
import { failoverTimeoutMs, useCluster } from "./scenario.js";

const { scenario, underLoad } = useCluster();

scenario("every surface of every node tells the same, before and after a failover", async (cluster) => {
  const before = await standing(cluster);
  await expectSurfaces(cluster, before);
  await cluster.node(before.primary).killHost();
  const others = names(cluster).filter((name) => name !== before.primary);
  await cluster.waitForPrimary(others);
  cluster.node(before.primary).startHost();
  await cluster.waitForHealthy();
  const after = await standing(cluster);
  expectOnePromotion(before, after);
  await expectSurfaces(cluster, after);
});

underLoad("a paused cluster does not fail over by itself, a resumed one does", async (cluster, load) => {
  const before = await standing(cluster);
  const [standby, other] = names(cluster).filter((name) => name !== before.primary);
  assert(standby !== undefined && other !== undefined);
  assert.deepEqual(await ask(cluster, standby, "SELECT pg_replica.pause()"), [
    { pause: "automatic failover is paused" },
  ]);
  await cluster.waitFor(
    "every node to know of the pause",
    async () => {
      const views = await Promise.all(cluster.nodes.map((node) => node.view()));
      return views.every(({ paused }) => paused) || "not all do";
    },
    10_000,
  );
  const killedMs = performance.now();
  await cluster.node(before.primary).killHost();
  await cluster.waitFor(
    "three lease times to pass",
    () => performance.now() - killedMs >= 3 * failoverTimeoutMs,
    4 * failoverTimeoutMs,
  );
  for (const name of [standby, other]) {
    assert.deepEqual(load.session(name).acknowledged, [], `${name} was not promoted`);
    const [row] = await ask(cluster, name, "SELECT paused, token, pg_is_in_recovery() FROM pg_replica.status()");
    assert.deepEqual(row, { paused: true, token: before.token, pg_is_in_recovery: true });
  }
  assert.match((await pgReplica(cluster, standby, "list")).out, /Paused: no automatic failover/);
  const resumedMs = performance.now();
  assert.deepEqual(await ask(cluster, other, "SELECT pg_replica.resume()"), [{ resume: "automatic failover is on" }]);
  await load.waitForClient(resumedMs, before.primary);
  expectOnePromotion(before, await standing(cluster, [standby, other]));
  cluster.node(before.primary).startHost();
  await settle(load, "unreplicated");
});

/** What the agents hear of each other is a moment old and is waited for; what they say of themselves is not. */
async function expectSurfaces(cluster: DemoCluster, at: Standing): Promise<void> {
  await cluster.waitFor(
    "every node to know every member, the leader and the promotion as they are",
    async () => {
      for (const name of names(cluster)) {
        const problem = await knowledgeProblem(cluster, name, at);
        if (problem !== null) return `${name}: ${problem}`;
      }
      return true;
    },
    15_000,
  );
  for (const name of names(cluster)) {
    await expectSql(cluster, name, at);
    await expectHttp(cluster, name, at);
    await expectCommandLine(cluster, name, at);
  }
  await expectMultiHost(cluster, at);
}

async function knowledgeProblem(cluster: DemoCluster, name: string, at: Standing): Promise<string | null> {
  const members = await ask(
    cluster,
    name,
    `SELECT node_id, port, role, state, timeline,
            last_seen BETWEEN now() - interval '10 s' AND now() + interval '1 s' AS recent
     FROM pg_replica.members() ORDER BY node_id`,
  );
  const [decided] = await ask(
    cluster,
    name,
    `SELECT (SELECT leader FROM pg_replica.status()),
            (SELECT token FROM pg_replica.history() WHERE kind = 'opened' ORDER BY index DESC LIMIT 1) AS opened`,
  );
  const wanted = {
    members: names(cluster).map((node_id) => ({
      node_id,
      port: cluster.node(node_id).port,
      role: node_id === at.primary ? "primary" : "standby",
      state: node_id === at.primary ? "running" : "streaming",
      timeline: at.timeline,
      recent: true,
    })),
    decided: { leader: at.primary, opened: at.token },
  };
  const seen = JSON.stringify({ members, decided });
  return seen === JSON.stringify(wanted) ? null : `it knows ${seen}`;
}

async function expectSql(cluster: DemoCluster, name: string, at: Standing): Promise<void> {
  const isPrimary = name === at.primary;
  const [status] = await ask(
    cluster,
    name,
    `SELECT node_id, role, "primary", leader, token, timeline, synchronous, paused, version <> '' AS version
     FROM pg_replica.status()`,
  );
  assert.deepEqual(status, {
    node_id: name,
    role: isPrimary ? "primary" : "standby",
    primary: at.primary,
    leader: at.primary,
    token: at.token,
    timeline: at.timeline,
    synchronous: "async",
    paused: false,
    version: true,
  });
  const [lease] = await ask(cluster, name, "SELECT remaining_ms > 0 AS live, open, fenced FROM pg_replica.lease()");
  if (isPrimary) assert.deepEqual(lease, { live: true, open: true, fenced: false });
  else assert.equal((lease as { live: boolean }).live, false, "a standby holds no lease");
  const opened = await ask(
    cluster,
    name,
    "SELECT token, node FROM pg_replica.history() WHERE kind = 'opened' ORDER BY index DESC LIMIT 1",
  );
  assert.deepEqual(opened, [{ token: at.token, node: at.primary }]);
}

async function expectHttp(cluster: DemoCluster, name: string, at: Standing): Promise<void> {
  const isPrimary = name === at.primary;
  const get = (path: string) => fetch(`http://127.0.0.1:${cluster.node(name).httpPort}${path}`);
  const codes = await Promise.all(
    ["/primary", "/replica", "/health", "/cluster", "/metrics"].map(async (path) => [path, (await get(path)).status]),
  );
  assert.deepEqual(Object.fromEntries(codes), {
    "/primary": isPrimary ? 200 : 503,
    "/replica": isPrimary ? 503 : 200,
    "/health": 200,
    "/cluster": 200,
    "/metrics": 200,
  });
  const body = (await (await get("/cluster")).json()) as {
    members: ReadonlyArray<{ name: string; role: string; port: number; last_seen: string }>;
  };
  assert.deepEqual(
    body.members.map(({ name: member, role, port }) => ({ member, role, port })),
    names(cluster).map((member) => ({
      member,
      role: member === at.primary ? "leader" : "replica",
      port: cluster.node(member).port,
    })),
  );
  for (const member of body.members) {
    const agoMs = Date.now() - Date.parse(member.last_seen);
    assert(agoMs < 10_000, `/cluster of ${name} saw ${member.name} last at ${member.last_seen}`);
  }
  const metrics = await (await get("/metrics")).text();
  assert.match(metrics, new RegExp(`^pg_replica_writable(\\{[^}]*\\})? ${isPrimary ? 1 : 0}$`, "m"));
}

async function expectCommandLine(cluster: DemoCluster, name: string, at: Standing): Promise<void> {
  const list = await pgReplica(cluster, name, "list", "-f", "json");
  assert.equal(list.code, 0, list.err);
  const { primary, leader, token, quorum, members } = JSON.parse(list.out) as Record<string, unknown> & {
    members: ReadonlyArray<{ member: string; role: string; timeline: number }>;
  };
  assert.deepEqual(
    { primary, leader, token, quorum },
    { primary: at.primary, leader: at.primary, token: at.token, quorum: true },
  );
  assert.deepEqual(members.map(({ member }) => member).sort(), names(cluster));
  assert.equal(members.find(({ role }) => role === "primary")?.member, at.primary);
  const history = await pgReplica(cluster, name, "history", "-f", "json");
  assert.equal(history.code, 0, history.err);
  const entries = JSON.parse(history.out) as ReadonlyArray<{ kind: string; token: string; node: string }>;
  const opened = entries.findLast(({ kind }) => kind === "opened");
  assert.deepEqual({ token: opened?.token, node: opened?.node }, { token: at.token, node: at.primary });
}

/** libpq itself, by the URL that `uri` prints and by the one of all hosts in a fixed order. */
async function expectMultiHost(cluster: DemoCluster, at: Standing): Promise<void> {
  const uri = await pgReplica(cluster, names(cluster)[0] ?? "", "uri", "-U", cluster.user);
  assert.equal(uri.code, 0, uri.err);
  for (const node of cluster.nodes) assert(uri.out.includes(`127.0.0.1:${node.port}`), `${node.name} in ${uri.out}`);
  const wanted = `${cluster.node(at.primary).port}|off`;
  for (const url of [uri.out, cluster.connectionString()]) {
    const ran = await psql(cluster, url, "SELECT current_setting('port'), current_setting('transaction_read_only')");
    assert.equal(ran.out, wanted, ran.err);
  }
}
