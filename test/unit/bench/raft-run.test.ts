import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("../../../bench/raft.js", import.meta.url));

let directory = "";
let mark = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "raft-bench-test-"));
  mark = `PG_REPLICA_BENCH_TEST=${directory}`;
});

afterEach(() => {
  for (const pid of marked()) process.kill(pid, "SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

function bench(...args: string[]): ChildProcess {
  return spawn(process.execPath, [program, "--directory", directory, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, PG_REPLICA_BENCH_TEST: directory },
  });
}

/** The bench and its nodes inherit a mark in their environment. */
function marked(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(mark);
      } catch {
        return false;
      }
    })
    .map(Number);
}

function textOf(stream: NodeJS.ReadableStream | null): { text: string } {
  const box = { text: "" };
  stream?.on("data", (chunk: Buffer) => {
    box.text += chunk;
  });
  return box;
}

/** Waits for a condition; the deadline only bounds a failing test. */
async function until(condition: () => boolean, what: string): Promise<void> {
  for (const deadline = performance.now() + 60_000; !condition(); ) {
    if (performance.now() > deadline) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("a quick run measures everything, prints one JSON object last and leaves nothing behind", async () => {
  const run = bench("--quick", "--json");
  const [out, err] = [textOf(run.stdout), textOf(run.stderr)];
  const [code] = await once(run, "close");
  assert.equal(code, 0, err.text);
  const result = JSON.parse(out.text.trimEnd().split("\n").at(-1) as string);
  assert.equal(result.sizes.length, 1);
  const [size] = result.sizes;
  assert.equal(size.nodes, 3);
  for (const value of [
    size.killed.medianMs,
    size.silent.p99Timeouts,
    size.single.perSecond,
    size.single.ratio,
    size.batched.perSecond,
    size.perCommitSingle.bytes,
    size.perCommitBatched.syncs,
    size.log.maxBytes,
    size.memory.followerBytes,
    size.restart.medianMs,
    result.machine.fdatasyncMs,
  ])
    assert.ok(typeof value === "number" && value > 0, JSON.stringify(size));
  assert.deepEqual(readdirSync(directory), []);
  assert.deepEqual(marked(), []);
});

test("a bench that is stopped in the middle ends its nodes and removes their logs", async () => {
  const run = bench("--quick", "--proposals", "100000000");
  const err = textOf(run.stderr);
  await until(() => err.text.includes("one client"), "the load is on its way");
  assert.equal(marked().length, 4);
  run.kill("SIGTERM");
  const [code] = await once(run, "close");
  assert.equal(code, 2);
  assert.match(err.text, /raft: stopped/);
  assert.deepEqual(readdirSync(directory), []);
  assert.deepEqual(marked(), []);
});

test("a bench whose reader goes away ends its nodes and removes their logs", async () => {
  const run = bench("--quick");
  const err = textOf(run.stderr);
  await until(() => err.text.includes("one client"), "it tells something");
  run.stderr?.destroy();
  run.stdout?.destroy();
  await once(run, "exit");
  assert.deepEqual(readdirSync(directory), []);
  await until(() => marked().length === 0, "its nodes are gone");
});

test("the nodes of a bench that is killed end by themselves", async () => {
  const run = bench("--quick", "--proposals", "100000000");
  await until(() => marked().length === 4, "three nodes are there");
  run.kill("SIGKILL");
  await until(() => marked().length === 0, "they are gone");
});

test("wrong arguments end with code 2 and say what is wrong", async () => {
  const run = bench("--nodes", "three");
  const err = textOf(run.stderr);
  const [code] = await once(run, "close");
  assert.equal(code, 2);
  assert.match(err.text, /--nodes takes a whole number from 2, not "three"/);
});
