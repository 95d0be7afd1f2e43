/** Runs a command line to its exit code. */
import { type Command, CommanderError } from "commander";
import { errorLines, exitCodes } from "./errors.js";

/** Set by the bundle from package.json. */
export const version: string = (globalThis as { PG_REPLICA_VERSION?: string }).PG_REPLICA_VERSION ?? "development";

export async function runProgram(program: Command, argv: readonly string[]): Promise<number> {
  try {
    await program.parseAsync([...argv]);
    return Number(process.exitCode ?? exitCodes.done);
  } catch (error) {
    // Commander has printed its own message and hint.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.refused;
    process.stderr.write(errorLines(error));
    return exitCodeOf(error);
  }
}

function exitCodeOf(error: unknown): number {
  const code = error !== null && typeof error === "object" && "exitCode" in error ? error.exitCode : undefined;
  return typeof code === "number" ? code : exitCodes.failed;
}
