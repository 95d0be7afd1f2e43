/** Listens on the addresses of pg_replica.listen_addresses, read as PostgreSQL reads its own. */
import { createServer as createPlain, type Server, type Socket } from "node:net";
import { createServer as createTls } from "node:tls";
import type { TlsFiles } from "./dialing.js";
import { errorCode, errorText, TransportError } from "./errors.js";

export interface ListenerOptions {
  /** "*": all; "": none; or a comma-separated list. */
  readonly addresses: string;
  readonly port: number;
  readonly tls: TlsFiles | null;
  readonly handshakeTimeoutMs: number;
  readonly maxConnections: number;
  readonly onSocket: (socket: Socket) => void;
  readonly onTlsProblem: (remote: string, text: string) => void;
}

/** @throws TransportError; then nothing listens. */
export async function listen(options: ListenerOptions): Promise<Server[]> {
  const hosts = options.addresses.split(",").flatMap((host) => (host.trim() === "" ? [] : [host.trim()]));
  const servers: Server[] = [];
  try {
    for (const host of hosts) servers.push(await listenOn(options, host));
  } catch (error) {
    for (const server of servers) server.close();
    throw error;
  }
  return servers;
}

/** Whether these addresses and this port can be listened on, at this moment. @throws TransportError */
export async function requireFreePort(addresses: string, port: number): Promise<void> {
  const servers = await listen({
    addresses,
    port,
    tls: null,
    handshakeTimeoutMs: 0,
    maxConnections: 1,
    onSocket: (socket) => socket.destroy(),
    onTlsProblem: () => undefined,
  });
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
}

async function listenOn(options: ListenerOptions, host: string): Promise<Server> {
  if (host !== "*") return open(options, host);
  try {
    return await open(options, "::");
  } catch (error) {
    // No IPv6 on this machine.
    const cause = error instanceof TransportError ? error.cause : error;
    if (errorCode(cause) !== "EAFNOSUPPORT" && errorCode(cause) !== "EADDRNOTAVAIL") throw error;
    return open(options, "0.0.0.0");
  }
}

function open(options: ListenerOptions, host: string): Promise<Server> {
  const server = makeServer(options);
  server.maxConnections = options.maxConnections;
  return new Promise((resolve, reject) => {
    server.once("error", (error) => reject(listenError(host, options.port, error)));
    server.listen({ host, port: options.port }, () => resolve(server));
  });
}

function makeServer(options: ListenerOptions): Server {
  const { tls, handshakeTimeoutMs, onSocket, onTlsProblem } = options;
  if (tls === null) return createPlain(onSocket);
  const server = createTls(
    {
      ...tls,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: "TLSv1.3",
      handshakeTimeout: handshakeTimeoutMs,
    },
    onSocket,
  );
  server.on("tlsClientError", (error, socket) => {
    onTlsProblem(socket.remoteAddress ?? "an unknown address", errorText(error));
    socket.destroy();
  });
  return server;
}

function listenError(host: string, port: number, error: unknown): TransportError {
  if (errorCode(error) === "EADDRINUSE") {
    return new TransportError(
      "TRANSPORT_PORT_IN_USE",
      `port ${port} on "${host}" (pg_replica.raft_port) is in use by another process: stop it, or set pg_replica.raft_port to a free port`,
      error,
    );
  }
  return new TransportError(
    "TRANSPORT_LISTEN",
    `cannot listen on "${host}", port ${port}: ${errorText(error)}; check pg_replica.listen_addresses and pg_replica.raft_port`,
    error,
  );
}
