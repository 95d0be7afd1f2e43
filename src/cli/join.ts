/** `join`: an empty directory becomes another node of a cluster: a copy of the primary that registers when it starts. */
import { randomBytes } from "node:crypto";
import { resolve } from "node:path";
import * as v from "valibot";
import { writeNodeConfiguration } from "../postgres/configuration.js";
import { describeConninfo } from "../postgres/conninfo.js";
import { lowLimits } from "../postgres/standby-limits.js";
import { runTool } from "../postgres/tools.js";
import { readSecret, splitHostPort } from "./agent-client.js";
import { findBindir } from "./bindir.js";
import { CliError, describeError, exitCodes } from "./errors.js";
import { nextSteps, refuseRoot, requireEmpty } from "./init.js";
import { type NodeFlags, nodeSettings, stateDirectory } from "./node-options.js";
import { ProgressBar } from "./progress.js";
import type { Terminal } from "./terminal.js";

export type JoinFlags = NodeFlags & { readonly from: string };

const clusterInfoSchema = v.object({
  clusterId: v.string(),
  systemIdentifier: v.string(),
  serverMajor: v.number(),
  leaseMs: v.number(),
  primary: v.nullable(v.object({ name: v.string(), dsn: v.string() })),
  members: v.array(
    v.object({ id: v.number(), name: v.string(), address: v.string(), dsn: v.string(), alive: v.boolean() }),
  ),
});
export type ClusterInfo = v.InferOutput<typeof clusterInfoSchema>;

const askTimeoutMs = 10_000;

/** Everything is checked before anything is written. */
export async function runJoin(given: JoinFlags, terminal: Terminal): Promise<void> {
  const flags = { ...given, pgdata: resolve(given.pgdata) };
  const bindir = findBindir(flags.bindir);
  refuseRoot();
  const { clone, isHalfClone } = await import("../postgres/clone.js");
  // One that was interrupted goes on.
  if (!isHalfClone(flags.pgdata)) requireEmpty(flags.pgdata);
  const info = await askCluster(flags);
  const { primary } = info;
  checkJoin(flags, info, await serverMajor(bindir));
  if (primary === null) {
    throw new CliError(
      "no-primary",
      "the cluster has no primary to copy from",
      "Try again when it has.",
      exitCodes.failed,
    );
  }
  terminal.note(`cloning ${primary.name} of cluster ${info.clusterId} into ${flags.pgdata}`);
  const bar = new ProgressBar(terminal);
  const control = await clone({
    pgdata: flags.pgdata,
    bindir,
    sourceDsn: primary.dsn,
    onProgress: (progress) => bar.update("clone", progress),
    log: (message) => terminal.note(message),
  }).finally(() => bar.end());
  checkSystem(control.systemIdentifier, info, primary.dsn);
  writeNodeConfiguration(flags.pgdata, {
    ...nodeSettings(flags, false),
    // The value of the cluster, fixed when it was made, counts.
    "pg_replica.failover_timeout_ms": String(info.leaseMs),
  });
  await raiseLimits(flags.pgdata, bindir, terminal);
  const { formatStateDir } = await import("../storage/index.js");
  await formatStateDir(stateDirectory(flags), {
    format: 1,
    nodeName: flags.nodeId,
    incarnation: randomBytes(8).toString("hex"),
    clusterId: info.clusterId,
    systemIdentifier: info.systemIdentifier,
    raftId: 0,
  });
  terminal.print(nextSteps(flags, bindir));
}

/** The primary's own settings are not copied with the rest; with lower ones this node would not start. */
async function raiseLimits(pgdata: string, bindir: string, terminal: Terminal): Promise<void> {
  const low = await lowLimits({ pgdata, bindir });
  for (const { name, configured, needed } of low) {
    terminal.note(`${name} = ${needed}, as on the primary: with ${configured} this node would not start`);
  }
  const raised = low.map(({ name, needed }) => [name, String(needed)] as const);
  if (raised.length > 0) writeNodeConfiguration(pgdata, Object.fromEntries(raised));
}

async function askCluster(flags: JoinFlags): Promise<ClusterInfo> {
  const { host, port } = splitHostPort(flags.from, "--from");
  const secret = await readSecret(flags.secretFile);
  const { guestRequest } = await import("../transport/index.js");
  const response = await guestRequest(
    { host, port, secret, tls: null, timeoutMs: askTimeoutMs, name: flags.nodeId },
    { kind: "clusterInfo" },
  ).catch((error: unknown) => {
    const hint = "Name host and raft_port of a node that runs, and --secret-file when the cluster has a secret.";
    throw new CliError("no-answer", describeError(error), hint, exitCodes.failed, { cause: error });
  });
  if (!response.ok) throw new CliError(response.code, response.message, response.hint, exitCodes.failed);
  if (response.result === null) {
    const hint = "Wait until its first node is the primary, then run this again.";
    throw new CliError("no-cluster", `${flags.from} belongs to no cluster yet`, hint, exitCodes.failed);
  }
  const info = v.safeParse(clusterInfoSchema, response.result);
  if (info.success) return info.output;
  const why = v.summarize(info.issues).replaceAll("\n", " ");
  throw new CliError(
    "not-understood",
    `the answer of ${flags.from} is not understood: ${why}`,
    "Use the same version.",
  );
}

/** @throws CliError when this node can not be a member; nothing has been written */
export function checkJoin(flags: Pick<JoinFlags, "nodeId">, info: ClusterInfo, major: number): void {
  if (major !== info.serverMajor) {
    throw new CliError(
      "wrong-major",
      `PostgreSQL here is version ${major}, the cluster runs ${info.serverMajor}`,
      "Physical replication needs the same major version: name its programs with --bindir.",
    );
  }
  const namesake = info.members.find((member) => member.name === flags.nodeId && member.alive);
  if (namesake !== undefined) {
    throw new CliError(
      "duplicate-node",
      `the cluster has a node "${flags.nodeId}" already, and it is alive at ${namesake.address}`,
      "Choose another --node-id.",
    );
  }
}

/** The dsn that the primary advertises leads to another server than its agent's: the copy is of no use. */
function checkSystem(systemIdentifier: string, info: ClusterInfo, dsn: string): void {
  if (systemIdentifier === info.systemIdentifier) return;
  throw new CliError(
    "wrong-system",
    `the server at ${describeConninfo(dsn)} has system identifier ${systemIdentifier}, the cluster ${info.systemIdentifier}`,
    "Correct pg_replica.advertise_dsn on the primary, empty this directory and join again.",
  );
}

/** "postgres (PostgreSQL) 15.18 (Debian ...)" */
async function serverMajor(bindir: string): Promise<number> {
  const [line = ""] = await runTool({ bindir, tool: "postgres", args: ["--version"] });
  const major = /\(PostgreSQL\) (\d+)/.exec(line)?.[1];
  if (major === undefined)
    throw new CliError("no-version", `"${line}" names no version of PostgreSQL`, "Check --bindir.");
  return Number(major);
}
