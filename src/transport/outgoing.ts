/** The link over which this node sends to one peer: dials, shakes hands, watches that the peer still answers. */
import type { Message, NodeId } from "../raft/types.js";
import { Connection, describeEnding, type Ending } from "./connection.js";
import { dial, parseAddress } from "./dialing.js";
import { errorCode } from "./errors.js";
import { encodeFrame, FrameError, maxFrameBytes } from "./frames.js";
import { Dialer, describePeer, HandshakeError } from "./handshake.js";
import type { Problems } from "./problems.js";
import type { Tuning } from "./tuning.js";
import type { AppMessage, PeerIdentity, TransportOptions } from "./types.js";
import { parseMemberFrame, raftFrame } from "./wire.js";

export interface OutgoingEvents {
  onUp(): void;
  /** An established link ended, not by our own wish. */
  onDown(): void;
}

/** Not being there (yet) is normal for a peer and no problem to report. */
const silentErrors = new Set([
  "ECONNREFUSED",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EHOSTDOWN",
  "ECONNRESET",
  "EPIPE",
]);

export class OutgoingLink {
  readonly address: string;
  readonly #id: NodeId;
  readonly #options: TransportOptions;
  readonly #tuning: Tuning;
  readonly #problems: Problems;
  readonly #events: OutgoingEvents;
  readonly #key: string;
  #connection: Connection | null = null;
  #established = false;
  #retry: NodeJS.Timeout | null = null;
  #timer: NodeJS.Timeout | null = null;
  #delayMs: number;
  #unanswered = 0;
  #stopped = false;

  constructor(
    id: NodeId,
    address: string,
    options: TransportOptions,
    tuning: Tuning,
    problems: Problems,
    events: OutgoingEvents,
  ) {
    this.#id = id;
    this.address = address;
    this.#options = options;
    this.#tuning = tuning;
    this.#problems = problems;
    this.#events = events;
    this.#key = `member ${id}`;
    this.#delayMs = options.reconnectMinMs;
  }

  get established(): boolean {
    return this.#established;
  }

  start(): void {
    this.#dial();
  }

  stop(): void {
    this.#stopped = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = null;
    this.#connection?.close();
  }

  /** The peer has just shown that it is up: no point in waiting out the back-off. */
  hurry(): void {
    this.#delayMs = this.#options.reconnectMinMs;
    if (this.#retry === null) return;
    clearTimeout(this.#retry);
    this.#retry = null;
    this.#dial();
  }

  sendRaft(message: Message): void {
    if (!this.#established) return;
    this.#send(
      raftFrame(message),
      message.type === "AppendEntries" || message.type === "InstallSnapshot",
      message.type,
    );
  }

  sendApp(message: AppMessage): void {
    if (!this.#established) return;
    this.#send({ t: "app", message }, message.kind === "gossip", message.kind);
  }

  #send(frame: object, droppable: boolean, what: string): void {
    const bytes = encodeFrame(frame);
    if (bytes.length - 4 > maxFrameBytes) {
      this.#problems.report(
        this.#key,
        `a message (${what}) of ${bytes.length} bytes for member ${this.#id} is not sent: more than ${maxFrameBytes} bytes`,
      );
      return;
    }
    this.#connection?.sendBytes(bytes, droppable);
  }

  #dial(): void {
    const place = parseAddress(this.address);
    if (place === null) {
      this.#problems.report(this.#key, `member ${this.#id} has the address "${this.address}", which is not host:port`);
      return;
    }
    const { self, secret, tls } = this.#options;
    const dialer = new Dialer({ self, to: this.#id, secret, check: (peer) => this.#check(peer) });
    let opened = false;
    const socket = dial(place.host, place.port, tls, () => {
      opened = true;
      connection.send(dialer.hello);
    });
    const connection = new Connection(socket, this.#tuning.outboxBytes, {
      onFrame: (frame) => {
        if (this.#established) this.#onAnswer(frame);
        else this.#onHandshake(dialer, connection, frame);
      },
      onEnd: (ending) => this.#onEnd(ending, opened),
    });
    this.#connection = connection;
    this.#timer = setTimeout(() => {
      if (opened) connection.fail(`did not complete the handshake within ${this.#tuning.handshakeTimeoutMs} ms`);
      else connection.close();
    }, this.#tuning.handshakeTimeoutMs);
  }

  #check(peer: PeerIdentity): void {
    if (peer.id !== this.#id) {
      throw new HandshakeError(`is ${describePeer(peer)}, not member ${this.#id}: correct the address of one of them`);
    }
    if (peer.clusterId !== this.#options.self.clusterId) {
      throw new HandshakeError(
        `belongs to cluster "${peer.clusterId}", this node to cluster "${this.#options.self.clusterId}"`,
      );
    }
    const verdict = this.#options.accepts(peer);
    if (!verdict.ok) throw new HandshakeError(`is ${describePeer(peer)}, which is not accepted: ${verdict.why}`);
  }

  #onHandshake(dialer: Dialer, connection: Connection, frame: unknown): void {
    const reply = dialer.receive(frame);
    if (reply !== null) {
      connection.send(reply);
      return;
    }
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#established = true;
    this.#delayMs = this.#options.reconnectMinMs;
    this.#unanswered = 0;
    this.#timer = setInterval(() => this.#ping(connection), this.#tuning.pingIntervalMs);
    this.#problems.wellAgain(this.#key);
    this.#events.onUp();
  }

  /**
   * A host that vanished sends no FIN, and TCP takes minutes to notice (and as long to resume after a partition). Missed
   * pings are counted and not timed: a process that was frozen itself must not blame its peers on waking up.
   */
  #ping(connection: Connection): void {
    if (this.#unanswered >= this.#tuning.maxUnansweredPings) {
      connection.close();
      return;
    }
    this.#unanswered += 1;
    connection.send({ t: "ping" });
  }

  #onAnswer(frame: unknown): void {
    const answer = parseMemberFrame(frame);
    if (answer.t === "raft" && answer.message.from === this.#id && answer.message.to === this.#options.self.id) {
      this.#options.events.onRaft(answer.message);
      return;
    }
    if (answer.t !== "pong") throw new FrameError("sent a message on a connection that only answers");
    this.#unanswered = 0;
  }

  #onEnd(ending: Ending, opened: boolean): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const wasEstablished = this.#established;
    this.#established = false;
    this.#connection = null;
    if (this.#stopped) return;
    this.#reportEnding(ending, opened, wasEstablished);
    this.#retryLater();
    if (wasEstablished) this.#events.onDown();
  }

  #reportEnding(ending: Ending, opened: boolean, wasEstablished: boolean): void {
    const who = `the peer at ${this.address} (member ${this.#id})`;
    if (ending.kind === "problem") this.#problems.report(this.#key, `${who} ${ending.text}`);
    else if (ending.kind === "lost" && ending.error !== null) {
      if (silentErrors.has(errorCode(ending.error))) return;
      this.#problems.report(this.#key, `cannot connect to ${who}: ${describeEnding(ending)}`);
    } else if (ending.kind === "lost" && opened && !wasEstablished) {
      this.#problems.report(
        this.#key,
        `${who} closed the connection during the handshake: its log says why (another secret, version or TLS setting)`,
      );
    }
  }

  #retryLater(): void {
    const delayMs = this.#delayMs * (0.5 + this.#tuning.random() / 2);
    this.#delayMs = Math.min(this.#delayMs * 2, this.#options.reconnectMaxMs);
    this.#retry = setTimeout(() => {
      this.#retry = null;
      this.#dial();
    }, delayMs);
  }
}
