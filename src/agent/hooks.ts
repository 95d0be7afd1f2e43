/**
 * Operator's hooks: `pg_replica.pre_promote` may veto a promotion, `pg_replica.on_role_change` is told afterwards.
 * Commands run through the shell with NODE, ROLE and TOKEN in the environment and as arguments; a hook that hangs is
 * killed at its deadline and can not hold up or undo a failover.
 */
import { spawn } from "node:child_process";
import { formatToken } from "../control/index.js";
import type { Token } from "../control/types.js";
import type { Logger } from "./logger.js";

const prePromoteDeadlineMs = 2000;
const roleChangeDeadlineMs = 30_000;

export interface HooksOptions {
  readonly nodeName: string;
  readonly log: Logger;
  readonly onRoleChange: () => string;
  readonly prePromote: () => string;
}

export class Hooks {
  constructor(readonly options: HooksOptions) {}

  /** Null: promote. Otherwise why not. A hook that can not be run or hangs does not veto: it is logged. */
  async prePromote(token: Token): Promise<string | null> {
    const command = this.options.prePromote();
    if (command === "") return null;
    const result = await this.#run(command, "promoting", token, prePromoteDeadlineMs);
    if (result.code === 0) return null;
    if (result.code === null) {
      this.options.log.warning(
        `pg_replica.pre_promote did not end by itself (${result.why}); promoting without its word`,
      );
      return null;
    }
    return `pg_replica.pre_promote exited with ${result.code}${result.output === "" ? "" : `: ${result.output}`}`;
  }

  roleChanged(role: "primary" | "standby", token: Token): void {
    const command = this.options.onRoleChange();
    if (command === "") return;
    this.#run(command, role, token, roleChangeDeadlineMs).then((result) => {
      if (result.code !== 0) {
        this.options.log.warning(
          `pg_replica.on_role_change failed (${result.why === "" ? `exit code ${result.code}` : result.why}) ${result.output}`,
        );
      }
    });
  }

  #run(
    command: string,
    role: string,
    token: Token,
    deadlineMs: number,
  ): Promise<{ readonly code: number | null; readonly output: string; readonly why: string }> {
    const name = this.options.nodeName;
    return new Promise((resolve) => {
      const child = spawn("/bin/sh", ["-c", `${command} "$@"`, "pg_replica", role, name, formatToken(token)], {
        stdio: ["ignore", "pipe", "pipe"],
        env: { ...process.env, PG_REPLICA_ROLE: role, PG_REPLICA_NODE: name, PG_REPLICA_TOKEN: formatToken(token) },
      });
      let output = "";
      const collect = (chunk: Buffer) => {
        if (output.length < 1000) output += chunk.toString("utf8");
      };
      child.stdout.on("data", collect);
      child.stderr.on("data", collect);
      const timer = setTimeout(() => child.kill("SIGKILL"), deadlineMs);
      const done = (code: number | null, why: string) => {
        clearTimeout(timer);
        resolve({ code, output: output.trim().slice(0, 1000), why });
      };
      child.on("error", (error) => done(null, error.message));
      child.on("exit", (code, signal) => done(code, signal === null ? "" : `ended by ${signal}`));
    });
  }
}
