import assert from "node:assert/strict";
import { existsSync, lstatSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { readControlFile } from "../../../src/postgres/control-file.js";
import { diverge, makeStandby, own, run, Server, startsAndStreams, temporaryDirectory } from "./servers.js";

let directory: string;
let a: Server;
let b: Server;

before(async () => {
  directory = temporaryDirectory();
  a = await Server.create("a", directory);
  b = await Server.create("b", directory);
  const wal = join(directory, "wal-of-a");
  a.initialise(wal);
  a.start();
  const space = join(directory, "space-a");
  mkdirSync(space);
  own(space);
  await a.query(`CREATE TABLESPACE space LOCATION '${space}'`);
  await a.query("CREATE TABLE spaced (n int) TABLESPACE space");
  await a.query("CREATE TABLE mark (t text)");
  await a.query("INSERT INTO mark VALUES ('first')");
  makeStandby(b, a);
});

after(() => {
  for (const server of [a, b]) server.stop("immediate");
  rmSync(directory, { recursive: true, force: true });
});

describe("the reader of pg_control", () => {
  it("agrees with pg_controldata", () => {
    const fields = new Map(
      run("pg_controldata", [b.pgdata])
        .split("\n")
        .map((line) => [line.split(":")[0] ?? "", line.slice(line.indexOf(":") + 1).trim()]),
    );
    const control = readControlFile(b.pgdata);
    assert.equal(control.systemIdentifier, fields.get("Database system identifier"));
    assert.equal(control.state, fields.get("Database cluster state"));
    assert.equal(control.checkpointLsn, fields.get("Latest checkpoint location"));
    assert.equal(control.redoLsn, fields.get("Latest checkpoint's REDO location"));
    assert.equal(String(control.timeline), fields.get("Latest checkpoint's TimeLineID"));
    assert.equal(control.minRecoveryPoint, fields.get("Minimum recovery ending location"));
    assert.equal(String(control.minRecoveryPointTimeline), fields.get("Min recovery ending loc's timeline"));
    assert.equal(String(control.walSegmentBytes), fields.get("Bytes per WAL segment"));
    assert.equal(control.walLogHints ? "on" : "off", fields.get("wal_log_hints setting"));
    assert.equal(control.dataChecksums, fields.get("Data page checksum version") !== "0");
  });
});

describe("prepare", () => {
  it("does nothing when nothing is asked for, even on a running server", async () => {
    const result = await a.prepare();
    assert.equal(result.action, "none", result.text);
    assert.deepEqual(result.steps, []);
  });

  it("changes nothing while the source is in recovery, and says so", async () => {
    await a.ask(b, { timeline: 1 });
    a.stop();
    const result = await a.prepare({ sourceDeadlineMs: 300 });
    assert.equal(result.status, 1);
    assert.match(result.text, /PREPARE_SOURCE_NOT_READY.*\n.*in recovery/);
    assert.deepEqual(result.steps, []);
    rmSync(join(a.stateDir, "rejoin.json"));
    a.start();
  });

  it("refuses a source of another cluster", async () => {
    await b.ask(a, { systemIdentifier: "4711" });
    b.stop();
    const result = await b.prepare({ sourceDeadlineMs: 300 });
    assert.match(result.text, /another cluster/);
    assert.deepEqual(result.steps, []);
    rmSync(join(b.stateDir, "rejoin.json"));
    b.start();
  });

  it("refuses to touch a directory that a server uses", async () => {
    await b.ask(a);
    const { text } = await b.prepare({ sourceDeadlineMs: 300 });
    assert.match(text, /PREPARE_SERVER_RUNNING/);
    rmSync(join(b.stateDir, "rejoin.json"));
  });

  it("rewinds a killed primary, drops its unreplicated rows and keeps its pg_wal link", async () => {
    await diverge(a, b, "rewind");
    await a.ask(b);
    const result = await a.prepare();
    assert.equal(result.action, "rewound", result.text);
    await startsAndStreams(a, b);
    assert.equal(await a.value("SELECT count(*)::int FROM mark WHERE t LIKE 'lost%'"), 0);
    assert.ok(lstatSync(join(a.pgdata, "pg_wal")).isSymbolicLink());
  });

  it("rebuilds when the WAL since the fork is gone", async () => {
    await diverge(b, a, "no-wal");
    await b.ask(a);
    // The last common checkpoint lies in WAL that is not here any more.
    const control = readControlFile(b.pgdata);
    assert.equal(control.state, "in production");
    assert.equal((await b.prepare({ killAt: "phase:ready" })).status, null);
    const wal = join(b.stateDir, "staging", "pg_wal");
    rmSync(wal, { recursive: true });
    mkdirSync(join(wal, "archive_status"), { recursive: true, mode: 0o700 });
    for (const path of [wal, join(wal, "archive_status")]) own(path);
    const result = await b.prepare();
    assert.equal(result.action, "rebuilt", result.text);
    await startsAndStreams(b, a);
  });

  it("uses another member when the named source is gone, and then takes a full copy", async () => {
    await diverge(a, b, "candidate");
    const gone = { node: "c", dsn: "host=127.0.0.1 port=1 user=postgres dbname=postgres" };
    await a.ask(b, { source: gone, candidates: [{ node: "b", dsn: b.dsn }] });
    const result = await a.prepare();
    assert.equal(result.action, "rebuilt", result.text);
    await startsAndStreams(a, b);
    assert.ok(lstatSync(join(a.pgdata, "pg_wal")).isSymbolicLink());
  });

  it("lets only one run at a time", async () => {
    await diverge(b, a, "lock");
    await b.ask(a);
    const [one, two] = await Promise.all([b.prepare(), b.prepare()]);
    const outcomes = [one, two].map(
      (result) => result.action ?? (/PREPARE_LOCKED/.test(result.text) ? "locked" : result.text),
    );
    assert.ok(outcomes.includes("rewound"), outcomes.join("\n"));
    // The second one may also have come when the first had finished.
    assert.ok(outcomes.includes("locked") || outcomes.includes("none"), outcomes.join("\n"));
    await startsAndStreams(b, a);
  });
});

describe("a standby that is behind the fork", () => {
  const newTimeline = async (server: Server) => {
    server.stop();
    writeFileSync(join(server.pgdata, "standby.signal"), "");
    own(join(server.pgdata, "standby.signal"));
    server.follow(server);
    server.start();
    await server.promote();
  };
  const roles = async () =>
    ((await a.value("SELECT pg_is_in_recovery()")) === true ? [b, a] : [a, b]) as [Server, Server];

  it("is left as it is when it was stopped cleanly", async () => {
    const [primary, standby] = await roles();
    standby.stop();
    await newTimeline(primary);
    await standby.ask(primary);
    const result = await standby.prepare();
    assert.equal(result.action, "unchanged", result.text);
    await startsAndStreams(standby, primary);
  });

  it("is rebuilt when it was killed: crash recovery would write WAL that pg_rewind takes for the primary's", async () => {
    const [primary, standby] = await roles();
    await standby.killPostmaster();
    await newTimeline(primary);
    await standby.ask(primary);
    const result = await standby.prepare();
    assert.equal(result.action, "rebuilt", result.text);
    assert.match(result.text, /did not stop cleanly/);
    await startsAndStreams(standby, primary);
  });
});

describe("a killed prepare", () => {
  it("ends well when it is killed after every single step", async () => {
    await diverge(a, b, "steps");
    await a.ask(b);
    const killed = new Set<string>();
    let refused = 0;
    for (;;) {
      // Each run is ended at the first step at which none was ended before.
      const result = await a.prepare({ killAt: allSteps.find((step) => !killed.has(step)) ?? "none" });
      if (result.status !== null) {
        assert.equal(result.status, 0, result.text);
        break;
      }
      killed.add(result.steps.at(-1) ?? "");
      if (!existsSync(join(a.pgdata, "PG_VERSION"))) {
        assert.ok(a.refusesToStart(), `a plain start was not refused after ${result.steps.at(-1)}`);
        refused += 1;
      }
    }
    assert.ok(killed.size >= 15, [...killed].join(" "));
    assert.ok(refused >= 10, `${refused}`);
    await startsAndStreams(a, b);
  });

  it("ends well when its process group is killed at random moments", async () => {
    let [old, next] = [b, a];
    let kills = 0;
    for (let round = 0; round < 4; round += 1) {
      await diverge(old, next, `random-${round}`);
      await old.ask(next);
      for (let attempt = 0; attempt < 4; attempt += 1) {
        const result = await old.prepare({ killAfterMs: 150 + Math.floor(Math.random() * 1200) });
        if (result.status === null) kills += 1;
        else assert.equal(result.status, 0, result.text);
      }
      const result = await old.prepare();
      assert.equal(result.status, 0, result.text);
      await startsAndStreams(old, next);
      [old, next] = [next, old];
    }
    assert.ok(kills > 0, "no run was killed");
  });
});

const allSteps = [
  "phase:recover",
  "phase:move-out",
  "move-out:PG_VERSION",
  "move-out:base",
  "move-out:global",
  "move-out:pg_wal",
  "move-out:pg_xact",
  "phase:ready",
  "phase:rewind",
  "phase:rebuild",
  "deleted",
  "phase:move-in",
  "standby-signal",
  "move-in:base",
  "move-in:global",
  "move-in:pg_tblspc",
  "move-in:pg_wal",
  "move-in:PG_VERSION",
  "staging-removed",
  "intent-removed",
];
