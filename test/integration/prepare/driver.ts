// Runs one prepare in a process of its own, so that a test can kill it. Argument: a JSON `DriverInput`.
import { prepare } from "../../../src/postgres/prepare/prepare.js";

export interface DriverInput {
  readonly pgdata: string;
  readonly bindir: string;
  readonly user: { readonly uid: number; readonly gid: number } | null;
  readonly sourceDeadlineMs: number;
  /** Ends the whole process group right after this step. */
  readonly killAt: string | null;
}

const input = JSON.parse(process.argv[2] ?? "") as DriverInput;
if (input.user !== null) {
  process.setgroups?.([input.user.gid]);
  process.setgid?.(input.user.gid);
  process.setuid?.(input.user.uid);
}
process.chdir("/");

try {
  const outcome = await prepare({
    pgdata: input.pgdata,
    bindir: input.bindir,
    sourceDeadlineMs: input.sourceDeadlineMs,
    log: (level, message) => console.error(`${level}: ${message}`),
    onStep: (name) => {
      console.error(`step: ${name}`);
      if (name === input.killAt) process.kill(-process.pid, "SIGKILL");
    },
  });
  console.log(JSON.stringify(outcome));
} catch (error) {
  const code = error instanceof Error && "code" in error ? error.code : "";
  console.error(`failed: ${String(code)} ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 1;
}
