/** The routes of the HTTP endpoint: reads only, JSON, answered from the node's view without touching PostgreSQL. */
import { Hono } from "hono";
import type { NodeView } from "../control/types.js";
import { clusterBody, historyBody, nodeBody } from "./bodies.js";
import { QueryError } from "./errors.js";
import { healthChecks, tagsMatch } from "./health.js";
import { metricsContentType, renderMetrics } from "./metrics.js";
import { parseHealthQuery } from "./query.js";

export interface AppOptions {
  readonly view: () => NodeView;
  /** Told of a request that failed inside (500): a bug of this program. */
  readonly onRequestError: (text: string) => void;
}

const readMethods: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);
const allow = "GET, HEAD, OPTIONS";

/** Paths that change something in Patroni's API; here the CLI and SQL do that. */
const writePaths: Readonly<Record<string, string>> = {
  "/switchover": "pg_replica switchover",
  "/failover": "pg_replica failover",
  "/config": "pg_replica.* in postgresql.conf",
  "/reinitialize": "pg_replica join",
  "/restart": "the server's own supervisor (systemctl restart)",
  "/reload": "SELECT pg_reload_conf()",
};

type Page = (view: NodeView, query: URLSearchParams) => Promise<Response> | Response;

export function createApp(options: AppOptions): Hono {
  const app = new Hono();
  app.all("*", async (context) => {
    const { method } = context.req;
    const url = new URL(context.req.url);
    const response = await answer(options, method, url);
    // OPTIONS as HAProxy's httpchk sends it wants the status only; HEAD may not have a body.
    return method === "GET" || response.status === 405
      ? response
      : new Response(null, { status: response.status, headers: response.headers });
  });
  app.onError((error, context) => {
    options.onRequestError(`HTTP ${context.req.method} ${context.req.path.slice(0, 100)}: ${error.message}`);
    return json(500, { error: "internal", message: "the request failed; the server's log has the reason" });
  });
  return app;
}

async function answer(options: AppOptions, method: string, url: URL): Promise<Response> {
  const path = url.pathname.length > 1 ? url.pathname.replace(/\/$/, "") : url.pathname;
  const page = pages.get(path);
  if (page === undefined && !Object.hasOwn(writePaths, path)) return notFound(path);
  if (page === undefined || !readMethods.has(method)) return methodNotAllowed(method, path);
  try {
    return await page(options.view(), url.searchParams);
  } catch (error) {
    if (!(error instanceof QueryError)) throw error;
    return json(400, { error: error.code, parameter: error.parameter, message: error.message });
  }
}

const pages: ReadonlyMap<string, Page> = new Map<string, Page>([
  ...Object.entries(healthChecks).map(([path, check]): [string, Page] => [
    path,
    (view, parameters) => {
      const query = parseHealthQuery(parameters);
      return json(check(view, query) && tagsMatch(view, query.tags) ? 200 : 503, nodeBody(view));
    },
  ]),
  ["/patroni", (view) => json(200, nodeBody(view))],
  ["/cluster", (view) => json(200, clusterBody(view))],
  ["/history", (view) => json(200, historyBody(view))],
  [
    "/metrics",
    async (view) =>
      new Response(await renderMetrics(view), { status: 200, headers: { "Content-Type": metricsContentType } }),
  ],
]);

/** Every path that is answered. */
export const knownPaths: readonly string[] = [...pages.keys()];

function notFound(path: string): Response {
  return json(404, {
    error: "not-found",
    message: `there is nothing at ${path.slice(0, 100)}`,
    paths: knownPaths,
  });
}

function methodNotAllowed(method: string, path: string): Response {
  const instead = writePaths[path];
  const message = `${method.slice(0, 20)} ${path} is not offered: this endpoint only answers reads`;
  const hint = instead === undefined ? `use one of: ${allow}` : `use instead: ${instead}`;
  return json(405, { error: "method-not-allowed", message, hint }, { Allow: instead === undefined ? allow : "" });
}

function json(status: number, body: unknown, headers: Record<string, string> = {}): Response {
  return new Response(`${JSON.stringify(body)}\n`, {
    status,
    headers: { "Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store", ...headers },
  });
}
