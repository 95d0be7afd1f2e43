// Runs one clone or init in a process of its own, so that a test can kill it. Argument: JSON.
import { clone } from "../../../src/postgres/clone.js";
import { initCluster } from "../../../src/postgres/init.js";

interface Input {
  readonly action: "clone" | "init";
  readonly pgdata: string;
  readonly bindir: string;
  readonly sourceDsn?: string;
  readonly user: { readonly uid: number; readonly gid: number } | null;
  /** A step of the clone, or "progress": the first sign of pg_basebackup. */
  readonly killAt?: string;
}

const input = JSON.parse(process.argv[2] ?? "") as Input;
if (input.user !== null) {
  process.setgroups?.([input.user.gid]);
  process.setgid?.(input.user.gid);
  process.setuid?.(input.user.uid);
}
process.chdir("/");

const reach = (name: string) => {
  if (name === input.killAt) process.kill(-process.pid, "SIGKILL");
};

try {
  const { pgdata, bindir } = input;
  if (input.action === "init")
    await initCluster({ pgdata, bindir, superuser: "postgres", authLocal: "trust", authHost: "trust" });
  else {
    const sourceDsn = input.sourceDsn ?? "";
    const result = await clone({ pgdata, bindir, sourceDsn, onStep: reach, onProgress: () => reach("progress") });
    console.log(JSON.stringify(result));
  }
} catch (error) {
  const code = error instanceof Error && "code" in error ? error.code : "";
  console.error(`failed: ${String(code)} ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
