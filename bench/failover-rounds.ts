/** One round of each measurement: a client writes all the time, something happens, and the client tells how long it took. */
import { setTimeout as delay } from "node:timers/promises";
import { ClusterWriter, type WriterOptions } from "../src/cli/cluster-writer.js";
import type { DemoCluster } from "../src/cli/demo-cluster.js";
import { serverConfig } from "../src/cli/demo-failover.js";
import type { BarePair } from "./bare-pair.js";

export const table = "bench_writes";
const deadlineMs = 60_000;
/** Writes before the fault, so that everything that streams or is cached is as it is in a busy cluster. */
const writesBefore = 50;

type Servers = WriterOptions["servers"];

/** The id of the first row of the next round: rows of earlier rounds stay. */
let nextId = 1;

/** @returns milliseconds from the fault to the first acknowledged write that was sent after it */
export async function postmasterKilled(cluster: DemoCluster): Promise<number> {
  const old = await steady(cluster);
  return withWriter(clusterServers(cluster), async (writer) => {
    const faultMs = performance.now();
    old.killPostmaster();
    return (await firstElsewhere(writer, faultMs, old.name)).ackedMs - faultMs;
  });
}

/** The host comes back at the end, so that the next round finds three nodes. */
export async function hostKilled(cluster: DemoCluster): Promise<number> {
  const old = await steady(cluster);
  const outage = await withWriter(clusterServers(cluster), async (writer) => {
    const faultMs = performance.now();
    await old.killHost();
    return (await firstElsewhere(writer, faultMs, old.name)).ackedMs - faultMs;
  });
  old.startHost();
  return outage;
}

/** @returns milliseconds from the last acknowledgement of the old primary to the first one of the new */
export async function switchedOver(cluster: DemoCluster): Promise<number> {
  const old = await steady(cluster);
  return withWriter(clusterServers(cluster), async (writer) => {
    const sinceMs = performance.now();
    const command = cluster.run(["switchover", "-D", old.pgdata, "--yes"]);
    const gap = await writeGap(writer, sinceMs, old.name);
    await command;
    return gap;
  });
}

export async function bareKilled(pair: BarePair): Promise<number> {
  await pair.waitForStreaming();
  const old = pair.primary.name;
  const outage = await withWriter(pairServers(pair), async (writer) => {
    const faultMs = await pair.killAndPromote();
    return (await firstElsewhere(writer, faultMs, old)).ackedMs - faultMs;
  });
  await pair.swap();
  return outage;
}

export async function bareSwitchedOver(pair: BarePair): Promise<number> {
  await pair.waitForStreaming();
  const old = pair.primary.name;
  const gap = await withWriter(pairServers(pair), async (writer) => {
    const sinceMs = performance.now();
    await pair.shutDownAndPromote();
    return writeGap(writer, sinceMs, old);
  });
  await pair.swap();
  return gap;
}

/** Healthy, the Raft leader on the primary again, and nothing under way. */
async function steady(cluster: DemoCluster): Promise<NonNullable<Awaited<ReturnType<DemoCluster["primary"]>>>> {
  await cluster.waitForHealthy(deadlineMs);
  const primary = await cluster.waitForPrimary(cluster.nodes.map((node) => node.name));
  await cluster.waitFor(
    `${primary.name} to lead the Raft group too, and the others to have replayed everything`,
    async () => {
      const view = await primary.view();
      if (view.leader !== primary.name) return `the leader is ${view.leader ?? "nobody"}`;
      const behind = view.members.filter(({ role, lagBytes }) => role !== "primary" && lagBytes !== 0);
      return behind.length === 0 || `behind: ${behind.map(({ name }) => name).join(", ")}`;
    },
    deadlineMs,
  );
  return primary;
}

async function withWriter<T>(servers: Servers, measure: (writer: ClusterWriter) => Promise<T>): Promise<T> {
  const writer = new ClusterWriter({ table, servers, firstId: nextId, pauseMs: 1 });
  writer.start();
  try {
    await waitFor(writer, "the client to write", () => writer.acknowledged.length >= writesBefore);
    return await measure(writer);
  } finally {
    await writer.stop();
    nextId += writer.acknowledged.length + writer.indeterminate.length + 1_000_000;
  }
}

async function firstElsewhere(writer: ClusterWriter, sinceMs: number, old: string): Promise<{ ackedMs: number }> {
  const find = () => writer.acknowledged.find(({ sentMs, server }) => sentMs >= sinceMs && server !== old);
  await waitFor(writer, `the client to write elsewhere than on ${old}`, () => find() !== undefined);
  return find() as { ackedMs: number };
}

async function writeGap(writer: ClusterWriter, sinceMs: number, old: string): Promise<number> {
  const first = await firstElsewhere(writer, sinceMs, old);
  const last = writer.acknowledged.findLast(({ server }) => server === old);
  if (last === undefined) throw new Error(`${old} has acknowledged nothing`);
  return first.ackedMs - last.ackedMs;
}

/** Looks only: times come from the client's own notes, so the interval of the looks does not count. */
async function waitFor(writer: ClusterWriter, what: string, done: () => boolean): Promise<void> {
  const untilMs = performance.now() + deadlineMs;
  while (!done()) {
    if (performance.now() > untilMs)
      throw new Error(`waited ${deadlineMs} ms in vain for ${what}; ${writer.describe()}`);
    await delay(10);
  }
}

export function clusterServers(cluster: DemoCluster): Servers {
  return cluster.nodes.map((node) => ({ name: node.name, config: serverConfig(cluster, node) }));
}

function pairServers(pair: BarePair): Servers {
  return pair.servers.map((server) => ({ name: server.name, config: pair.config(server) }));
}
