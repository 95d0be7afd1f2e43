// Files and ports that are not as they must be: the agent says which, changes nothing, tries again ever less often, and
// goes on by itself as soon as it can.
import assert from "node:assert/strict";
import { chmodSync, chownSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import type { DemoCluster } from "../../../src/cli/demo-cluster.js";
import { lockStateDir } from "../../../src/storage/index.js";
import { BadNode, identityOf, listing, startCluster } from "./node.js";

const asRoot = process.getuid?.() === 0;

describe("bad input: files and ports of a node", () => {
  let cluster: DemoCluster;
  /** A cluster of its own, stopped at the begin of each test. */
  let node: BadNode;
  let blockers: Server[] = [];

  before(async () => {
    cluster = await startCluster();
    node = await BadNode.create(cluster, "n");
    await node.init({ "pg_replica.bootstrap": "on", "pg_replica.peers": "" });
    node.start();
    await node.says(/is the primary under token/);
    await node.stop();
  });
  beforeEach(() => rmSync(node.logFile, { force: true }));
  afterEach(async () => {
    for (const blocker of blockers) await new Promise((resolve) => blocker.close(resolve));
    blockers = [];
    await node.stop();
  });
  after(() => cluster?.destroy());

  /** Until it has given up a few times: each time the pause doubles. */
  async function startsInVain(pattern: RegExp): Promise<string> {
    const before = identityOf(node);
    node.start();
    const [said] = await node.says(pattern);
    await node.says(/starting it again in 8\d\d ms/);
    const pauses = [...node.log().matchAll(/starting it again in (\d+) ms/g)].map(([, ms]) => Number(ms));
    assert.deepEqual(
      pauses.slice(0, 4).map((ms) => Math.round(ms / 100) * 100),
      [100, 200, 400, 800],
    );
    assert.deepEqual(identityOf(node), before);
    return said;
  }

  /** Once what was wrong is mended. */
  async function comesUp(): Promise<void> {
    await node.says(/agent \S+ of node n \(member 1\) is up on port/);
  }

  function block(at: number | string): Promise<void> {
    const blocker = createServer((socket) => socket.destroy());
    blockers.push(blocker);
    return new Promise((resolve, reject) => {
      blocker.once("error", reject);
      blocker.listen(
        typeof at === "number" ? { port: at, host: "127.0.0.1" } : { path: at, writableAll: true },
        resolve,
      );
    });
  }

  async function unblock(): Promise<void> {
    for (const blocker of blockers.splice(0)) await new Promise((resolve) => blocker.close(resolve));
  }

  it("raft_port in use", async () => {
    await block(node.raftPort);
    const said = await startsInVain(/the agent can not start: .*/);
    assert.match(said, /port \d+ on "127\.0\.0\.1" \(pg_replica\.raft_port\) is in use by another process/);
    assert.match(said, /stop it, or set pg_replica\.raft_port to a free port/);
    await unblock();
    await comesUp();
  });

  it("http_port in use", async () => {
    await block(node.httpPort);
    const said = await startsInVain(/the agent can not start: .*/);
    assert.match(said, /another program listens on 127\.0\.0\.1 port \d+ \(pg_replica\.http_port\)/);
    assert.match(said, /Set pg_replica\.http_port to a free port, or to 0 to turn HTTP off/);
    await unblock();
    await comesUp();
  });

  it("local socket in use", async () => {
    // What the last agent left.
    rmSync(node.socketPath, { force: true });
    await block(node.socketPath);
    const said = await startsInVain(/the agent can not start: .*/);
    assert.match(said, /another agent answers on \/\S+\.s\.pg_replica\.\d+\. Stop it, or use another port/);
    await unblock();
    await comesUp();
  });

  it("a file in the place of the local socket is left alone", async () => {
    rmSync(node.socketPath, { force: true });
    writeFileSync(node.socketPath, "somebody's");
    const said = await startsInVain(/the agent can not start: .*/);
    assert.match(said, /\.s\.pg_replica\.\d+ is there and is no socket\. Move it away/);
    assert.equal(readFileSync(node.socketPath, "utf8"), "somebody's");
    rmSync(node.socketPath);
    await comesUp();
  });

  it("a state directory that may not be read stops the server before it changes anything", async () => {
    const before = listing(node.pgdata);
    const { mode } = statSync(node.stateDir);
    chmodSync(node.stateDir, 0);
    try {
      const prepared = await node.pgReplica("prepare", "-D", node.pgdata, "--bindir", cluster.bindir);
      assert.equal(prepared.code, 2, prepared.text);
      assert.match(prepared.text, /\/pg_replica \(pg_replica\.state_dir\) can not be read: make it .* owned by/);
      const ran = await node.runServer();
      assert.equal(ran.code, 1, ran.text);
      assert.match(ran.text, /FATAL: .*pg_replica: could not look for "\S+rejoin\.json": Permission denied/);
      assert.match(ran.text, /HINT: .*The server's user must be able to read the directory pg_replica\.state_dir/);
    } finally {
      chmodSync(node.stateDir, mode);
    }
    assert.deepEqual(listing(node.pgdata), before);
  });

  it("a state directory of another user", { skip: asRoot ? false : "needs root to give a file away" }, async () => {
    const { uid, gid } = statSync(node.stateDir);
    chownSync(node.stateDir, 0, 0);
    chmodSync(node.stateDir, 0o755);
    try {
      const said = await startsInVain(/the agent can not start: .*/);
      assert.match(said, /\/pg_replica: preparing the state directory failed: EPERM/);
      assert.match(said, /Make the state directory and its files owned by the server's operating system user/);
    } finally {
      chownSync(node.stateDir, uid, gid);
      chmodSync(node.stateDir, 0o700);
    }
    await comesUp();
  });

  it("a file in the place of the state directory stops prepare and the agent", async () => {
    const aside = `${node.stateDir}.aside`;
    renameSync(node.stateDir, aside);
    writeFileSync(node.stateDir, "somebody's");
    try {
      node.start();
      await node.says(
        /error: \S+\/pg_replica \(pg_replica\.state_dir\) is no directory: move it away, or correct the setting/,
      );
      await node.says(/prepare refused to go on: an operator has to act/);
      await assert.rejects(
        lockStateDir(node.stateDir, 0),
        /EEXIST.*Something that is no directory stands in its place/,
      );
      assert.equal(readFileSync(node.stateDir, "utf8"), "somebody's");
    } finally {
      rmSync(node.stateDir);
      renameSync(aside, node.stateDir);
    }
    node.start();
    await comesUp();
  });

  it("corrupt meta", async () => {
    const mend = damage("meta", 20);
    const said = await startsInVain(/the agent can not start: .*/);
    assert.match(said, /\/pg_replica\/meta: the checksum is wrong: the file was edited or damaged/);
    assert.match(
      said,
      /Do not edit or delete single files: remove the whole state directory and let the node join again/,
    );
    mend();
    await comesUp();
  });

  it("corrupt raft-log", async () => {
    const mend = damage("raft-log", 100);
    const said = await startsInVain(/the agent can not start: .*/);
    assert.match(
      said,
      /\/pg_replica\/raft-log: the first batch, which was durable before the file got its name, is damaged/,
    );
    assert.match(said, /remove the whole state directory and let the node join again under a new id/);
    mend();
    await comesUp();
  });

  it("a lost raft-log is not taken for a new one", async () => {
    const path = join(node.stateDir, "raft-log");
    renameSync(path, `${path}.aside`);
    const said = await startsInVain(/the agent can not start: .*/);
    assert.match(said, /raft-log: the Raft log is missing although meta is there/);
    renameSync(`${path}.aside`, path);
    await comesUp();
  });

  it("a secret that others can read, and one that is not there", async () => {
    chmodSync(cluster.secretFile, 0o644);
    try {
      const said = await startsInVain(/the agent can not start: .*/);
      assert.match(said, /\/secret \(pg_replica\.secret_file\) can be read or written by others \(mode 644\)/);
      assert.match(said, /Run: chmod 600 \/\S+\/secret/);
    } finally {
      chmodSync(cluster.secretFile, 0o600);
    }
    await comesUp();
    await node.stop();
    rmSync(node.logFile);
    node.set({ "pg_replica.secret_file": "/nowhere/secret" });
    const said = await startsInVain(/the agent can not start: .*/);
    assert.match(said, /the file \/nowhere\/secret \(pg_replica\.secret_file\) can not be read: ENOENT/);
    await node.stop();
    node.set({ "pg_replica.secret_file": cluster.secretFile });
  });

  it("no Node.js where pg_replica.node_path says", async () => {
    node.set({ "pg_replica.node_path": "/nowhere/node" });
    try {
      const before = identityOf(node);
      node.start();
      await node.says(
        /could not find the Node\.js program "\/nowhere\/node": set pg_replica\.node_path to its full path/,
      );
      assert.deepEqual(identityOf(node), before);
      const ran = await node.pgReplica("list", "-D", node.pgdata);
      assert.equal(ran.code, 1, ran.text);
      assert.match(ran.text, /no agent answers at \S+/);
      assert.match(ran.text, /hint: .*Its log says why the agent does not run/);
    } finally {
      await node.stop();
      node.set({ "pg_replica.node_path": process.execPath });
    }
  });

  it("prepare finds a state directory that is elsewhere, and supervise with it", async () => {
    const elsewhere = join(cluster.directory, "n-state");
    renameSync(node.stateDir, elsewhere);
    node.set({ "pg_replica.state_dir": elsewhere });
    const intent = join(elsewhere, "rejoin.json");
    writeFileSync(intent, "no intent");
    try {
      const ran = await node.pgReplica("prepare", "-D", node.pgdata, "--bindir", cluster.bindir);
      assert.notEqual(ran.code, 0, ran.text);
      assert.match(ran.text, /n-state\/rejoin\.json/);
      rmSync(intent);
      node.start();
      await comesUp();
    } finally {
      await node.stop();
      rmSync(intent, { force: true });
      renameSync(elsewhere, node.stateDir);
      node.set({ "pg_replica.state_dir": "" });
    }
  });

  /** Turns one bit. @returns what turns it back, as the same file */
  function damage(name: string, at: number): () => void {
    const path = join(node.stateDir, name);
    const good = readFileSync(path);
    const bad = Buffer.from(good);
    bad[at] = (bad[at] ?? 0) ^ 1;
    writeFileSync(path, bad);
    return () => writeFileSync(path, good);
  }
});
