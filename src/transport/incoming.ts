/** A connection that somebody opened to this node: handshake, then either a member that only sends, or a guest. */
import type { Socket } from "node:net";
import type { Message } from "../raft/types.js";
import { Connection, type Ending } from "./connection.js";
import { errorText } from "./errors.js";
import { FrameError, maxFrameBytes } from "./frames.js";
import { Acceptor, describePeer, HandshakeError } from "./handshake.js";
import type { Problems } from "./problems.js";
import { parseGuestRequest } from "./schemas.js";
import type { Tuning } from "./tuning.js";
import type { GuestRequest, GuestResponse, PeerIdentity, TransportOptions } from "./types.js";
import { parseMemberFrame, raftFrame } from "./wire.js";

/** A guest asks; it has nothing large to say. */
const maxGuestFrameBytes = 1024 * 1024;

export interface IncomingEvents {
  onMember(link: IncomingLink, peer: PeerIdentity): void;
  onEnd(link: IncomingLink): void;
}

export class IncomingLink {
  /** Set once it is known to be a member. */
  peer: PeerIdentity | null = null;
  readonly #options: TransportOptions;
  readonly #tuning: Tuning;
  readonly #problems: Problems;
  readonly #events: IncomingEvents;
  readonly #remote: string;
  readonly #connection: Connection;
  readonly #acceptor: Acceptor;
  #deadline: NodeJS.Timeout;
  #silentTicks = 0;
  #guest: PeerIdentity | null = null;
  #asked = false;

  constructor(socket: Socket, options: TransportOptions, tuning: Tuning, problems: Problems, events: IncomingEvents) {
    this.#options = options;
    this.#tuning = tuning;
    this.#problems = problems;
    this.#events = events;
    this.#remote = socket.remoteAddress ?? "an unknown address";
    const { self, secret } = options;
    this.#acceptor = new Acceptor({ self, secret, check: (peer, to) => this.#check(peer, to) });
    this.#connection = new Connection(socket, tuning.outboxBytes, {
      onFrame: (frame) => this.#onFrame(frame),
      onEnd: (ending) => this.#onEnd(ending),
    });
    this.#deadline = setTimeout(
      () => this.#connection.fail(`did not complete the handshake within ${tuning.handshakeTimeoutMs} ms`),
      tuning.handshakeTimeoutMs,
    );
  }

  close(): void {
    this.#connection.close();
  }

  /** Other traffic goes over this node's own connection to the peer; a stranger has none. */
  answer(message: Message): void {
    this.#connection.send(raftFrame(message));
  }

  #check(peer: PeerIdentity, to: number): void {
    const { self, accepts } = this.#options;
    const refuse = (why: string): never => {
      throw new HandshakeError(`(${describePeer(peer)}) ${why}`, true);
    };
    if (peer.id === 0) {
      if (peer.clusterId !== "" && peer.clusterId !== self.clusterId) {
        refuse(`wants cluster "${peer.clusterId}", this node belongs to cluster "${self.clusterId}"`);
      }
      return;
    }
    if (peer.clusterId !== self.clusterId) {
      refuse(`belongs to cluster "${peer.clusterId}", this node to cluster "${self.clusterId}"`);
    }
    if (to !== self.id)
      refuse(`wants member ${to}, this node is member ${self.id}: correct the address of one of them`);
    if (peer.id === self.id) refuse("claims the id of this very node");
    const verdict = accepts(peer);
    if (!verdict.ok) refuse(`is not accepted: ${verdict.why}`);
  }

  #onFrame(frame: unknown): void {
    if (this.peer !== null) this.#onMemberFrame(this.peer, frame);
    else if (this.#guest !== null) this.#onGuestFrame(this.#guest, frame);
    else this.#onHandshake(frame);
  }

  #onHandshake(frame: unknown): void {
    const { reply, done } = this.#acceptor.receive(frame);
    this.#connection.send(reply);
    if (!done) return;
    clearTimeout(this.#deadline);
    const peer = this.#acceptor.peer!;
    if (peer.id === 0) {
      this.#guest = peer;
      this.#connection.frameLimitBytes = maxGuestFrameBytes;
      this.#closeAfter(this.#tuning.handshakeTimeoutMs);
      return;
    }
    this.peer = peer;
    this.#connection.frameLimitBytes = maxFrameBytes;
    this.#deadline = setInterval(() => this.#watchSilence(), this.#tuning.pingIntervalMs);
    this.#problems.wellAgain(this.#key());
    this.#events.onMember(this, peer);
  }

  /** Members ping; one that does not is gone without a FIN. Ticks are counted, as on the other side. */
  #watchSilence(): void {
    this.#silentTicks += 1;
    if (this.#silentTicks > this.#tuning.maxUnansweredPings * 2) this.#connection.close();
  }

  #closeAfter(ms: number): void {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#connection.close(), ms);
  }

  #onMemberFrame(peer: PeerIdentity, frame: unknown): void {
    this.#silentTicks = 0;
    const parsed = parseMemberFrame(frame);
    const { events, self } = this.#options;
    switch (parsed.t) {
      case "ping":
        this.#connection.send({ t: "pong" });
        return;
      case "pong":
        throw new FrameError("answered a question that was not asked");
      case "app":
        events.onApp(peer.id, parsed.message);
        return;
      case "raft": {
        const { from, to } = parsed.message;
        if (from !== peer.id || to !== self.id) {
          throw new FrameError(
            `sent a Raft message from ${from} to ${to} on the connection of ${peer.id} to ${self.id}`,
          );
        }
        events.onRaft(parsed.message);
      }
    }
  }

  #onGuestFrame(guest: PeerIdentity, frame: unknown): void {
    if (this.#asked) throw new FrameError("asked twice on one connection");
    this.#asked = true;
    const request = parseRequest(frame);
    const answer = this.#options.events.onGuest(request, { name: guest.name, address: this.#remote });
    this.#closeAfter(this.#tuning.guestTimeoutMs);
    answer
      .catch((error: unknown): GuestResponse => ({ ok: false, code: "internal", message: errorText(error) }))
      .then((response) => this.#connection.close(response));
  }

  #key(): string {
    return this.peer === null ? `stranger ${this.#remote}` : `member ${this.peer.id} incoming`;
  }

  #onEnd(ending: Ending): void {
    clearTimeout(this.#deadline);
    if (ending.kind === "problem") {
      const who = this.peer === null ? "" : ` (member ${this.peer.id})`;
      this.#problems.report(this.#key(), `the peer at ${this.#remote}${who} ${ending.text}`);
    }
    this.#events.onEnd(this);
  }
}

function parseRequest(frame: unknown): GuestRequest {
  try {
    return parseGuestRequest(frame);
  } catch (error) {
    throw new FrameError(`sent a malformed request: ${errorText(error)}`);
  }
}
