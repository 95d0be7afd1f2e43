/** The HTTP endpoint of a node (pg_replica.http_port): health checks, cluster state and metrics. */
import { createServer, type Server } from "node:http";
import { getRequestListener } from "@hono/node-server";
import type { NodeView } from "../control/types.js";
import { createApp } from "./app.js";
import { HttpServerError } from "./errors.js";

export interface HttpServerOptions {
  /** As pg_replica.listen_addresses: host names or addresses separated by commas, "*" for all. */
  readonly host: string;
  /** pg_replica.http_port. */
  readonly port: number;
  readonly view: () => NodeView;
  readonly onRequestError: (text: string) => void;
}

export interface HttpServer {
  /** @throws HttpServerError when an address can not be listened on; then none is. */
  start(): Promise<void>;
  /** Ends open connections too. */
  stop(): Promise<void>;
}

const requestTimeoutMs = 10_000;
const keepAliveTimeoutMs = 5_000;
const maxHeaderBytes = 16 * 1024;
/** A check is answered within milliseconds; more at once is somebody else's mistake. */
const maxConnections = 256;

export function createHttpServer(options: HttpServerOptions): HttpServer {
  const servers: Server[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(servers.splice(0).map(close));
  };
  return {
    start: async () => {
      try {
        for (const host of listenHosts(options.host)) servers.push(await listen(options, host));
      } catch (error) {
        await stop();
        throw error;
      }
    },
    stop,
  };
}

/** "*" and PostgreSQL's own spellings to addresses for Node; undefined: all. */
function listenHosts(text: string): Array<string | undefined> {
  const names = text
    .split(",")
    .map((name) => name.trim())
    .filter((name) => name !== "");
  if (names.length === 0 || names.includes("*")) return [undefined];
  return [...new Set(names.map((name) => name.replace(/^\[(.*)\]$/, "$1")))];
}

async function listen(options: HttpServerOptions, host: string | undefined): Promise<Server> {
  const app = createApp(options);
  const server = createServer({ maxHeaderSize: maxHeaderBytes }, getRequestListener(app.fetch));
  server.requestTimeout = requestTimeoutMs;
  server.headersTimeout = requestTimeoutMs;
  server.keepAliveTimeout = keepAliveTimeoutMs;
  server.maxConnections = maxConnections;
  await new Promise<void>((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) => reject(listenError(error, host, options.port));
    server.once("error", failed);
    server.listen({ port: options.port, ...(host === undefined ? {} : { host }) }, () => {
      server.off("error", failed);
      server.on("error", (error) => options.onRequestError(`HTTP endpoint: ${error.message}`));
      resolve();
    });
  });
  return server;
}

function listenError(error: NodeJS.ErrnoException, host: string | undefined, port: number): HttpServerError {
  const where = `${host ?? "*"} port ${port}`;
  const cause = { cause: error };
  if (error.code === "EADDRINUSE") {
    return new HttpServerError(
      "http-port-in-use",
      `another program listens on ${where} (pg_replica.http_port)`,
      "Set pg_replica.http_port to a free port, or to 0 to turn HTTP off.",
      cause,
    );
  }
  if (error.code === "EADDRNOTAVAIL" || error.code === "ENOTFOUND") {
    return new HttpServerError(
      "http-address",
      `${host ?? "*"} is not an address of this machine (pg_replica.listen_addresses)`,
      "Set pg_replica.listen_addresses to addresses of this machine, or to *.",
      cause,
    );
  }
  return new HttpServerError(
    "http-listen",
    `can not listen on ${where} (pg_replica.http_port): ${error.message}`,
    "Check pg_replica.http_port and pg_replica.listen_addresses.",
    cause,
  );
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
