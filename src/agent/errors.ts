/** Why the agent can not start or go on; the message says what was wrong, where, and what to do. */
export class AgentError extends Error {
  override readonly name = "AgentError";
  constructor(
    readonly code: string,
    message: string,
    readonly hint: string = "",
    options?: { readonly cause?: unknown },
  ) {
    super(message, options);
  }
}

/** A command that came in by SQL, CLI or a peer and can not be carried out; shown to whoever asked. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  constructor(
    readonly code: string,
    message: string,
    readonly hint: string = "",
    /** SQLSTATE for the SQL functions: 55000 object not in prerequisite state, 22023 invalid parameter value. */
    readonly sqlstate: string = "55000",
  ) {
    super(message);
  }
}

export function describeError(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
