// What clients do during a fault: one that knows all hosts, and on each server one that never leaves it.
import { ClusterWriter, prepareTable } from "../../../src/cli/cluster-writer.js";
import type { DemoCluster } from "../../../src/cli/demo-cluster.js";
import { serverConfig } from "../../../src/cli/demo-failover.js";
import { type Acknowledged, SessionWriter } from "./session-writer.js";

const pauseMs = 10;
const idsPerWriter = 1_000_000_000;
let tables = 0;

export class Load {
  readonly table: string;
  readonly cluster: DemoCluster;
  /** As applications are. */
  readonly client: ClusterWriter;
  readonly sessions: readonly SessionWriter[];

  private constructor(cluster: DemoCluster, table: string) {
    this.cluster = cluster;
    this.table = table;
    const servers = cluster.nodes.map((node) => ({ name: node.name, config: serverConfig(cluster, node) }));
    this.client = new ClusterWriter({ table, servers, pauseMs, returning: "(pg_replica.lease()).token" });
    this.sessions = servers.map(
      ({ name, config }, index) =>
        new SessionWriter({ server: name, config, table, pauseMs, firstId: (index + 1) * idsPerWriter }),
    );
  }

  /** With a table of its own; resolves when the client has been acknowledged something. */
  static async start(cluster: DemoCluster): Promise<Load> {
    const primary = await cluster.waitForPrimary(cluster.nodes.map((node) => node.name));
    tables += 1;
    const load = new Load(cluster, `load_${tables}`);
    await prepareTable(serverConfig(cluster, primary), load.table);
    load.client.start();
    for (const session of load.sessions) session.start();
    await load.waitForClient(0);
    await load.waitForSession(primary.name, 0);
    return load;
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    await Promise.all([this.client.stop(), ...this.sessions.map((session) => session.stop())]);
  }

  session(server: string): SessionWriter {
    const session = this.sessions.find((candidate) => candidate.server === server);
    if (session === undefined) throw new Error(`there is no session on ${server}`);
    return session;
  }

  get acknowledged(): Acknowledged[] {
    const client = this.client.acknowledged.map(({ returned, ...rest }) => ({ ...rest, token: returned ?? "" }));
    return [...client, ...this.sessions.flatMap((session) => session.acknowledged)];
  }

  get indeterminate(): number[] {
    return [...this.client.indeterminate, ...this.sessions.flatMap((session) => session.indeterminate)];
  }

  /** Until the client has got `count` acknowledgements of statements sent after `sinceMs`, by other servers than `notBy`. */
  async waitForClient(sinceMs: number, notBy?: string, count = 5): Promise<void> {
    const found = () =>
      this.client.acknowledged.filter(({ sentMs, server }) => sentMs >= sinceMs && server !== notBy).length;
    await this.cluster.waitFor(
      `${count} acknowledgements for the client${notBy === undefined ? "" : ` elsewhere than on ${notBy}`}`,
      () => found() >= count || `${found()} found; ${this.client.describe()}`,
      60_000,
    );
  }

  async waitForSession(server: string, sinceMs: number, count = 5): Promise<void> {
    const { acknowledged, refused, breaks } = this.session(server);
    const found = () => acknowledged.filter(({ sentMs }) => sentMs >= sinceMs).length;
    await this.cluster.waitFor(
      `${count} acknowledgements by ${server} in a session of its own`,
      () => found() >= count || `${found()} found, ${breaks} breaks, refused last: ${refused.at(-1)?.message ?? "-"}`,
      60_000,
    );
  }

  /** Until `server` has refused a statement that was sent after `sinceMs`, for want of a lease. */
  async waitForRefusal(server: string, sinceMs: number, deadlineMs = 60_000): Promise<void> {
    const { refused, acknowledged } = this.session(server);
    await this.cluster.waitFor(
      `${server} to refuse a write with 25006`,
      () =>
        refused.some(({ sentMs, code }) => sentMs >= sinceMs && code === "25006") ||
        `${acknowledged.filter(({ sentMs }) => sentMs >= sinceMs).length} acknowledged meanwhile`,
      deadlineMs,
    );
  }
}
