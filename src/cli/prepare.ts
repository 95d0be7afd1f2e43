/** `prepare`: brings the data directory back onto the primary's history before a start, when that was asked for. */

import { findBindir } from "./bindir.js";
import { CliError, describeError, exitCodes } from "./errors.js";
import type { PrepareFlags } from "./program.js";
import { ProgressBar } from "./progress.js";
import type { Terminal } from "./terminal.js";

/** Another run can not mend these. */
const refusals: ReadonlySet<string> = new Set([
  "PREPARE_NOT_A_DATA_DIRECTORY",
  "PREPARE_WRONG_USER",
  "PREPARE_CLONE_PENDING",
  "TOOL_NOT_FOUND",
]);

export async function runPrepare(flags: PrepareFlags, terminal: Terminal): Promise<void> {
  const { prepare } = await import("../postgres/prepare/index.js");
  const bar = new ProgressBar(terminal);
  try {
    const outcome = await prepare({
      pgdata: flags.pgdata,
      bindir: findBindir(flags.bindir),
      ...(flags.stateDir === undefined ? {} : { stateDir: flags.stateDir }),
      log: (level, message) => terminal.note(`${level}: ${message}`),
      onProgress: (step, progress) => bar.update(step, progress),
    });
    bar.end();
    if (outcome.action !== "none") {
      terminal.note(
        `${outcome.action}${outcome.sourceNode === null ? "" : ` from ${outcome.sourceNode}`}: ${outcome.why}`,
      );
    }
  } catch (error) {
    bar.end();
    const code = codeOf(error);
    const exitCode = refusals.has(code) ? exitCodes.refused : exitCodes.failed;
    const hint = exitCode === exitCodes.failed ? "Nothing is lost: run pg_replica prepare again." : "";
    throw new CliError(code, describeError(error), hint, exitCode, { cause: error });
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "prepare-failed";
}
