import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { chmodSync, closeSync, copyFileSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { parseControlFile, readControlFile } from "../../../src/postgres/control-file.js";
import { acquireToolLock } from "../../../src/postgres/prepare/lock.js";
import { parseProgress, runTool, toolConnection } from "../../../src/postgres/tools.js";
import { crc32c } from "../../../src/storage/crc32c.js";

const directory = mkdtempSync(join(tmpdir(), "pg_replica-tools-"));
after(() => rmSync(directory, { recursive: true, force: true }));

describe("the reader of pg_control", () => {
  const image = (version: number, crcAt: number) => {
    const bytes = Buffer.alloc(8192);
    bytes.writeBigUInt64LE(7_000_000_000_000_000_001n, 0);
    bytes.writeUInt32LE(version, 8);
    bytes.writeUInt32LE(1, 16);
    bytes.writeBigUInt64LE(0x1_0000_0028n, 32);
    bytes.writeUInt32LE(3, 48);
    bytes.writeDoubleLE(1234567, 208);
    bytes.writeUInt32LE(16_777_216, 228);
    bytes.writeUInt32LE(crc32c(bytes.subarray(0, crcAt)), crcAt);
    return bytes;
  };

  it("computes CRC-32C", () => {
    assert.equal(crc32c(Buffer.from("123456789")), 0xe3069283);
  });

  it("reads the layouts of 13 to 18", () => {
    for (const [version, crcAt] of [
      [1300, 288],
      [1700, 288],
      [1800, 292],
    ] as const) {
      const control = parseControlFile(image(version, crcAt), "pg_control");
      assert.deepEqual(
        [control.systemIdentifier, control.state, control.checkpointLsn, control.timeline],
        ["7000000000000000001", "shut down", "1/28", 3],
      );
    }
  });

  it("refuses a damaged, short, unknown or missing file", () => {
    const damaged = image(1300, 288);
    damaged.writeUInt8(1, 100);
    assert.throws(() => parseControlFile(damaged, "f"), { code: "CONTROL_FILE_DAMAGED" });
    assert.throws(() => parseControlFile(Buffer.alloc(10), "f"), { code: "CONTROL_FILE_DAMAGED" });
    assert.throws(() => parseControlFile(image(1201, 288), "f"), { code: "CONTROL_FILE_VERSION" });
    assert.throws(() => readControlFile(directory), { code: "CONTROL_FILE_UNREADABLE" });
  });
});

describe("running a tool", () => {
  const tool = (name: string, script: string) => {
    writeFileSync(join(directory, name), `#!/bin/sh\n${script}\n`);
    chmodSync(join(directory, name), 0o755);
    return name;
  };

  it("gives the tool's last words in the error", async () => {
    const run = runTool({ bindir: directory, tool: tool("fails", "echo 'pg: no such thing' >&2; exit 3"), args: [] });
    await assert.rejects(run, {
      code: "TOOL_FAILED",
      message: "fails exited with status 3; it said last:\n  pg: no such thing",
    });
  });

  it("says when the program is not there", async () => {
    await assert.rejects(runTool({ bindir: directory, tool: "missing", args: [] }), { code: "TOOL_NOT_FOUND" });
  });

  it("hands progress on and keeps it out of the output", async () => {
    const seen: number[] = [];
    const script = "printf '  10/40 kB (25%%), 0/1 tablespace\\r 40/40 kB (100%%)\\n' >&2; echo done";
    const lines = await runTool({
      bindir: directory,
      tool: tool("progress", script),
      args: [],
      onProgress: (progress) => seen.push(progress.doneBytes),
    });
    assert.deepEqual([seen, lines], [[10_240, 40_960], ["done"]]);
    assert.equal(parseProgress("nothing"), null);
  });

  it("keeps a password off the command line", () => {
    const { dsn, environment } = toolConnection("host=a password=secret", "x");
    assert.doesNotMatch(dsn, /secret/);
    assert.deepEqual(environment, { PGPASSWORD: "secret" });
    assert.throws(() => toolConnection("host=a sslpassword=x", "x"), { code: "CONNINFO_UNSUPPORTED" });
  });
});

describe("the lock of the tools", () => {
  it("ends a tool that a killed prepare left behind, and is then free", async () => {
    const path = join(directory, "prepare.lock");
    const fd = openSync(path, "a");
    // A program by the name of a tool, that inherits the locked file as pg_basebackup's WAL streamer does.
    copyFileSync("/bin/sleep", join(directory, "pg_basebackup"));
    chmodSync(join(directory, "pg_basebackup"), 0o755);
    const locker = spawn("flock", ["-n", "3"], { stdio: ["ignore", "ignore", "inherit", fd] });
    await new Promise((resolve) => locker.on("exit", resolve));
    const left = spawn(join(directory, "pg_basebackup"), ["600"], { stdio: ["ignore", "ignore", "ignore", fd] });
    const ended = new Promise((resolve) => left.on("exit", (_, signal) => resolve(signal)));
    closeSync(fd);
    const said: string[] = [];
    const lock = await acquireToolLock(directory, (message) => said.push(message));
    assert.equal(await ended, "SIGKILL");
    assert.match(said.join("\n"), new RegExp(`pg_basebackup \\(pid ${left.pid}\\)`));
    lock.release();
  });

  it("is refused while another process holds it, which is left alone", async () => {
    const other = spawn("flock", ["-n", join(directory, "prepare.lock"), "sh", "-c", "echo ready; read line"]);
    await new Promise((resolve) => other.stdout.once("data", resolve));
    await assert.rejects(
      acquireToolLock(directory, () => {}),
      { code: "PREPARE_LOCKED" },
    );
    assert.equal(other.exitCode, null);
    assert.equal(other.signalCode, null);
    const ended = new Promise((resolve) => other.on("exit", resolve));
    other.stdin.end("\n");
    await ended;
  });
});
