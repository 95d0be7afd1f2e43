/** Fencing tokens: (Raft term, log index) of a committed `begin`, ordered lexicographically, shown as "term.index". */
import { ControlError } from "./errors.js";
import type { Token } from "./types.js";

/** Older than every token that the log can make; stands for "none" where a token is required. */
export const ZERO_TOKEN: Token = { term: 0, index: 0 };

/** @throws ControlError `bad-token` unless the text is exactly what {@link formatToken} writes. */
export function parseToken(text: string): Token {
  const match = /^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$/.exec(text);
  const token = { term: Number(match?.[1]), index: Number(match?.[2]) };
  if (!Number.isSafeInteger(token.term) || !Number.isSafeInteger(token.index)) {
    throw new ControlError("bad-token", `"${text}" is not a token; expected "term.index", e.g. "3.17"`);
  }
  return token;
}

export function formatToken(token: Token): string {
  return `${token.term}.${token.index}`;
}

/** Negative when `a` is older than `b`, zero when equal, positive when newer. */
export function compareTokens(a: Token, b: Token): number {
  return a.term !== b.term ? a.term - b.term : a.index - b.index;
}

/** Null stands for "no token" and equals only null. */
export function tokensEqual(a: Token | null, b: Token | null): boolean {
  if (a === null || b === null) return a === b;
  return a.term === b.term && a.index === b.index;
}

/** The newer of two tokens; null is older than every token. */
export function newerToken(a: Token | null, b: Token | null): Token | null {
  if (a === null) return b;
  if (b === null) return a;
  return compareTokens(a, b) >= 0 ? a : b;
}
