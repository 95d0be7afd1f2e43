/** Questions about members and promotions that several parts of the control plane ask. */
import { formatToken, tokensEqual } from "./token.js";
import type { ControlState, Member, Promotion, Token } from "./types.js";

export function memberById(state: ControlState, id: number): Member | undefined {
  return state.members.find((member) => member.id === id);
}

/** "b", or "node 7" for an id that is no member any more. */
export function nodeName(state: ControlState, id: number): string {
  return memberById(state, id)?.name ?? `node ${id}`;
}

export function promotionOf(state: ControlState, token: Token | null): Promotion | undefined {
  if (token === null) return undefined;
  return state.promotions.find((promotion) => tokensEqual(promotion.token, token));
}

/** The node that is, or is about to be, the primary under the current token; null while empty or recruiting. */
export function currentHolder(state: ControlState): number | null {
  if (state.phase.kind === "promoted" || state.phase.kind === "granted") return state.phase.holder;
  if (state.phase.kind !== "steady") return null;
  return promotionOf(state, state.current)?.holder ?? null;
}

/** May be promoted: holds data and is not tagged nofailover. */
export function isElectable(member: Member | undefined): member is Member {
  return member !== undefined && member.kind === "data" && !member.tags.nofailover;
}

/** The holder of the newest granted token has given it back, so that no lease of it can be running. */
export function isReleased(state: ControlState): boolean {
  return (
    state.lastGranted !== null && state.released !== null && tokensEqual(state.released.token, state.lastGranted.token)
  );
}

export function majorityOf(count: number): number {
  return Math.floor(count / 2) + 1;
}

export function showToken(token: Token | null): string {
  return token === null ? "none" : formatToken(token);
}
