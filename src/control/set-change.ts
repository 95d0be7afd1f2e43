/** Which data nodes the durability set should have, and the change that leads there. */
import type { Millis, NodeId } from "../raft/types.js";
import type { LeaderInput } from "./decisions.js";
import { currentHolder, promotionOf } from "./membership.js";
import { formatToken, tokensEqual } from "./token.js";
import type { ControlState, Gossip } from "./types.js";

/** Since when data nodes were not heard of as streaming from the current primary, on the leader's clock. */
export interface Unsynced {
  /** The primary that they are to stream from; the waiting begins anew with each. */
  readonly key: string;
  readonly sinceMs: ReadonlyMap<NodeId, Millis>;
}

export const noneUnsynced: Unsynced = { key: "", sinceMs: new Map() };

/** To be called whenever the leader looks at the world; nobody is late before there is a primary to stream from. */
export function trackUnsynced(
  before: Unsynced,
  { state, gossip, now }: Pick<LeaderInput, "state" | "gossip" | "now">,
): Unsynced {
  const promotion = promotionOf(state, state.current);
  const holder = currentHolder(state);
  if (promotion === undefined || holder === null || promotion.forkLsn === null) return noneUnsynced;
  const key = formatToken(promotion.token);
  const earlier: ReadonlyMap<NodeId, Millis> = before.key === key ? before.sinceMs : new Map();
  const sinceMs = new Map<NodeId, Millis>();
  for (const { id, kind } of state.members) {
    if (kind !== "data" || id === holder || isStreaming(state, gossip.get(id), now)) continue;
    sinceMs.set(id, earlier.get(id) ?? now);
  }
  return { key, sinceMs };
}

type Heard = { readonly receivedAtMs: Millis; readonly gossip: Gossip };

/** Heard of within a lease, streaming, and with the current primary's marker replayed. */
export function isStreaming(state: ControlState, heard: Heard | undefined, now: Millis): boolean {
  if (heard === undefined || now - heard.receivedAtMs > state.leaseMs) return false;
  return heard.gossip.state === "streaming" && tokensEqual(heard.gossip.token, state.current);
}
