// What must hold after every fault, judged from what the clients were told and from the tables of all nodes.
import assert from "node:assert/strict";
import type pg from "pg";
import { withClient } from "../../../src/cli/cluster-writer.js";
import type { DemoCluster } from "../../../src/cli/demo-cluster.js";
import { serverConfig } from "../../../src/cli/demo-failover.js";
import { compareTokens, parseToken } from "../../../src/control/index.js";
import type { Load } from "./load.js";
import type { Acknowledged } from "./session-writer.js";

/** `none`: every acknowledged row is there. `unreplicated`: the end of a replaced primary's rows may be gone. */
export type AllowedLoss = "none" | "unreplicated";

export interface Standing {
  readonly primary: string;
  readonly token: string;
  readonly timeline: number;
}

const settleMs = 60_000;

/** Where the cluster stands, asked of its primary, which is one of `among` (an agent that is frozen answers late). */
export async function standing(cluster: DemoCluster, among: readonly string[] = names(cluster)): Promise<Standing> {
  const primary = await cluster.waitForPrimary(among);
  const [row] = await ask<{ token: string; timeline: number }>(
    cluster,
    primary.name,
    `SELECT (pg_replica.lease()).token,
            ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int AS timeline`,
  );
  assert(row !== undefined);
  return { primary: primary.name, ...row };
}

export function ask<T extends pg.QueryResultRow>(cluster: DemoCluster, node: string, text: string): Promise<T[]> {
  return withClient(serverConfig(cluster, cluster.node(node)), async (client) => (await client.query<T>(text)).rows);
}

/** One promotion since `before`, to another node when the first one is named. */
export function expectOnePromotion(before: Standing, after: Standing): void {
  assert.notEqual(after.primary, before.primary);
  assert.equal(after.timeline, before.timeline + 1);
  assert(compareTokens(parseToken(after.token), parseToken(before.token)) > 0, `${after.token} after ${before.token}`);
}

export function names(cluster: DemoCluster): string[] {
  return cluster.nodes.map((node) => node.name);
}

/** Ends the load, waits until all nodes are healthy and level, and checks everything. */
export async function settle(load: Load, loss: AllowedLoss): Promise<void> {
  const { cluster } = load;
  await cluster.waitForHealthy(settleMs);
  // Clients write until the end, so that the healed cluster is seen to take writes.
  await load.waitForClient(performance.now());
  await load.stop();
  await expectStreaming(cluster);
  const ids = await expectIdentical(cluster, load.table);
  expectOneWriterAtATime(load.acknowledged);
  expectRows(load, ids, loss);
  await expectHistory(cluster);
}

/** Acknowledged under a token: nothing whose statement was sent after the first acknowledgement under a newer one. */
export function expectOneWriterAtATime(acknowledged: readonly Acknowledged[]): void {
  const tenures = [...byToken(acknowledged)]
    .map(([token, rows]) => ({ token: parseToken(token), rows }))
    .sort((a, b) => compareTokens(a.token, b.token));
  let previous: Acknowledged | null = null;
  for (const { rows } of tenures) {
    const servers = new Set(rows.map(({ server }) => server));
    assert.equal(servers.size, 1, `token ${rows[0]?.token} acknowledged on ${[...servers].join(" and ")}`);
    const first = rows.reduce((a, b) => (b.ackedMs < a.ackedMs ? b : a));
    assert(
      previous === null || previous.sentMs <= first.ackedMs,
      `${previous?.server} (token ${previous?.token}) acknowledged row ${previous?.id}, sent ${(
        (previous?.sentMs ?? 0) - first.ackedMs
      ).toFixed(1)} ms after ${first.server} (token ${first.token}) had acknowledged its first`,
    );
    previous = rows.reduce((a, b) => (b.sentMs > a.sentMs ? b : a));
  }
}

function byToken(acknowledged: readonly Acknowledged[]): Map<string, Acknowledged[]> {
  const groups = new Map<string, Acknowledged[]>();
  for (const row of acknowledged) {
    const group = groups.get(row.token);
    if (group === undefined) groups.set(row.token, [row]);
    else group.push(row);
  }
  return groups;
}

/** What the clients know, against the `ids` that are there. */
export function expectRows(
  clients: { readonly acknowledged: readonly Acknowledged[]; readonly indeterminate: readonly number[] },
  ids: ReadonlySet<number>,
  loss: AllowedLoss,
): void {
  const { acknowledged, indeterminate } = clients;
  const known = new Set([...acknowledged.map(({ id }) => id), ...indeterminate]);
  const invented = [...ids].filter((id) => !known.has(id));
  assert.deepEqual(invented, [], "rows are there whose insert was refused");
  const lost = acknowledged.filter(({ id }) => !ids.has(id));
  if (loss === "none") {
    assert.deepEqual(
      lost.map(({ id, server, token }) => ({ id, server, token })),
      [],
      `of ${acknowledged.length} acknowledged rows ${lost.length} are gone`,
    );
    return;
  }
  for (const [token, gone] of byToken(lost)) expectLostEnd(token, gone, acknowledged, ids);
}

/** What the replaced primary had not sent on yet is the end of its rows: nothing that survived came after it. */
function expectLostEnd(
  token: string,
  gone: readonly Acknowledged[],
  acknowledged: readonly Acknowledged[],
  ids: ReadonlySet<number>,
): void {
  const newer = acknowledged.some((row) => compareTokens(parseToken(row.token), parseToken(token)) > 0);
  assert(newer, `rows of token ${token} are gone though no newer primary has acknowledged anything`);
  const firstAckedMs = Math.min(...gone.map(({ ackedMs }) => ackedMs));
  const later = acknowledged.filter((row) => row.token === token && ids.has(row.id) && row.sentMs > firstAckedMs);
  assert.deepEqual(
    later.map(({ id }) => id),
    [],
    `of token ${token} ${gone.length} rows are gone and later ones are there`,
  );
}

/** All nodes hold the same rows of `table`. @returns their ids */
export async function expectIdentical(cluster: DemoCluster, table: string): Promise<Set<number>> {
  const { primary } = await standing(cluster);
  const [end] = await ask<{ lsn: string }>(cluster, primary, "SELECT pg_current_wal_lsn() AS lsn");
  assert(end !== undefined);
  for (const standby of names(cluster).filter((name) => name !== primary)) {
    await cluster.waitFor(
      `${standby} to replay up to ${end.lsn}`,
      async () => {
        const text = `SELECT pg_last_wal_replay_lsn() AS at, pg_last_wal_replay_lsn() >= '${end.lsn}'::pg_lsn AS level`;
        const [row] = await ask<{ at: string; level: boolean }>(cluster, standby, text);
        return row?.level === true || `it is at ${row?.at}`;
      },
      settleMs,
    );
  }
  const tables = await Promise.all(
    names(cluster).map((name) =>
      ask<{ id: string; at: Date }>(cluster, name, `SELECT id, at FROM ${table} ORDER BY id`),
    ),
  );
  const [first = []] = tables;
  for (const [index, rows] of tables.entries()) {
    assert.deepEqual(rows, first, `${names(cluster)[index]} holds other rows than ${names(cluster)[0]}`);
  }
  return new Set(first.map(({ id }) => Number(id)));
}

/** By the servers' own word, not the agents'. */
export async function expectStreaming(cluster: DemoCluster): Promise<void> {
  const { primary, timeline } = await standing(cluster);
  for (const name of names(cluster)) {
    if (name === primary) continue;
    const wanted = `streaming from port ${cluster.node(primary).port} on timeline ${timeline}`;
    await cluster.waitFor(
      `${name}'s receiver to be ${wanted}`,
      async () => {
        const [row] = await ask<{ seen: string }>(
          cluster,
          name,
          "SELECT format('%s from port %s on timeline %s', status, sender_port, received_tli) AS seen FROM pg_stat_wal_receiver",
        );
        return row?.seen === wanted || (row?.seen ?? "no receiver");
      },
      settleMs,
    );
  }
}

/** Every promotion has a token of its own, and tokens grow; the servers have the newest in their WAL. */
async function expectHistory(cluster: DemoCluster): Promise<void> {
  const { primary, token } = await standing(cluster);
  const rows = await ask<{ token: string }>(
    cluster,
    primary,
    "SELECT token FROM pg_replica.history() WHERE kind = 'begin' ORDER BY index",
  );
  const tokens = rows.map((row) => parseToken(row.token));
  for (const [index, next] of tokens.slice(1).entries()) {
    const before = tokens[index];
    assert(before !== undefined && compareTokens(next, before) > 0, `tokens do not grow: ${JSON.stringify(rows)}`);
  }
  for (const name of names(cluster)) {
    const [marker] = await ask<{ token: string }>(
      cluster,
      name,
      "SELECT format('%s.%s', term, index) AS token FROM pg_replica.token",
    );
    assert.equal(marker?.token, token, `${name}'s marker`);
  }
}
