/**
 * The peer transport: one TCP port a node, one outgoing link to each member for what this node sends, and incoming links
 * that only receive (pings are answered, and guests get their one answer).
 */
import type { Server, Socket } from "node:net";
import type { Message, NodeId } from "../raft/types.js";
import { IncomingLink } from "./incoming.js";
import { listen } from "./listener.js";
import { OutgoingLink } from "./outgoing.js";
import { Problems } from "./problems.js";
import { defaultTuning, type Tuning } from "./tuning.js";
import type { AppMessage, PeerIdentity, Transport, TransportOptions } from "./types.js";

export function createTransport(options: TransportOptions, tuning: Partial<Tuning> = {}): Transport {
  return new TcpTransport(options, { ...defaultTuning, ...tuning });
}

/** Members beyond any sensible cluster, and strangers, together. */
const maxConnections = 512;

class TcpTransport implements Transport {
  readonly #options: TransportOptions;
  readonly #tuning: Tuning;
  readonly #problems: Problems;
  #servers: Server[] = [];
  readonly #outgoing = new Map<NodeId, OutgoingLink>();
  readonly #incoming = new Map<NodeId, IncomingLink>();
  readonly #strangers = new Set<IncomingLink>();
  /** Peers with a link whose end was not yet told: both links of a killed process end, and that is one event. */
  readonly #present = new Set<NodeId>();
  #stopped = false;

  constructor(options: TransportOptions, tuning: Tuning) {
    this.#options = options;
    this.#tuning = tuning;
    this.#problems = new Problems((text) => {
      if (!this.#stopped) options.events.onProblem(text);
    });
  }

  async start(): Promise<void> {
    const { listenAddresses, port, tls } = this.#options;
    this.#servers = await listen({
      addresses: listenAddresses,
      port,
      tls,
      handshakeTimeoutMs: this.#tuning.handshakeTimeoutMs,
      maxConnections,
      onSocket: (socket) => this.#onSocket(socket),
      onTlsProblem: (remote, text) =>
        this.#problems.report(`stranger ${remote}`, `the peer at ${remote} failed the TLS handshake: ${text}`),
    });
  }

  setPeers(peers: ReadonlyArray<{ readonly id: NodeId; readonly address: string }>): void {
    if (this.#stopped) return;
    const wanted = new Map(
      peers.filter(({ id }) => id !== this.#options.self.id).map((peer) => [peer.id, peer.address]),
    );
    for (const [id, link] of this.#outgoing) {
      const address = wanted.get(id);
      if (address === link.address) continue;
      link.stop();
      this.#outgoing.delete(id);
      if (address !== undefined) continue;
      this.#present.delete(id);
      this.#incoming.get(id)?.close();
    }
    for (const [id, address] of wanted) if (!this.#outgoing.has(id)) this.#connect(id, address);
  }

  sendRaft(message: Message): void {
    const link = this.#outgoing.get(message.to);
    if (link !== undefined) link.sendRaft(message);
    // Who is no member here is not dialed, but gets its answer: it may have been removed and not know it (R38).
    else this.#incoming.get(message.to)?.answer(message);
  }

  sendApp(to: NodeId, message: AppMessage): void {
    this.#outgoing.get(to)?.sendApp(message);
  }

  connected(): readonly NodeId[] {
    return [...this.#outgoing].flatMap(([id, link]) => (link.established ? [id] : [])).sort((a, b) => a - b);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    for (const link of this.#outgoing.values()) link.stop();
    this.#outgoing.clear();
    const closed = this.#servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve())));
    for (const link of [...this.#incoming.values(), ...this.#strangers]) link.close();
    await Promise.all(closed);
  }

  #connect(id: NodeId, address: string): void {
    const link = new OutgoingLink(id, address, this.#options, this.#tuning, this.#problems, {
      onUp: () => this.#present.add(id),
      onDown: () => this.#onDown(id),
    });
    this.#outgoing.set(id, link);
    link.start();
  }

  #onSocket(socket: Socket): void {
    if (this.#stopped || this.#strangers.size >= this.#tuning.maxStrangers) {
      socket.on("error", () => undefined);
      socket.destroy();
      if (!this.#stopped) {
        this.#problems.report(
          "strangers",
          `more than ${this.#tuning.maxStrangers} connections that are not members at once: new ones are refused`,
        );
      }
      return;
    }
    const link = new IncomingLink(socket, this.#options, this.#tuning, this.#problems, {
      onMember: (member, peer) => this.#onMember(member, peer),
      onEnd: (ended) => this.#onIncomingEnd(ended),
    });
    this.#strangers.add(link);
  }

  #onMember(link: IncomingLink, peer: PeerIdentity): void {
    this.#strangers.delete(link);
    const old = this.#incoming.get(peer.id);
    this.#incoming.set(peer.id, link);
    this.#present.add(peer.id);
    // A peer opens one link only: an older one is half open, and its end is no news.
    old?.close();
    this.#outgoing.get(peer.id)?.hurry();
  }

  #onIncomingEnd(link: IncomingLink): void {
    this.#strangers.delete(link);
    const id = link.peer?.id;
    if (id === undefined || this.#incoming.get(id) !== link) return;
    this.#incoming.delete(id);
    this.#onDown(id);
  }

  #onDown(id: NodeId): void {
    if (this.#stopped || !this.#present.delete(id)) return;
    this.#options.events.onDisconnect(id);
  }
}
