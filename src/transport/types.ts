/** What the agent needs of the peer transport: TCP, one port a node, length-prefixed JSON frames. */
import type { Command, Gossip, Outcome, Report, Token } from "../control/types.js";
import type { Message, NodeId } from "../raft/types.js";

/** Everything members tell each other beside Raft, on the same connections. */
export type AppMessage =
  | { readonly kind: "gossip"; readonly gossip: Gossip }
  /** Holder to leader. `stampNs` is opaque to the leader and comes back in the answer. */
  | { readonly kind: "renew"; readonly token: Token; readonly stampNs: string }
  | { readonly kind: "renewed"; readonly token: Token; readonly stampNs: string }
  | { readonly kind: "renewRefused"; readonly token: Token; readonly why: string }
  | { readonly kind: "report"; readonly token: Token; readonly report: Report }
  /** A node's answer to the leader's wish, or a node's own command: proposed by the leader, applied by all. */
  | { readonly kind: "propose"; readonly requestId: number; readonly command: Command }
  | { readonly kind: "proposed"; readonly requestId: number; readonly outcome: Outcome };

/** Asked by those who are not members (yet): joining nodes and the CLI. One answer each, on the same connection. */
export type GuestRequest =
  | { readonly kind: "clusterInfo" }
  | {
      readonly kind: "register";
      readonly member: Omit<import("../control/types.js").Member, "id">;
      readonly systemIdentifier: string | null;
      readonly serverMajor: number;
    }
  | { readonly kind: "command"; readonly command: string; readonly args: Readonly<Record<string, unknown>> };

export type GuestResponse =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly code: string; readonly message: string; readonly hint?: string };

export interface PeerIdentity {
  readonly clusterId: string;
  /** 0 for a guest. */
  readonly id: NodeId;
  readonly name: string;
  readonly incarnation: string;
}

export interface TransportEvents {
  onRaft(message: Message): void;
  onApp(from: NodeId, message: AppMessage): void;
  onGuest(request: GuestRequest, peer: { readonly name: string; readonly address: string }): Promise<GuestResponse>;
  /** An established connection to this member ended (not: a connection attempt failed). */
  onDisconnect(peer: NodeId): void;
  /** A refused or broken peer, once per cause and peer: what was wrong and from where. */
  onProblem(text: string): void;
}

export interface TransportOptions {
  readonly self: PeerIdentity;
  readonly listenAddresses: string;
  readonly port: number;
  /** Shared secret for the HMAC challenge, or null: then peers are told apart by cluster id only. */
  readonly secret: Uint8Array | null;
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string } | null;
  /** Whether a member with this id and incarnation is known; others are refused. */
  readonly accepts: (peer: PeerIdentity) => { readonly ok: true } | { readonly ok: false; readonly why: string };
  readonly events: TransportEvents;
  readonly reconnectMinMs: number;
  readonly reconnectMaxMs: number;
}

export interface Transport {
  /** Rejects with a clear error when the port is in use. */
  start(): Promise<void>;
  /** Opens connections to new members, closes those to members that are gone or moved. */
  setPeers(peers: ReadonlyArray<{ readonly id: NodeId; readonly address: string }>): void;
  /** Drops silently when there is no connection (Raft expects loss). */
  sendRaft(message: Message): void;
  sendApp(to: NodeId, message: AppMessage): void;
  connected(): readonly NodeId[];
  stop(): Promise<void>;
}
