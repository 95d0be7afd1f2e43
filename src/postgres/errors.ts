/** What went wrong with the local server. Codes are stable; the message says what, where, and what was missing. */
export type ServerErrorCode =
  /** No connection: refused, hung, not accepting. */
  | "SERVER_UNREACHABLE"
  /** The server did not answer in time; the connection was destroyed. */
  | "SERVER_DEADLINE"
  /** The server refused a statement; `sqlState` says why. */
  | "SERVER_STATEMENT"
  /** The server is not in the state that the call needs. */
  | "SERVER_STATE"
  /** The end of streaming could not be proven in time. */
  | "PLEDGE_NOT_PROVEN"
  /** Still in recovery when the deadline passed. */
  | "PROMOTION_NOT_DONE"
  /** The data already carry a newer token. */
  | "MARKER_OUTDATED"
  /** postmaster.pid or pg_control do not say what was expected. */
  | "SERVER_PROCESS";

export class ServerError extends Error {
  override readonly name = "ServerError";
  readonly sqlState: string | null;
  constructor(
    readonly code: ServerErrorCode,
    message: string,
    options: { readonly sqlState?: string | null; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.sqlState = options.sqlState ?? null;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
