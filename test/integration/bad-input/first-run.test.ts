// The container's entry point, run as a container would run it: empty directories become a cluster.
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, it } from "node:test";
import { findAgent, readView } from "../../../src/cli/agent-client.js";
import { bindir, own, temporaryDirectory, user } from "../prepare/servers.js";
import { freePort, until } from "./node.js";

const directory = temporaryDirectory();
// Read before it is run as another user, who may not be able to read the repository.
const script = readFileSync("packaging/container/entrypoint.sh", "utf8");
const running = new Set<ChildProcess>();

after(async () => {
  for (const child of running) child.kill("SIGTERM");
  await until("the containers to stop", () => running.size === 0, 40_000).finally(() =>
    rmSync(directory, { recursive: true, force: true }),
  );
});

function file(name: string, text: string): string {
  const path = join(directory, name);
  writeFileSync(path, text, { mode: 0o600 });
  own(path);
  return path;
}

interface Container {
  readonly name: string;
  readonly port: number;
  readonly raftPort: number;
  readonly environment: Record<string, string>;
}

function run({ name, environment }: Container): ChildProcess {
  const log = openSync(join(directory, `${name}.log`), "a");
  const child = spawn("sh", ["-c", script], {
    ...user,
    cwd: "/",
    stdio: ["ignore", log, log],
    env: { PATH: `${bindir}:${process.env.PATH ?? ""}`, HOME: directory, LANG: "C.UTF-8", ...environment },
  });
  running.add(child);
  child.on("exit", () => running.delete(child));
  return child;
}

/** Polls until the members that this container's node knows are as wanted. */
async function waitForMembers({ name, port }: Container, wanted: readonly string[]): Promise<void> {
  const socket = join(directory, `.s.pg_replica.${port}`);
  let last = "";
  for (const untilMs = performance.now() + 60_000; ; ) {
    try {
      const view = await readView(await findAgent({ socket }));
      last = JSON.stringify(view.members.map((member) => `${member.role} ${member.state}`).sort());
      if (last === JSON.stringify(wanted)) return;
    } catch (error) {
      last = String(error);
    }
    if (performance.now() > untilMs) {
      const log = readFileSync(join(directory, `${name}.log`), "utf8").slice(-3000);
      throw new Error(`${name} does not see members ${wanted.join(", ")} but ${last}\n${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

it("the container's entry point makes a cluster of empty directories and finds it again after a restart", async () => {
  const secret = file("secret", "0123456789abcdef0123456789abcdef\n");
  const passfile = file("passfile", "*:*:*:postgres:pw\n");
  const passwordFile = file("password", "pw\n");
  const names = ["a", "b"];
  const ports = await Promise.all(names.map(async () => ({ port: await freePort(), raftPort: await freePort() })));
  const peers = names.map((name, index) => `${name}=127.0.0.1:${ports[index]?.raftPort ?? 0}`).join(",");
  const containers = names.map((name, index): Container => {
    const { port = 0, raftPort = 0 } = ports[index] ?? {};
    return {
      name,
      port,
      raftPort,
      environment: {
        PGDATA: join(directory, name),
        PGPORT: String(port),
        PG_REPLICA_NODE_ID: name,
        PG_REPLICA_PEERS: peers,
        PG_REPLICA_HOST: "127.0.0.1",
        PG_REPLICA_RAFT_PORT: String(raftPort),
        PG_REPLICA_HTTP_PORT: "0",
        PG_REPLICA_SOCKETS: directory,
        PG_REPLICA_SECRET_FILE: secret,
        PG_REPLICA_PASSFILE: passfile,
        ...(index === 0
          ? { PG_REPLICA_PWFILE: passwordFile }
          : { PG_REPLICA_JOIN: `127.0.0.1:${ports[0]?.raftPort ?? 0}` }),
      },
    };
  });
  // In any order: the second waits for the first.
  const started = [...containers].reverse().map(run);
  const [first, second] = containers;
  assert.ok(first !== undefined && second !== undefined);
  await waitForMembers(first, ["primary running", "standby streaming"]);
  for (const child of started) child.kill("SIGTERM");
  await until("the containers to stop", () => running.size === 0, 40_000);
  for (const container of containers) run(container);
  for (const container of containers) {
    await waitForMembers(container, ["primary running", "standby streaming"]);
  }
});
