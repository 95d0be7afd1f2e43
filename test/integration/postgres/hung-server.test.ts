import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { childPids, TestCluster, type TestServer } from "./servers.js";

const deadlines = { connectMs: 300, queryMs: 300, probeMs: 300, checkpointMs: 300 };

describe("a server that hangs", () => {
  const cluster = new TestCluster();
  let primary: TestServer;
  before(async () => {
    primary = await cluster.primary();
  });
  after(() => cluster.close());

  it("with a frozen postmaster fails new connections by their deadline, not open ones", async () => {
    const open = primary.local(deadlines);
    assert.equal((await open.observe()).reachable, true);
    primary.signal("SIGSTOP");
    try {
      assert.equal((await open.observe()).reachable, true);
      const seen = await primary.local(deadlines).observe();
      assert.equal(seen.reachable, false);
      assert.match(seen.why ?? "", /no answer to a connection within 300 ms/);
    } finally {
      primary.signal("SIGCONT");
    }
  });

  it("with every process frozen fails everything by deadline, and is found again afterwards", async () => {
    const local = primary.local(deadlines);
    assert.equal((await local.observe()).reachable, true);
    await local.probeCommit("");
    const pids = [primary.postmasterPid, ...childPids(primary.postmasterPid)];
    for (const pid of pids) process.kill(pid, "SIGSTOP");
    try {
      assert.equal((await local.observe()).reachable, false);
      await assert.rejects(local.probeCommit(""), { code: "SERVER_DEADLINE" });
      await assert.rejects(local.checkpoint(), { code: "SERVER_DEADLINE" });
    } finally {
      for (const pid of pids) process.kill(pid, "SIGCONT");
    }
    assert.equal((await local.observe()).reachable, true);
    await local.probeCommit("");
  });

  it("with only the probe's backend frozen fails the probe, then works on a new connection", async () => {
    const local = primary.local(deadlines);
    await local.probeCommit("");
    const backend = Number(
      await primary.value(
        "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_replica.probe%' AND state = 'idle' ORDER BY backend_start DESC LIMIT 1",
      ),
    );
    process.kill(backend, "SIGSTOP");
    try {
      await assert.rejects(local.probeCommit(""), { code: "SERVER_DEADLINE" });
      await local.probeCommit("");
    } finally {
      process.kill(backend, "SIGCONT");
    }
  });

  it("is not reachable after its death, says why, and raises no stray error", async () => {
    const local = primary.local(deadlines);
    assert.equal((await local.observe()).reachable, true);
    await local.probeCommit("");
    await primary.killAll();
    const seen = await local.observe();
    assert.equal(seen.reachable, false);
    assert.equal(seen.inRecovery, null);
    assert.ok(seen.why);
    await assert.rejects(local.probeCommit(""), { code: "SERVER_UNREACHABLE" });
  });
});

describe("sessions of others", () => {
  const cluster = new TestCluster();
  after(() => cluster.close());
  it("are ended, the agent's own are not", async () => {
    const primary = await cluster.primary();
    const local = primary.local();
    await local.probeCommit("");
    const client = await primary.client();
    await client.query("BEGIN");
    assert.equal(await local.terminateClients(), 1);
    await assert.rejects(client.query("SELECT 1"));
    assert.equal(await local.terminateClients(), 0);
    await local.probeCommit("");
  });
});
