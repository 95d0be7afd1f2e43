export type TransportErrorCode =
  | "TRANSPORT_PORT_IN_USE"
  | "TRANSPORT_LISTEN"
  | "TRANSPORT_REFUSED"
  | "TRANSPORT_UNREACHABLE"
  | "TRANSPORT_TIMEOUT"
  /** The other side answered, but not as pg_replica does. */
  | "TRANSPORT_PROTOCOL"
  /** The other side is not (or does not accept us as) a node of this cluster. */
  | "TRANSPORT_DENIED";

/** What was wrong, with whom, and what to do. `code` is stable. */
export class TransportError extends Error {
  override readonly name = "TransportError";
  readonly code: TransportErrorCode;

  constructor(code: TransportErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}

export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}
