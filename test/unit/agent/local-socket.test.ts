import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { CommandError } from "../../../src/agent/errors.js";
import { type CommandHandler, LocalSocket, localSocketPath } from "../../../src/agent/local-socket.js";

async function listening(context: TestContext, handle: CommandHandler): Promise<LocalSocket> {
  const directory = mkdtempSync(join(tmpdir(), "pg-replica-socket-"));
  const socket = new LocalSocket(localSocketPath(directory, 5432), handle, (text) => assert.fail(text));
  await socket.start();
  context.after(async () => {
    await socket.stop();
    rmSync(directory, { recursive: true, force: true });
  });
  return socket;
}

function ask(path: string, text: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = createConnection(path, () => socket.write(text));
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      answer += chunk;
    });
    socket.on("error", reject);
    socket.on("end", () => resolve(JSON.parse(answer)));
  });
}

test("answers one JSON line with one JSON line", async (context) => {
  const socket = await listening(context, async (command, args) => ({ command, args }));
  assert.deepEqual(await ask(socket.path, '{"command":"status","args":{"a":1}}\n'), {
    ok: true,
    result: { command: "status", args: { a: 1 } },
  });
});

test("a command's error carries code, message, hint and SQLSTATE", async (context) => {
  const socket = await listening(context, async () => {
    throw new CommandError("unknown-node", 'there is no node "x"', "The nodes are: a.", "22023");
  });
  assert.deepEqual(await ask(socket.path, '{"command":"failover"}\n'), {
    ok: false,
    error: { code: "unknown-node", message: 'there is no node "x"', hint: "The nodes are: a.", sqlstate: "22023" },
  });
});

for (const [what, text] of [
  ["text that is not JSON", "hello\n"],
  ["JSON that is not a request", "[1]\n"],
  ["a request without a command", '{"args":{}}\n'],
] as const) {
  test(`${what} is refused and changes nothing`, async (context) => {
    const socket = await listening(context, async () => assert.fail("no command may run"));
    const answer = (await ask(socket.path, text)) as { ok: boolean; error: { code: string } };
    assert.equal(answer.ok, false);
    assert.equal(answer.error.code, "bad-request");
  });
}

test("a request that never ends is cut off at 64 KiB", async (context) => {
  const socket = await listening(context, async () => assert.fail("no command may run"));
  const answer = (await ask(socket.path, "x".repeat(70_000))) as { error: { code: string } };
  assert.equal(answer.error.code, "too-large");
});

test("only the server's user may connect", async (context) => {
  const socket = await listening(context, async () => null);
  assert.equal(statSync(socket.path).mode & 0o777, 0o600);
});

test("a socket file that a killed agent left behind is replaced", async (context) => {
  const first = await listening(context, async () => "first");
  await first.stop();
  const again = new LocalSocket(
    first.path,
    async () => "second",
    (text) => assert.fail(text),
  );
  await again.start();
  context.after(() => again.stop());
  assert.deepEqual(await ask(first.path, '{"command":"status"}\n'), { ok: true, result: "second" });
});

test("a socket on which somebody answers is not taken over", async (context) => {
  const directory = mkdtempSync(join(tmpdir(), "pg-replica-socket-"));
  const path = localSocketPath(directory, 5432);
  const other = createServer(() => {});
  await new Promise<void>((resolve) => other.listen(path, resolve));
  context.after(() => {
    other.close();
    rmSync(directory, { recursive: true, force: true });
  });
  await assert.rejects(
    new LocalSocket(
      path,
      async () => null,
      () => {},
    ).start(),
    /another agent answers on/,
  );
});

test("a path that is too long for a Unix socket is refused by name", async () => {
  const path = localSocketPath(`/tmp/${"d".repeat(120)}`, 5432);
  await assert.rejects(
    new LocalSocket(
      path,
      async () => null,
      () => {},
    ).start(),
    /too long for a Unix socket/,
  );
});
