/**
 * `demo --failover`: the main job, shown and checked on real servers. The primary gets rows that no standby has, and is
 * killed; a client that knows all hosts must get through again, the old primary must come back without those rows, and
 * all of it must hold a second time in the other direction.
 */
import type pg from "pg";
import type { HistoryEntry } from "../control/types.js";
import { toClientConfig } from "../postgres/conninfo.js";
import { ClusterWriter, prepareTable, withClient } from "./cluster-writer.js";
import type { DemoCluster, DemoNode } from "./demo-cluster.js";

export interface FailoverStep {
  readonly what: string;
  readonly afterMs: number;
  readonly detail: string;
}

export interface FailoverResult {
  readonly from: string;
  readonly to: string;
  readonly steps: readonly FailoverStep[];
  readonly checks: readonly string[];
}

const table = "demo_writes";
const deadlineMs = 60_000;

/** @throws Error that says which check failed and what was seen instead */
export async function runFailoverRounds(
  cluster: DemoCluster,
  rounds: number,
  onRound: (result: FailoverResult) => void,
): Promise<void> {
  const primary = await cluster.waitForPrimary(cluster.nodes.map((node) => node.name));
  await prepareTable(serverConfig(cluster, primary), table);
  const writer = new ClusterWriter({
    table,
    servers: cluster.nodes.map((node) => ({ name: node.name, config: serverConfig(cluster, node) })),
  });
  writer.start();
  try {
    for (let round = 1; round <= rounds; round++) onRound(await failoverRound(cluster, writer, round));
  } finally {
    await writer.stop();
  }
}

export function serverConfig(cluster: DemoCluster, node: DemoNode): pg.ClientConfig {
  return toClientConfig(cluster.nodeConnectionString(node.name));
}

async function failoverRound(cluster: DemoCluster, writer: ClusterWriter, round: number): Promise<FailoverResult> {
  const names = cluster.nodes.map((node) => node.name);
  const old = await cluster.waitForPrimary(names);
  await waitForWriter(cluster, writer, performance.now());
  const lostId = -round;
  const logBefore = (await old.logTail(100_000)).length;
  await writeUnreplicated(cluster, old, lostId);
  const faultMs = performance.now();
  const faultWallMs = Date.now();
  const pid = old.killPostmaster();
  const checks: string[] = [];

  const first = await waitForWriter(cluster, writer, faultMs, old.name);
  checks.push(`the client that knows all hosts writes again, on ${first.server}`);
  const fresh = cluster.node(first.server);
  await cluster.waitForHealthy(deadlineMs);
  const healthyMs = performance.now();
  checks.push("all three nodes are healthy: one primary, two streaming, three voters");

  const log = (await old.logTail(100_000)).slice(logBefore);
  const rejoined = /^(rewound|rebuilt) from .*$/m.exec(log);
  if (rejoined?.[1] !== "rewound") {
    throw new Error(`${old.name} was not rewound (${rejoined?.[0] ?? "its log shows no rejoin"})`);
  }
  checks.push(`${old.name} was rewound`);
  await expectRowGone(cluster, old, fresh, lostId);
  checks.push(`the row that only ${old.name} had is gone, and ${old.name} replays what ${fresh.name} writes`);
  return {
    from: old.name,
    to: fresh.name,
    checks,
    steps: [
      { what: "fault", afterMs: 0, detail: `SIGKILL of ${old.name}'s postmaster (pid ${pid})` },
      ...historySteps((await fresh.view()).history, faultWallMs),
      { what: "first write", afterMs: first.ackedMs - faultMs, detail: `acknowledged by ${first.server}` },
      {
        what: "rejoined",
        afterMs: healthyMs - faultMs,
        detail: `${old.name} was rewound and streams from ${fresh.name}`,
      },
    ],
  };
}

/** The history's own times: when each step was proposed, by the wall clock that all nodes share here. */
function historySteps(history: readonly HistoryEntry[], sinceMs: number): FailoverStep[] {
  const names: Readonly<Record<string, string>> = {
    release: "detected",
    begin: "begun",
    promote: "elected",
    grant: "granted",
    opened: "promoted",
  };
  return history.flatMap((entry) => {
    const what = names[entry.kind];
    if (what === undefined || entry.atMs < sinceMs) return [];
    return [{ what, afterMs: entry.atMs - sinceMs, detail: entry.text }];
  });
}

/** Until a statement that was sent after `sinceMs` is acknowledged, by another server than `notBy`. */
export async function waitForWriter(
  cluster: DemoCluster,
  writer: ClusterWriter,
  sinceMs: number,
  notBy?: string,
): Promise<NonNullable<ReturnType<ClusterWriter["firstSentAfter"]>>> {
  const find = () => writer.acknowledged.find(({ sentMs, server }) => sentMs >= sinceMs && server !== notBy);
  await cluster.waitFor(
    `the client to write again${notBy === undefined ? "" : ` elsewhere than on ${notBy}`}`,
    () => find() !== undefined || writer.describe(),
    deadlineMs,
  );
  return find() as NonNullable<ReturnType<typeof find>>;
}

/** A commit that is acknowledged in asynchronous mode and that no standby ever sees: its senders are frozen. */
export async function writeUnreplicated(cluster: DemoCluster, node: DemoNode, id: number): Promise<void> {
  await withClient(serverConfig(cluster, node), async (client) => {
    const { rows } = await client.query<{ pid: number }>("SELECT pid FROM pg_stat_replication");
    for (const { pid } of rows) process.kill(pid, "SIGSTOP");
    await client.query(`INSERT INTO ${table} (id) VALUES ($1)`, [id]);
  });
}

async function expectRowGone(cluster: DemoCluster, old: DemoNode, fresh: DemoNode, lostId: number): Promise<void> {
  const probe = lostId * 1_000_000;
  await withClient(serverConfig(cluster, fresh), (client) =>
    client.query(`INSERT INTO ${table} (id) VALUES ($1)`, [probe]),
  );
  await withClient(serverConfig(cluster, old), (client) =>
    cluster.waitFor(
      `${old.name} to replay a row of ${fresh.name} and not to have its own`,
      async () => {
        const { rows } = await client.query<{ id: string }>(`SELECT id FROM ${table} WHERE id IN ($1, $2)`, [
          lostId,
          probe,
        ]);
        const ids = rows.map((row) => Number(row.id));
        if (ids.includes(lostId)) throw new Error(`row ${lostId}, which was never replicated, is still on ${old.name}`);
        return ids.includes(probe) || `row ${probe} has not arrived`;
      },
      deadlineMs,
    ),
  );
}

export function describeRound(result: FailoverResult): string {
  const width = Math.max(...result.steps.map((step) => step.what.length));
  const steps = result.steps.map(
    (step) => `  ${step.what.padEnd(width)}  ${step.afterMs.toFixed(0).padStart(6)} ms  ${step.detail}`,
  );
  return [
    `failover from ${result.from} to ${result.to}`,
    ...steps,
    ...result.checks.map((check) => `  ok: ${check}`),
  ].join("\n");
}
