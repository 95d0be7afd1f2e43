/** `prepare`: brings the data directory back onto the primary's history before a start, when that was asked for. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { lastConfigFile, readStateDirectory } from "../postgres/configuration.js";
import { findBindir } from "./bindir.js";
import { CliError, describeError, exitCodes } from "./errors.js";
import type { PrepareFlags } from "./program.js";
import { ProgressBar } from "./progress.js";
import type { Terminal } from "./terminal.js";

/** Another run can not mend these. */
const refusals: ReadonlySet<string> = new Set([
  "PREPARE_NOT_A_DATA_DIRECTORY",
  "PREPARE_WRONG_USER",
  "PREPARE_NO_STATE_DIRECTORY",
  "PREPARE_CLONE_PENDING",
  "TOOL_NOT_FOUND",
]);

export async function runPrepare(flags: PrepareFlags, terminal: Terminal): Promise<void> {
  const { prepare } = await import("../postgres/prepare/index.js");
  const bar = new ProgressBar(terminal);
  const pgdata = resolve(flags.pgdata);
  const bindir = findBindir(flags.bindir);
  try {
    const configFile = flags.configFile ?? lastConfigFile(pgdata);
    const stateDir = flags.stateDir ?? (await stateDirectory(pgdata, bindir, configFile));
    const outcome = await prepare({
      pgdata,
      bindir,
      ...(stateDir === undefined ? {} : { stateDir }),
      ...(configFile === undefined ? {} : { configFile }),
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

/** Without a configuration the default place is looked at; the server itself refuses to start while a rejoin is due. */
async function stateDirectory(
  pgdata: string,
  bindir: string,
  configFile: string | undefined,
): Promise<string | undefined> {
  if (configFile === undefined) {
    return existsSync(join(pgdata, "postgresql.conf")) ? readStateDirectory({ pgdata, bindir }) : undefined;
  }
  return readStateDirectory({ pgdata, bindir, configFile });
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "prepare-failed";
}
