import { describeError } from "../agent/errors.js";

export { describeError };

/** What every command ends with. */
export const exitCodes = { done: 0, failed: 1, refused: 2 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

export const exitCodesHelp = `
Exit codes: 0 done; 1 failed or not finished in time, trying again may help;
            2 refused: wrong usage, or somebody has to change something first.`;

/** A command that can not go on: one line what, one line what to do. */
export class CliError extends Error {
  override readonly name = "CliError";
  constructor(
    readonly code: string,
    message: string,
    readonly hint: string = "",
    readonly exitCode: ExitCode = exitCodes.refused,
    options?: { readonly cause?: unknown },
  ) {
    super(message, options);
  }
}

/** The two lines for standard error. */
export function errorLines(error: unknown): string {
  const hint = error !== null && typeof error === "object" && "hint" in error ? error.hint : "";
  const message = describeError(error);
  // Some errors have their hint at the end of the message already.
  return typeof hint === "string" && hint !== "" && !message.includes(hint)
    ? `error: ${message}\nhint: ${hint}\n`
    : `error: ${message}\n`;
}
