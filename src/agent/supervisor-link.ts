/**
 * The agent's side of fd 3 (JSON lines to and from the supervisor) and fd 4 (the postmaster-death pipe).
 * The messages are described in docs/supervisor-protocol.md.
 */
import { Socket } from "node:net";
import * as v from "valibot";
import { formatToken, parseToken } from "../control/token.js";
import type { AgentConfig, Token } from "../control/types.js";
import { AgentError } from "./errors.js";

export interface LeaseWord {
  readonly token: Token;
  readonly remainingMs: number;
  readonly open: boolean;
}

export interface SupervisorEvents {
  onConfig(config: AgentConfig): void;
  /** The server is stopping in good order. */
  onShutdown(): void;
  /** The postmaster died; the worker expired the word and ended the orphans (`gone`: all were seen to have ended). */
  onReleased(message: { readonly gone: boolean; readonly backends: number }): void;
  /** fd 3 closed: the worker is gone. */
  onSupervisorGone(): void;
  /** fd 4 closed: the postmaster is gone. */
  onPostmasterGone(): void;
  /** The supervisor sent something that this agent does not understand: versions do not fit. */
  onProtocolError(text: string): void;
}

const tagsSchema = v.object({
  nofailover: v.boolean(),
  failoverPriority: v.number(),
  nosync: v.boolean(),
  noloadbalance: v.boolean(),
});

const configSchema = v.object({
  nodeId: v.string(),
  peers: v.array(v.object({ name: v.string(), host: v.string(), port: v.number() })),
  raftPort: v.number(),
  listenAddresses: v.string(),
  httpPort: v.number(),
  bootstrap: v.boolean(),
  synchronous: v.picklist(["async", "quorum"]),
  failoverTimeoutMs: v.number(),
  advertiseDsn: v.string(),
  stateDir: v.string(),
  tags: tagsSchema,
  secretFile: v.string(),
  tlsCertFile: v.string(),
  tlsKeyFile: v.string(),
  tlsCaFile: v.string(),
  logLevel: v.picklist(["debug", "info", "warning", "error"]),
  maximumLagOnFailover: v.number(),
  onRoleChange: v.string(),
  prePromote: v.string(),
  server: v.object({
    pgdata: v.string(),
    bindir: v.string(),
    port: v.number(),
    socketDirectory: v.string(),
    versionNum: v.number(),
    systemIdentifier: v.string(),
    postmasterPid: v.number(),
    dataChecksums: v.boolean(),
    configFile: v.string(),
  }),
  markerKey: v.string(),
});

const messageSchema = v.variant("type", [
  v.object({ type: v.literal("config"), config: configSchema }),
  v.object({ type: v.literal("stamp"), id: v.number(), boottimeNs: v.string() }),
  v.object({
    type: v.literal("lease"),
    id: v.optional(v.number()),
    token: v.string(),
    deadlineNs: v.string(),
    open: v.boolean(),
    remainingMs: v.number(),
  }),
  v.object({ type: v.literal("shutdown"), mode: v.optional(v.string()) }),
  v.object({ type: v.literal("released"), token: v.string(), backends: v.number(), gone: v.boolean() }),
]);

type Waiter = { readonly resolve: (value: never) => void; readonly reject: (error: Error) => void };

/** Longest line that either side may send. */
const maxLineBytes = 64 * 1024;
/** A worker that does not answer for this long is frozen or gone; the lease then runs out by itself. */
const requestTimeoutMs = 2000;

export class SupervisorLink {
  readonly #socket: Socket;
  readonly #postmaster: Socket;
  readonly #waiters = new Map<number, Waiter & { readonly timer: NodeJS.Timeout }>();
  #nextId = 1;
  #buffer = "";
  #word: LeaseWord | null = null;

  constructor(readonly events: SupervisorEvents) {
    this.#socket = new Socket({ fd: 3, readable: true, writable: true });
    this.#socket.setEncoding("utf8");
    this.#socket.on("data", (text: string) => this.#receive(text));
    // The error itself carries nothing that "close" does not: the worker is gone either way.
    this.#socket.on("error", () => this.#socket.destroy());
    this.#socket.on("close", () => this.#closed());
    this.#postmaster = new Socket({ fd: 4, readable: true, writable: false });
    this.#postmaster.on("error", () => this.#postmaster.destroy());
    this.#postmaster.on("close", () => this.events.onPostmasterGone());
    this.#postmaster.resume();
  }

  /** The lease word as last reported; null before the first report. */
  get word(): LeaseWord | null {
    return this.#word;
  }

  /** To PostgreSQL's log; once the worker is gone, to standard error, which is the server's own. */
  log(level: "debug" | "info" | "warning" | "error", message: string): void {
    if (this.#socket.destroyed) process.stderr.write(`pg_replica: ${level}: ${message}\n`);
    else this.#send({ type: "log", level, message: message.slice(0, 8000) });
  }

  /** CLOCK_BOOTTIME in ns, read by the worker; opaque to the agent. */
  stamp(): Promise<string> {
    return this.#request<string>((id) => ({ type: "stamp", id }));
  }

  /** Gives the word a newer token, expired and closed; answers with the word as it is afterwards. */
  token(token: Token): Promise<LeaseWord> {
    return this.#request<LeaseWord>((id) => ({ type: "token", id, token: formatToken(token) }));
  }

  renew(token: Token, stampNs: string, durationMs: number): Promise<LeaseWord> {
    return this.#request<LeaseWord>((id) => ({ type: "renew", id, token: formatToken(token), stampNs, durationMs }));
  }

  open(token: Token): Promise<LeaseWord> {
    return this.#request<LeaseWord>((id) => ({ type: "open", id, token: formatToken(token) }));
  }

  expire(): Promise<LeaseWord> {
    return this.#request<LeaseWord>((id) => ({ type: "expire", id }));
  }

  stopServer(mode: "fast" | "immediate"): void {
    this.#send({ type: "stop", mode });
  }

  #request<T>(message: (id: number) => object): Promise<T> {
    const id = this.#nextId++;
    return new Promise<T>((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new AgentError("supervisor-gone", "the supervisor of this server is gone"));
        return;
      }
      const timer = setTimeout(() => {
        this.#waiters.delete(id);
        reject(new AgentError("supervisor-silent", `the supervisor did not answer within ${requestTimeoutMs} ms`));
      }, requestTimeoutMs);
      this.#waiters.set(id, { resolve: resolve as (value: never) => void, reject, timer });
      this.#send(message(id));
    });
  }

  #send(message: object): void {
    if (!this.#socket.destroyed && this.#socket.writable) this.#socket.write(`${JSON.stringify(message)}\n`);
  }

  #receive(text: string): void {
    this.#buffer += text;
    for (let end = this.#buffer.indexOf("\n"); end >= 0; end = this.#buffer.indexOf("\n")) {
      const line = this.#buffer.slice(0, end);
      this.#buffer = this.#buffer.slice(end + 1);
      this.#handle(line);
    }
    if (this.#buffer.length > maxLineBytes) {
      this.events.onProtocolError(`the supervisor sent a line of more than ${maxLineBytes} bytes`);
    }
  }

  #handle(line: string): void {
    const message = parseMessage(line);
    if (message === null) {
      this.events.onProtocolError(
        `the supervisor sent a message that this agent does not understand: ${line.slice(0, 200)}`,
      );
      return;
    }
    switch (message.type) {
      case "config":
        this.events.onConfig(message.config);
        return;
      case "stamp":
        this.#answer(message.id, message.boottimeNs);
        return;
      case "lease": {
        this.#word = { token: parseToken(message.token), remainingMs: message.remainingMs, open: message.open };
        if (message.id !== undefined) this.#answer(message.id, this.#word);
        return;
      }
      case "shutdown":
        this.events.onShutdown();
        return;
      case "released":
        this.events.onReleased(message);
        return;
    }
  }

  #answer(id: number, value: unknown): void {
    const waiter = this.#waiters.get(id);
    // Too late: the request has timed out and its caller was told so.
    if (waiter === undefined) return;
    this.#waiters.delete(id);
    clearTimeout(waiter.timer);
    waiter.resolve(value as never);
  }

  #closed(): void {
    for (const waiter of this.#waiters.values()) {
      clearTimeout(waiter.timer);
      waiter.reject(new AgentError("supervisor-gone", "the supervisor of this server is gone"));
    }
    this.#waiters.clear();
    this.events.onSupervisorGone();
  }
}

function parseMessage(line: string): v.InferOutput<typeof messageSchema> | null {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return null;
  }
  const result = v.safeParse(messageSchema, value);
  return result.success ? result.output : null;
}
