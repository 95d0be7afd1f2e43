import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { bindir, caughtUp, own, Server, temporaryDirectory, user } from "./servers.js";

let directory: string;
let a: Server;
let b: Server;

const driver = join(dirname(fileURLToPath(import.meta.url)), "clone-driver.js");

function runDriver(input: Record<string, unknown>): Promise<{ status: number | null; text: string; out: string }> {
  const child = spawn(process.execPath, [driver, JSON.stringify({ bindir, user, ...input })], {
    detached: true,
    cwd: "/",
  });
  let text = "";
  let out = "";
  child.stderr.on("data", (data) => {
    text += String(data);
  });
  child.stdout.on("data", (data) => {
    out += String(data);
  });
  return new Promise((resolve) => child.on("close", (status) => resolve({ status, text, out })));
}

before(async () => {
  directory = temporaryDirectory();
  a = await Server.create("a", directory);
  b = await Server.create("b", directory);
  const made = await runDriver({ action: "init", pgdata: a.pgdata });
  assert.equal(made.status, 0, made.text);
  a.configure();
  writeFileSync(join(a.pgdata, "pg_replica.conf"), "cluster_name = 'a'\n");
  own(join(a.pgdata, "pg_replica.conf"));
  a.start();
  await a.query("CREATE TABLE mark (t text)");
});

after(() => {
  for (const server of [a, b]) server.stop("immediate");
  rmSync(directory, { recursive: true, force: true });
});

describe("init", () => {
  it("makes a cluster with checksums, UTF8 and C.UTF-8", async () => {
    assert.equal(await a.value("SHOW data_checksums"), "on");
    assert.equal(await a.value("SHOW server_encoding"), "UTF8");
    assert.equal(await a.value("SHOW lc_collate"), "C.UTF-8");
  });

  it("says what initdb says about a directory that is not empty", async () => {
    const { status, text } = await runDriver({ action: "init", pgdata: a.pgdata });
    assert.equal(status, 1);
    assert.match(text, /TOOL_FAILED.*\n(.*\n)*.*not empty/);
  });
});

describe("clone", () => {
  it("refuses a directory that holds something else, and changes nothing", async () => {
    const foreign = join(directory, "foreign");
    mkdirSync(foreign);
    writeFileSync(join(foreign, "letter"), "x");
    own(foreign);
    const { status, text } = await runDriver({ action: "clone", pgdata: foreign, sourceDsn: a.dsn });
    assert.equal(status, 1);
    assert.match(text, /CLONE_DIRECTORY_NOT_EMPTY.*"letter"/);
    assert.deepEqual(readdirSync(foreign), ["letter"]);
  });

  it("is made again or finished after a kill at each step, and then streams", async () => {
    for (const killAt of [
      "phase:copy",
      "progress",
      "phase:move-in",
      "move-in:postgresql.conf",
      "move-in:base",
      "move-in:PG_VERSION",
    ]) {
      const { status, text } = await runDriver({ action: "clone", pgdata: b.pgdata, sourceDsn: a.dsn, killAt });
      assert.equal(status, null, `${killAt}: ${text}`);
      const complete = existsSync(join(b.pgdata, "PG_VERSION"));
      assert.ok(complete === (killAt === "move-in:PG_VERSION"), killAt);
      if (!complete) assert.ok(b.refusesToStart(), killAt);
    }
    const { status, text, out } = await runDriver({ action: "clone", pgdata: b.pgdata, sourceDsn: a.dsn });
    assert.equal(status, 0, text);
    assert.equal((JSON.parse(out) as { systemIdentifier: string }).systemIdentifier.length > 10, true);
    assert.ok(!existsSync(join(b.pgdata, "pg_replica.conf")), "the source's node settings are not taken over");
    assert.ok(!existsSync(join(b.stateDir, "meta")), "the source's identity is not taken over");
    assert.ok(!existsSync(join(b.stateDir, "clone.phase")));
    assert.match(readFileSync(join(b.pgdata, "postgresql.auto.conf"), "utf8"), /^primary_conninfo = ''$/m);
    assert.equal(statSync(b.pgdata).mode & 0o777, 0o700);
    b.configure();
    b.follow(a);
    b.start();
    await a.query("INSERT INTO mark VALUES ('x')");
    await caughtUp(a, b);
    assert.equal(await b.value("SELECT t FROM mark"), "x");
  });
});
