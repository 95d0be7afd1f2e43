/**
 * The primary lease (docs/protocol.md has the argument). The holder counts D from a stamp taken *before* it asked; the
 * Raft leader lets W = D (1 + rho) / (1 - rho) of its own clock pass before anybody else is granted.
 *
 *   holder   stamp ──── asks ───────────────── may write ─────────────── stamp + D: stops by itself
 *   leader            └ accepts ┄ quorum round ┄ ok ┄┄┄┄┄ accepted + W: may grant another ┘ always later
 *
 * A leader that is new knows no accepted renewal. Its voters say how long ago they last acknowledged any leader; a
 * renewal confirmed before that can not be younger, so it waits until elected + (W - elapsed) instead.
 */
import type { Millis, NodeId, ReadToken, Term } from "../raft/types.js";
import { isReleased } from "./membership.js";
import { formatToken, tokensEqual } from "./token.js";
import type { ControlState, Token } from "./types.js";

export interface LeaseTimings {
  readonly heartbeatIntervalMs: Millis;
  /** The timeout is drawn from [this, 2 x this). */
  readonly electionTimeoutMs: Millis;
  readonly renewEveryMs: Millis;
  /** W: how long a grantor waits on its own clock until a lease of D has ended on the holder's. */
  readonly waitOutMs: Millis;
  readonly suspectAfterMs: Millis;
  readonly probeEveryMs: Millis;
  readonly gossipEveryMs: Millis;
}

/** Everything that is derived from D, so that no operator can set an unsafe mix. Clock rates differ by rho = 1 %. */
export function leaseTimings(leaseMs: Millis): LeaseTimings {
  return {
    heartbeatIntervalMs: fraction(leaseMs, 20),
    electionTimeoutMs: fraction(leaseMs, 3),
    renewEveryMs: fraction(leaseMs, 10),
    waitOutMs: Math.ceil((leaseMs * 101) / 99),
    suspectAfterMs: Math.floor((leaseMs * 9) / 10),
    probeEveryMs: fraction(leaseMs, 4),
    gossipEveryMs: fraction(leaseMs, 20),
  };
}

function fraction(leaseMs: Millis, part: number): Millis {
  return Math.max(1, Math.floor(leaseMs / part));
}

export interface Renewal {
  readonly from: NodeId;
  readonly token: Token;
  /** The holder's own stamp, handed back as it came. */
  readonly stampNs: string;
}

export type RenewalAnswer = { readonly ok: true } | { readonly ok: false; readonly why: string };
/** `againInMs`: when it is worth asking again, if nothing else happens. */
export type GrantAnswer = { readonly ok: boolean; readonly why: string; readonly againInMs?: Millis };

interface Leadership {
  readonly term: Term;
  readonly electedAtMs: Millis;
  readonly electionElapsedMs: Millis;
}

/** The Raft leader's side. One a process; keeps nothing across leaderships, since the new hold covers what was before. */
export class LeaseGrantor {
  #leadership: Leadership | null = null;
  #lastAcceptedMs: Millis | null = null;
  /** Rounds that were started after the renewals in them arrived, by their sequence in this term. */
  #rounds = new Map<number, readonly Renewal[]>();

  becomeLeader(leadership: Leadership): void {
    this.#leadership = leadership;
    this.#lastAcceptedMs = null;
    this.#rounds = new Map();
  }

  stepDown(): void {
    this.#leadership = null;
    this.#lastAcceptedMs = null;
    this.#rounds = new Map();
  }

  /** When a renewal was last accepted in this leadership, confirmed or not; null: not yet. */
  get lastAcceptedMs(): Millis | null {
    return this.#lastAcceptedMs;
  }

  /**
   * Accepts or refuses a renewal. After `ok` the caller starts a quorum round and says so with {@link roundStarted};
   * a round that was under way before proves nothing. The time counts from here even if the round never ends.
   */
  request(input: Renewal & { readonly state: ControlState; readonly now: Millis }): RenewalAnswer {
    if (this.#leadership === null) return { ok: false, why: "this node is not the Raft leader" };
    const why = refusal(input.state, input);
    if (why !== null) return { ok: false, why };
    this.#lastAcceptedMs = Math.max(this.#lastAcceptedMs ?? input.now, input.now);
    return { ok: true };
  }

  roundStarted(round: ReadToken, renewals: readonly Renewal[]): void {
    if (this.#leadership?.term !== round.term) return;
    this.#rounds.set(round.sequence, [...(this.#rounds.get(round.sequence) ?? []), ...renewals]);
  }

  /**
   * A quorum has acknowledged `round`. `state` must be applied at least up to the index of the read state. Gives the
   * renewals to answer; a round also confirms those of earlier rounds of the term, which arrived before it started.
   */
  roundConfirmed(round: ReadToken, state: ControlState): readonly Renewal[] {
    if (this.#leadership?.term !== round.term) return [];
    const confirmed: Renewal[] = [];
    for (const [sequence, renewals] of [...this.#rounds]) {
      if (sequence > round.sequence) continue;
      this.#rounds.delete(sequence);
      confirmed.push(...renewals.filter((renewal) => refusal(state, renewal) === null));
    }
    return confirmed;
  }

  /** Whether no lease of the newest granted token can still be running. Strictly later than, on the grantor's side. */
  mayGrant(state: ControlState, now: Millis): GrantAnswer {
    if (this.#leadership === null) return { ok: false, why: "this node is not the Raft leader" };
    if (state.lastGranted === null) return { ok: true, why: "no lease was ever granted" };
    const token = formatToken(state.lastGranted.token);
    if (isReleased(state)) return { ok: true, why: `the lease of ${token} was released by its holder` };
    // A holder that has not applied a shorter lease yet still counts with the longer one.
    const { waitOutMs } = leaseTimings(Math.max(state.leaseMs, state.leaseCeilingMs));
    const { electedAtMs, electionElapsedMs } = this.#leadership;
    const holdUntilMs = electedAtMs + Math.max(0, waitOutMs - electionElapsedMs);
    const waitUntilMs = Math.max(holdUntilMs, (this.#lastAcceptedMs ?? Number.NEGATIVE_INFINITY) + waitOutMs);
    if (now > waitUntilMs) return { ok: true, why: `every lease of ${token} has run out` };
    const leftMs = waitUntilMs - now;
    const why = `a lease of ${token} may run for another ${Math.ceil(leftMs)} ms`;
    return { ok: false, why, againInMs: Math.floor(leftMs) + 1 };
  }

  /** From when on silence of the holder starts a failover; the grant waits longer, see {@link mayGrant}. */
  suspectAtMs(state: ControlState): Millis {
    if (this.#leadership === null) return Number.POSITIVE_INFINITY;
    const { electedAtMs, electionElapsedMs } = this.#leadership;
    const heardMs = Math.max(this.#lastAcceptedMs ?? Number.NEGATIVE_INFINITY, electedAtMs - electionElapsedMs);
    return heardMs + leaseTimings(state.leaseMs).suspectAfterMs;
  }
}

/** Why this renewal is not to be confirmed in this state; null: it may be. */
function refusal(state: ControlState, renewal: Renewal): string | null {
  const token = formatToken(renewal.token);
  if (state.lastGranted === null || !tokensEqual(state.lastGranted.token, renewal.token)) {
    return `${token} is not the newest granted token`;
  }
  if (state.lastGranted.holder !== renewal.from) return `${token} is held by another node`;
  if (isReleased(state)) return `${token} was released`;
  if (!tokensEqual(state.current, renewal.token)) return `${token} is being replaced`;
  return null;
}

/**
 * The holder's side: which answers still count. It forgets its token *before* it releases it, so that an answer that
 * is still on its way can not bring the lease back.
 */
export class LeaseHolder {
  #token: Token | null = null;

  hold(token: Token): void {
    this.#token = token;
  }

  forget(): void {
    this.#token = null;
  }

  accepts(token: Token): boolean {
    return tokensEqual(this.#token, token);
  }
}
