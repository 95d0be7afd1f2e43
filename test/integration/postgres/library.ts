/** Servers with the extension's library, and a stand-in for the agent that holds the lease. */
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type TestCluster, until } from "./servers.js";

/** Settings of a server with the library whose agent is `lease-agent.ts`. */
export function withLibrary(nodeId: string, cluster: TestCluster): string[] {
  const script = join(cluster.directory, "lease-agent.mjs");
  copyFileSync(fileURLToPath(new URL("./lease-agent.js", import.meta.url)), script);
  const wrapper = join(cluster.directory, "node");
  writeFileSync(wrapper, `#!/bin/sh\nexec '${process.execPath}' '${script}' '${cluster.directory}'\n`, { mode: 0o755 });
  return ["shared_preload_libraries=pg_replica", `pg_replica.node_id=${nodeId}`, `pg_replica.node_path=${wrapper}`];
}

export async function markerKeyOf(cluster: TestCluster): Promise<string> {
  const path = join(cluster.directory, "marker-key");
  let key = "";
  await until("the supervisor has handed over the marker key", () => {
    try {
      key = readFileSync(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    return key !== "";
  });
  return key;
}
