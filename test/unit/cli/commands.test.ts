import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, test } from "node:test";
import { askSocket, findAgent, readView, splitHostPort } from "../../../src/cli/agent-client.js";
import { CliError, errorLines } from "../../../src/cli/errors.js";
import { runFailover, runPause } from "../../../src/cli/failover.js";
import { buildProgram } from "../../../src/cli/program.js";
import { runProgram } from "../../../src/cli/run.js";
import type { NodeView } from "../../../src/control/types.js";
import { fakeMember, primaryView } from "../http/fake-view.js";
import { type FakeAgent, fakeTerminal, startFakeAgent } from "./fake-agent.js";

let agent: FakeAgent | null = null;
afterEach(async () => {
  await agent?.stop();
  agent = null;
});

/** After the switchover to b. */
const later: NodeView = primaryView({
  primary: "b",
  token: { term: 5, index: 30 },
  members: [fakeMember(1, "a", { role: "standby", state: "streaming" }), fakeMember(2, "b", { role: "primary" })],
  history: [
    ...primaryView().history,
    { index: 29, atMs: 1_700_000_200_000, kind: "handover", token: null, node: "b", text: "Switchover to b." },
    {
      index: 30,
      atMs: 1_700_000_200_089,
      kind: "opened",
      token: { term: 5, index: 30 },
      node: "b",
      text: "b is open.",
    },
  ],
});

/** Shows `later` some polls after `failover` was asked for. */
async function switchingAgent(polls = 2): Promise<FakeAgent> {
  let left: number | null = null;
  agent = await startFakeAgent((command) => {
    if (command === "failover") {
      left = polls;
      return "switchover from a to b started";
    }
    if (left === null) return primaryView();
    left -= 1;
    return left > 0 ? primaryView({ phase: "recruit" }) : later;
  });
  return agent;
}

const options = {
  kind: "switchover",
  candidate: "b",
  allowDataLoss: false,
  deadlineMs: 5000,
  yes: true,
  dryRun: false,
} as const;

test("switchover waits until the new primary is open and prints the timeline", async () => {
  const fake = await switchingAgent(3);
  const terminal = fakeTerminal();
  await runFailover(await findAgent({ socket: fake.path }), options, terminal);
  assert.deepEqual(fake.calls.find((call) => call.command === "failover")?.args, {
    target: "b",
    allow_data_loss: false,
  });
  assert.deepEqual(terminal.lines, [
    "note: switchover from a to b started",
    "      0 ms  Switchover to b.",
    "     89 ms  b is open.",
    "b is the primary (token 5.30)",
  ]);
});

test("a dry run changes nothing", async () => {
  const fake = await switchingAgent();
  const terminal = fakeTerminal();
  await runFailover(await findAgent({ socket: fake.path }), { ...options, dryRun: true }, terminal);
  await runPause(await findAgent({ socket: fake.path }), true, { yes: true, dryRun: true }, terminal);
  assert.deepEqual(new Set(fake.calls.map((call) => call.command)), new Set(["view"]));
  assert.match(terminal.lines.join("\n"), /would do: switchover from a to b .*\nwould do: pause automatic failover/);
});

test("without a terminal a change needs --yes; on one it needs a yes", async () => {
  const fake = await switchingAgent();
  const client = await findAgent({ socket: fake.path });
  await assert.rejects(runFailover(client, { ...options, yes: false }, fakeTerminal()), (error: unknown) => {
    assert.ok(error instanceof CliError);
    assert.equal(error.exitCode, 2);
    assert.match(errorLines(error), /^error: .*nobody can be asked here\nhint: Add --yes\.\n$/);
    return true;
  });
  await assert.rejects(runFailover(client, { ...options, yes: false }, fakeTerminal("n")), /not done/);
  assert.ok(!fake.calls.some((call) => call.command === "failover"));
  await runFailover(client, { ...options, yes: false }, fakeTerminal("y"));
});

test("a candidate that is unknown, primary or not electable is refused before anything is asked", async () => {
  const tags = { nofailover: true, failoverPriority: 100, nosync: false, noloadbalance: false };
  const members = [fakeMember(1, "a"), fakeMember(2, "b"), fakeMember(3, "c", { tags })];
  agent = await startFakeAgent(() => primaryView({ members }));
  const client = await findAgent({ socket: agent.path });
  const refuse = (candidate: string, words: RegExp) =>
    assert.rejects(runFailover(client, { ...options, candidate }, fakeTerminal()), words);
  await refuse("x", /there is no node "x"/);
  await refuse("a", /a is the primary already/);
  await refuse("c", /c may not become primary: it has the tag nofailover/);
});

test("a switchover without a healthy primary points to failover", async () => {
  agent = await startFakeAgent(() => primaryView({ members: [fakeMember(1, "a", { role: "stopped" })] }));
  await assert.rejects(
    runFailover(await findAgent({ socket: agent.path }), { ...options, candidate: null }, fakeTerminal()),
    /no healthy primary/,
  );
});

test("a failover that does not finish says what was seen last", async () => {
  agent = await startFakeAgent((command) =>
    command === "failover" ? "started" : primaryView({ phase: "recruit", primary: null }),
  );
  const request = { ...options, kind: "failover", candidate: "b", deadlineMs: 50 } as const;
  await assert.rejects(
    runFailover(await findAgent({ socket: agent.path }), request, fakeTerminal()),
    (error: unknown) => {
      assert.ok(error instanceof CliError);
      assert.equal(error.exitCode, 1);
      assert.match(error.message, /within 50 ms; last seen: phase recruit, primary none/);
      return true;
    },
  );
});

test("the agent's own refusal and hint reach the user", async () => {
  agent = await startFakeAgent(() => {
    throw new CliError("no-candidate", "there is no other node", "Join one first.");
  });
  await assert.rejects((await findAgent({ socket: agent.path })).call("failover"), (error: unknown) => {
    assert.ok(error instanceof CliError);
    assert.equal(error.hint, "Join one first.");
    return true;
  });
});

test("pause and resume say so when there is nothing to do", async () => {
  agent = await startFakeAgent(() => primaryView({ paused: true }));
  const terminal = fakeTerminal();
  await runPause(await findAgent({ socket: agent.path }), true, { yes: false, dryRun: false }, terminal);
  assert.deepEqual(terminal.lines, ["automatic failover is paused already"]);
});

test("the data directory leads to the socket through postmaster.pid", async () => {
  agent = await startFakeAgent(() => primaryView(), ".s.pg_replica.6543");
  const pgdata = join(agent.directory, "data");
  await mkdir(pgdata);
  await assert.rejects(findAgent({ pgdata }), /no PostgreSQL server runs in/);
  await writeFile(join(pgdata, "postmaster.pid"), `123\n${pgdata}\n1700000000\n6543\n${agent.directory}\n*\n`);
  const view = await readView(await findAgent({ pgdata }));
  assert.equal(view.self.name, "a");
  await writeFile(join(pgdata, "postmaster.pid"), `123\n${pgdata}\n`);
  await assert.rejects(findAgent({ pgdata }), /names no port and socket directory/);
  await assert.rejects(findAgent({ pgdata: join(agent.directory, "nowhere") }), /nowhere.*ENOENT/);
});

test("a socket without an agent, and an answer that is none, are told apart", async () => {
  agent = await startFakeAgent(() => ({ unexpected: true }));
  await assert.rejects(askSocket(`${agent.path}x`, "{}"), /no agent answers at/);
  await assert.rejects(readView(await findAgent({ socket: agent.path })), /is not understood/);
});

test("addresses are HOST:PORT, IPv6 in brackets", () => {
  assert.deepEqual(splitHostPort("[fd00::1]:7400", "--from"), { host: "fd00::1", port: 7400 });
  for (const bad of ["db1", "db1:0", "db1:70000", "fd00::1:7400", ":7400"]) {
    assert.throws(() => splitHostPort(bad, "--from"), /--from .* is not HOST:PORT/);
  }
});

test("the command line: list -f json prints the members, exit code 0", async () => {
  agent = await startFakeAgent(() => primaryView());
  const terminal = fakeTerminal();
  const argv = ["node", "pg_replica", "list", "--socket", agent.path, "-f", "json"];
  assert.equal(await runProgram(buildProgram(terminal), argv), 0);
  assert.equal((JSON.parse(terminal.lines.join("\n")) as { primary: string }).primary, "a");
});
