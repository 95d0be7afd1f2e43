// The programs that operators run, against a cluster.
import { spawn } from "node:child_process";
import { join } from "node:path";
import type { DemoCluster } from "../../../src/cli/demo-cluster.js";

export interface Ran {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** pg_replica on the machine of `node`. */
export async function pgReplica(cluster: DemoCluster, node: string, ...args: string[]): Promise<Ran> {
  return collect(cluster.spawn([...args, "--socket", cluster.node(node).socketPath], "pipe"));
}

export async function psql(cluster: DemoCluster, url: string, sql: string): Promise<Ran> {
  const env = { ...process.env, PGPASSFILE: cluster.passfile, PGCONNECT_TIMEOUT: "5" };
  return collect(
    spawn(join(cluster.bindir, "psql"), ["-XAtq", "-d", url, "-c", sql], { env, stdio: ["ignore", "pipe", "pipe"] }),
  );
}

function collect(child: ReturnType<typeof spawn>): Promise<Ran> {
  let out = "";
  let err = "";
  child.stdout?.on("data", (data: Buffer) => {
    out += data.toString();
  });
  child.stderr?.on("data", (data: Buffer) => {
    err += data.toString();
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, out: out.trim(), err: err.trim() }));
  });
}
