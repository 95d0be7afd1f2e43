/** Asks a node one question without being a member: joining nodes and the CLI. */
import { Connection, describeEnding, type Ending } from "./connection.js";
import { dial, type TlsFiles } from "./dialing.js";
import { errorCode, TransportError } from "./errors.js";
import { FrameError, maxFrameBytes } from "./frames.js";
import { Dialer } from "./handshake.js";
import { parseGuestResponse } from "./schemas.js";
import type { GuestRequest, GuestResponse } from "./types.js";

export interface GuestOptions {
  readonly host: string;
  readonly port: number;
  readonly secret: Uint8Array | null;
  readonly tls: TlsFiles | null;
  /** From dialing to the answer. */
  readonly timeoutMs: number;
  /** Empty or left out: whatever cluster answers. */
  readonly clusterId?: string;
  /** Shown in the other node's log. */
  readonly name?: string;
}

/** @throws TransportError: nobody there, nobody in time, not pg_replica, or not allowed. */
export function guestRequest(options: GuestOptions, request: GuestRequest): Promise<GuestResponse> {
  const { host, port, secret, tls, timeoutMs, clusterId = "", name = "guest" } = options;
  const place = `${host}:${port}`;
  return new Promise((resolve, reject) => {
    const self = { clusterId, id: 0, name, incarnation: "" };
    const dialer = new Dialer({ self, to: 0, secret, check: () => undefined });
    let welcome = false;
    const socket = dial(host, port, tls, () => connection.send(dialer.hello));
    const connection: Connection = new Connection(socket, maxFrameBytes, {
      onFrame(frame) {
        if (welcome) {
          const response = parseResponse(frame);
          resolve(response);
          connection.close();
          return;
        }
        const reply = dialer.receive(frame);
        welcome = reply === null;
        if (welcome) connection.frameLimitBytes = maxFrameBytes;
        connection.send(reply ?? request);
      },
      onEnd(ending) {
        clearTimeout(timer);
        // After an answer this changes nothing: the promise is settled.
        reject(endingError(place, ending, welcome));
      },
    });
    const timer = setTimeout(() => {
      reject(new TransportError("TRANSPORT_TIMEOUT", `${place} did not answer within ${timeoutMs} ms`));
      connection.close();
    }, timeoutMs);
  });
}

function parseResponse(frame: unknown): GuestResponse {
  try {
    return parseGuestResponse(frame);
  } catch (error) {
    throw new FrameError(`sent a malformed answer: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function endingError(place: string, ending: Ending, welcome: boolean): TransportError {
  if (ending.kind === "problem") {
    const denied = /secret|refused/.test(ending.text);
    return new TransportError(
      denied ? "TRANSPORT_DENIED" : "TRANSPORT_PROTOCOL",
      `the peer at ${place} ${ending.text}`,
    );
  }
  const error = ending.kind === "lost" ? ending.error : null;
  if (errorCode(error) === "ECONNREFUSED") {
    return new TransportError(
      "TRANSPORT_REFUSED",
      `nothing listens at ${place}: is the server running, and is this its pg_replica.raft_port?`,
      error,
    );
  }
  if (error !== null && errorCode(error) !== "ECONNRESET") {
    return new TransportError("TRANSPORT_UNREACHABLE", `cannot reach ${place}: ${describeEnding(ending)}`, error);
  }
  return welcome
    ? new TransportError("TRANSPORT_UNREACHABLE", `${place} closed the connection before it answered`)
    : new TransportError(
        "TRANSPORT_DENIED",
        `${place} closed the connection during the handshake: it is not pg_replica, or has another secret, version or TLS setting (its log says which)`,
      );
}
