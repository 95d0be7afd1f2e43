/** One socket that carries frames: takes them apart, bounds what waits to be sent, and ends exactly once. */
import type { Socket } from "node:net";
import { errorText } from "./errors.js";
import { encodeFrame, FrameError, FrameReader } from "./frames.js";
import { HandshakeError } from "./handshake.js";

/** Why a connection ended. "problem": the peer broke the rules; "lost": the network or the peer ended it. */
export type Ending =
  | { readonly kind: "problem"; readonly text: string }
  | { readonly kind: "lost"; readonly error: Error | null }
  | { readonly kind: "closed" };

export interface ConnectionHandlers {
  /** May throw FrameError or HandshakeError: the connection then ends with that problem. */
  onFrame(frame: unknown): void;
  /** Exactly once. */
  onEnd(ending: Ending): void;
}

interface Waiting {
  readonly bytes: Buffer;
  /** Appends, snapshots and gossip are sent again by their makers; heartbeats and votes are worth more. */
  readonly droppable: boolean;
}

const keepAliveMs = 5000;

export class Connection {
  readonly #socket: Socket;
  readonly #handlers: ConnectionHandlers;
  readonly #reader = new FrameReader();
  readonly #outboxBytes: number;
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  #full = false;
  #ended = false;
  #lastError: Error | null = null;

  constructor(socket: Socket, outboxBytes: number, handlers: ConnectionHandlers) {
    this.#socket = socket;
    this.#outboxBytes = outboxBytes;
    this.#handlers = handlers;
    socket.setNoDelay(true);
    socket.setKeepAlive(true, keepAliveMs);
    socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    socket.on("drain", () => this.#flush());
    socket.on("error", (error) => {
      this.#lastError = error;
    });
    socket.on("end", () => this.#end({ kind: "lost", error: null }));
    socket.on("close", () => this.#end({ kind: "lost", error: this.#lastError }));
  }

  set frameLimitBytes(bytes: number) {
    this.#reader.limitBytes = bytes;
  }

  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  send(frame: object, droppable = false): void {
    this.sendBytes(encodeFrame(frame), droppable);
  }

  sendBytes(bytes: Buffer, droppable: boolean): void {
    if (this.#ended) return;
    this.#waiting.push({ bytes, droppable });
    this.#waitingBytes += bytes.length;
    while (this.#waitingBytes > this.#outboxBytes && this.#waiting.length > 1) this.#dropOldest();
    this.#flush();
  }

  /** Ends the connection from this side. The last frame, if any, is sent first. */
  close(last?: object): void {
    if (last !== undefined && !this.#ended) this.#socket.end(encodeFrame(last));
    this.#end({ kind: "closed" }, last !== undefined);
  }

  fail(text: string, last?: object): void {
    if (last !== undefined && !this.#ended) this.#socket.end(encodeFrame(last));
    this.#end({ kind: "problem", text }, last !== undefined);
  }

  #dropOldest(): void {
    const at = Math.max(
      0,
      this.#waiting.findIndex((frame, index) => frame.droppable && index < this.#waiting.length - 1),
    );
    const [dropped] = this.#waiting.splice(at, 1);
    this.#waitingBytes -= dropped?.bytes.length ?? 0;
  }

  #flush(): void {
    if (this.#ended) return;
    this.#full = this.#socket.writableNeedDrain;
    while (!this.#full) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#waitingBytes -= next.bytes.length;
      this.#full = !this.#socket.write(next.bytes);
    }
  }

  #onData(chunk: Buffer): void {
    if (this.#ended) return;
    this.#reader.push(chunk);
    while (!this.#ended) {
      try {
        const frame = this.#reader.next();
        if (frame === undefined) return;
        this.#handlers.onFrame(frame);
      } catch (error) {
        if (!(error instanceof FrameError) && !(error instanceof HandshakeError)) throw error;
        const tell = error instanceof HandshakeError && error.tellRemote;
        this.fail(error.message, tell ? { t: "refused", why: error.message } : undefined);
      }
    }
  }

  #end(ending: Ending, flush = false): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#waiting = [];
    this.#waitingBytes = 0;
    if (flush) {
      // The last frame is on its way; whoever does not take it in time loses the socket anyway.
      const timer = setTimeout(() => this.#socket.destroy(), 1000);
      this.#socket.once("close", () => clearTimeout(timer));
      this.#socket.resume();
    } else this.#socket.destroy();
    this.#handlers.onEnd(ending);
  }
}

export function describeEnding(ending: Ending): string {
  if (ending.kind === "problem") return ending.text;
  if (ending.kind === "lost" && ending.error !== null) return errorText(ending.error);
  return "the connection was closed";
}
