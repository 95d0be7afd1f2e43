/**
 * Whether a node's WAL is part of the new primary's history. Timeline numbers can not tell: two promotions that do not
 * know of each other take the same number. The log does, with the parent and the fork position of every promotion.
 *
 * A node's branch is the newest of three durable facts: the marker it replayed, the primary it was last told to stream
 * from (it was judged then, and received only that primary's WAL since), and its own promotion. Where that branch and
 * the new primary's part, the node must not have passed either side's fork.
 */
import { compareLsn } from "./lsn.js";
import { promotionOf } from "./membership.js";
import { formatToken, newerToken, tokensEqual } from "./token.js";
import type { ControlState, Lsn, Promotion, Token } from "./types.js";

export interface Branch {
  readonly marker: Token | null;
  readonly pointedAt: Token | null;
  readonly promotedUnder: Token | null;
  readonly replayLsn: Lsn | null;
  readonly timeline: number | null;
}

export type Verdict = { readonly kind: "follow" } | { readonly kind: "rewind" | "rebuild"; readonly why: string };

export function judgeLineage(state: ControlState, target: Token, branch: Branch): Verdict {
  if (tokensEqual(branch.marker, target) || tokensEqual(branch.pointedAt, target)) return { kind: "follow" };
  const own = newerToken(newerToken(branch.marker, branch.pointedAt), branch.promotedUnder);
  const targetChain = chainOf(state, target);
  if (own === null) return judgeUnmarked(state, targetChain, branch);
  const ownChain = chainOf(state, own);
  const shared = ownChain.tokens.find((token) => targetChain.tokens.some((other) => tokensEqual(token, other)));
  if (shared === undefined) {
    return rebuild(`the history of ${formatToken(own)}, which this node was on, is not known any more`);
  }
  const theirs = childrenAfter(targetChain, shared);
  const ours = childrenAfter(ownChain, shared);
  const passed = [theirs.at(-1), ours.at(-1)].find(
    (child) => child !== undefined && hasPassed(child, branch.replayLsn),
  );
  const sameNumber = theirs.find((child) => child.timeline !== null && child.timeline === branch.timeline);
  if (sameNumber !== undefined) {
    return rebuild(
      `this node is on timeline ${branch.timeline} of another promotion than ${formatToken(sameNumber.token)}`,
    );
  }
  if (passed !== undefined) return rewind(describePassed(passed, branch.replayLsn));
  const known = promotionOf(state, own)?.timeline ?? null;
  if (known !== null && branch.timeline !== null && branch.timeline > known) {
    return rewind(`this node is on timeline ${branch.timeline}, which no promotion of ${formatToken(own)} has made`);
  }
  return { kind: "follow" };
}

/** A node without a marker that was never told to follow anybody: a clone or an adopted standby from before. */
function judgeUnmarked(state: ControlState, targetChain: Chain, branch: Branch): Verdict {
  const opened = state.promotions.filter((promotion) => promotion.forkLsn !== null);
  const only = opened.length === 1 ? opened[0] : undefined;
  const isTarget = only !== undefined && targetChain.promotions.includes(only);
  if (isTarget && !hasPassed(only, branch.replayLsn) && branch.timeline !== only.timeline) return { kind: "follow" };
  return rebuild("this node carries no marker that tells which history its data belongs to");
}

interface Chain {
  /** From the newest to the oldest, with the parent of the oldest known promotion at the end. */
  readonly tokens: readonly Token[];
  readonly promotions: readonly Promotion[];
}

function chainOf(state: ControlState, from: Token): Chain {
  const tokens: Token[] = [from];
  const promotions: Promotion[] = [];
  let promotion = promotionOf(state, from);
  while (promotion !== undefined && promotions.length <= state.promotions.length) {
    promotions.push(promotion);
    if (promotion.parent === null) break;
    tokens.push(promotion.parent);
    promotion = promotionOf(state, promotion.parent);
  }
  return { tokens, promotions };
}

/** The promotions of the chain after `shared`, newest first; the last one is where the chain leaves it. */
function childrenAfter(chain: Chain, shared: Token): readonly Promotion[] {
  const at = chain.tokens.findIndex((token) => tokensEqual(token, shared));
  return chain.promotions.slice(0, at);
}

/** An unknown fork (a promotion that never opened) counts as passed: pg_rewind finds out, a guess does not. */
function hasPassed(child: Promotion, replayLsn: Lsn | null): boolean {
  return child.forkLsn === null || replayLsn === null || compareLsn(replayLsn, child.forkLsn) > 0;
}

function describePassed(child: Promotion, replayLsn: Lsn | null): string {
  const token = formatToken(child.token);
  if (child.forkLsn === null) return `promotion ${token} never opened, so that its fork is not known`;
  return `this node has WAL up to ${replayLsn ?? "an unknown position"}, past ${child.forkLsn} where ${token} forks off`;
}

function rewind(why: string): Verdict {
  return { kind: "rewind", why };
}

function rebuild(why: string): Verdict {
  return { kind: "rebuild", why };
}
