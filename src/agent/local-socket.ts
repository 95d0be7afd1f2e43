/**
 * The local socket beside PostgreSQL's own: one JSON line in, one JSON line out. The SQL functions and the CLI use it.
 * Only the server's own user may connect (mode 0600).
 */
import { chmod, lstat, unlink } from "node:fs/promises";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import * as v from "valibot";
import { AgentError, CommandError, describeError } from "./errors.js";

export type CommandHandler = (command: string, args: Readonly<Record<string, unknown>>) => Promise<unknown>;

const maxRequestBytes = 64 * 1024;
const idleTimeoutMs = 60_000;
/** sockaddr_un.sun_path on Linux, less the terminating zero. */
const maxPathBytes = 107;

const requestSchema = v.object({ command: v.string(), args: v.optional(v.record(v.string(), v.unknown()), {}) });

export function localSocketPath(socketDirectory: string, port: number): string {
  return join(socketDirectory, `.s.pg_replica.${port}`);
}

export class LocalSocket {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(
    readonly path: string,
    readonly handle: CommandHandler,
    readonly onProblem: (text: string) => void,
  ) {
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** The state directory's lock is held: a socket file that is still there was left by an agent that is gone. */
  async start(): Promise<void> {
    if (Buffer.byteLength(this.path) > maxPathBytes) {
      throw new AgentError(
        "socket-path",
        `the path ${this.path} is too long for a Unix socket (${maxPathBytes} bytes)`,
        "Use a shorter unix_socket_directories.",
      );
    }
    if (await answers(this.path)) {
      throw new AgentError("socket-in-use", `another agent answers on ${this.path}`, "Stop it, or use another port.");
    }
    await refuseOther(this.path);
    await unlink(this.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "ENOENT") throw error;
    });
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(this.path, () => {
        this.#server.off("error", reject);
        this.#server.on("error", (error) => this.onProblem(`local socket: ${error.message}`));
        resolve();
      });
    });
    await chmod(this.path, 0o600);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(socket: Socket): void {
    this.#sockets.add(socket);
    let buffer = "";
    let busy = false;
    socket.setEncoding("utf8");
    socket.setTimeout(idleTimeoutMs, () => socket.destroy());
    socket.on("close", () => this.#sockets.delete(socket));
    // The caller went away; there is nobody to tell.
    socket.on("error", () => socket.destroy());
    socket.on("data", (text: string) => {
      buffer += text;
      if (buffer.length > maxRequestBytes) {
        socket.end(
          `${JSON.stringify(failure(new CommandError("too-large", `a request is at most ${maxRequestBytes} bytes`)))}\n`,
        );
        return;
      }
      const end = buffer.indexOf("\n");
      if (end < 0 || busy) return;
      busy = true;
      const line = buffer.slice(0, end);
      this.#answer(line).then((answer) => socket.end(`${JSON.stringify(answer)}\n`));
    });
  }

  async #answer(line: string): Promise<unknown> {
    try {
      const request = v.safeParse(requestSchema, JSON.parse(line));
      if (!request.success) {
        throw new CommandError("bad-request", "a request is one JSON object with a command and args", "", "22023");
      }
      return { ok: true, result: await this.handle(request.output.command, request.output.args) };
    } catch (error) {
      if (error instanceof SyntaxError)
        return failure(new CommandError("bad-request", "the request is not JSON", "", "22023"));
      return failure(error);
    }
  }
}

export function failure(error: unknown): {
  ok: false;
  error: { code: string; message: string; hint: string; sqlstate: string };
} {
  if (error instanceof CommandError) {
    return {
      ok: false,
      error: { code: error.code, message: error.message, hint: error.hint, sqlstate: error.sqlstate },
    };
  }
  return { ok: false, error: { code: "internal", message: describeError(error), hint: "", sqlstate: "XX000" } };
}

/** Only what an earlier agent left is removed. */
async function refuseOther(path: string): Promise<void> {
  const found = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return null;
    throw new AgentError("socket-path", `the agent's socket: ${error.message}`, "Check unix_socket_directories.");
  });
  if (found === null || found.isSocket()) return;
  throw new AgentError("socket-path", `${path} is there and is no socket`, "Move it away: the agent needs this name.");
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection(path);
    socket.on("connect", () => {
      socket.destroy();
      resolve(true);
    });
    // Refused or not there: nobody listens.
    socket.on("error", () => resolve(false));
  });
}
