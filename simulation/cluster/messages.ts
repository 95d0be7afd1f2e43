/** What agents send each other beside Raft (the product's are in src/transport/types.ts). */
import type { Gossip, Report, Token } from "../../src/control/types.js";

export type AppMessage =
  | { readonly kind: "renew"; readonly token: Token; readonly stampMs: number }
  | { readonly kind: "renewed"; readonly token: Token; readonly stampMs: number }
  | { readonly kind: "report"; readonly token: Token; readonly report: Report }
  | { readonly kind: "propose"; readonly data: Uint8Array }
  | { readonly kind: "gossip"; readonly gossip: Gossip };
