/** Why the HTTP endpoint can not start, or why a request is not answered. */

/** The endpoint can not listen; the message names the setting. */
export class HttpServerError extends Error {
  override readonly name = "HttpServerError";
  constructor(
    readonly code: "http-port-in-use" | "http-address" | "http-listen",
    message: string,
    readonly hint: string,
    options?: { readonly cause?: unknown },
  ) {
    super(message, options);
  }
}

/** A query parameter that is not understood (400): ignoring it would give a health check another meaning. */
export class QueryError extends Error {
  override readonly name = "QueryError";
  readonly code = "bad-parameter";
  constructor(
    readonly parameter: string,
    message: string,
  ) {
    super(message);
  }
}
