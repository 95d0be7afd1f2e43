/**
 * The holder's side of the primary lease (docs/protocol.md section 4): takes a stamp from the supervisor, sends it with a
 * renewal to the Raft leader, and hands the confirmed stamp back to the supervisor, which alone moves the deadline.
 *
 *   stamp (C, BOOTTIME) -> renew -> leader: quorum round -> renewed -> supervisor: deadline = stamp + D
 *
 * A late or repeated answer is harmless: the deadline counts from the stamp, never from the answer.
 */
import { LeaseHolder, leaseTimings, tokensEqual } from "../control/index.js";
import type { Token } from "../control/types.js";
import { delay, monotonicMs } from "./clock.js";
import { describeError } from "./errors.js";
import type { Logger } from "./logger.js";
import type { LeaseWord, SupervisorLink } from "./supervisor-link.js";

export interface LeaseKeeperOptions {
  readonly link: SupervisorLink;
  readonly log: Logger;
  /** Sends a renewal to the Raft leader; false when none is known. */
  readonly sendRenewal: (token: Token, stampNs: string) => boolean;
  /** Whether the local server is fit to go on as primary; a reason when it is not. */
  readonly unfit: () => string | null;
  readonly leaseMs: () => number;
}

/** How often somebody who waits for the lease looks at the clock; the word's own changes wake him at once. */
const watchMs = 50;

export class LeaseKeeper {
  readonly #options: LeaseKeeperOptions;
  readonly #holder = new LeaseHolder();
  #token: Token | null = null;
  #timer: NodeJS.Timeout | null = null;
  #renewing = false;
  #confirmedAtMs = 0;
  #word: LeaseWord | null = null;
  #lastProblem = "";
  /** Those who wait for a change of the word or the token. */
  #watchers: Array<() => void> = [];

  constructor(options: LeaseKeeperOptions) {
    this.#options = options;
  }

  get token(): Token | null {
    return this.#token;
  }

  /** Milliseconds the lease word was still good for, by its last report less the time since; 0 when expired. */
  remainingMs(): number {
    if (this.#word === null || this.#token === null) return 0;
    return Math.max(0, this.#word.remainingMs - (monotonicMs() - this.#confirmedAtMs));
  }

  get live(): boolean {
    return this.remainingMs() > 0;
  }

  get open(): boolean {
    if (this.#token === null || this.#word === null) return false;
    return this.#word.open && tokensEqual(this.#word.token, this.#token);
  }

  /** Begins to hold `token`: gives it to the lease word (or finds it there, after a restart of the agent) and renews. */
  async hold(token: Token): Promise<void> {
    if (this.#token !== null && tokensEqual(this.#token, token)) return;
    this.forget();
    const word = await this.#options.link.token(token);
    if (!tokensEqual(word.token, token)) {
      this.#options.log.error(
        `the lease word of this server carries a newer token than ${token.term}.${token.index}; not holding the lease`,
      );
      return;
    }
    this.#token = token;
    this.#holder.hold(token);
    this.#note(word);
    const { renewEveryMs } = leaseTimings(this.#options.leaseMs());
    this.#timer = setInterval(() => this.renew(), renewEveryMs);
    this.renew();
  }

  /** Stops renewing; late answers are dropped from here on. The word runs out by itself unless it is expired. */
  forget(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    this.#token = null;
    this.#word = null;
    this.#holder.forget();
    this.#wakeWatchers();
  }

  renew(): void {
    const token = this.#token;
    if (token === null || this.#renewing) return;
    const unfit = this.#options.unfit();
    if (unfit !== null) {
      this.#problem(`not renewing the lease: ${unfit}`);
      return;
    }
    this.#renewing = true;
    this.#options.link
      .stamp()
      .then((stampNs) => {
        if (this.#holder.accepts(token) && !this.#options.sendRenewal(token, stampNs)) {
          this.#problem("the lease is not renewed: no Raft leader is known");
        }
      })
      .catch((error: unknown) => this.#problem(`the lease is not renewed: ${describeError(error)}`))
      .finally(() => {
        this.#renewing = false;
      });
  }

  /** The leader confirmed a round that was started after the renewal was received. */
  confirmed(token: Token, stampNs: string): void {
    if (!this.#holder.accepts(token)) return;
    this.#options.link
      .renew(token, stampNs, this.#options.leaseMs())
      .then((word) => {
        if (this.#holder.accepts(token)) this.#note(word);
        this.#lastProblem = "";
      })
      .catch((error: unknown) =>
        this.#problem(`the confirmed lease did not reach the server: ${describeError(error)}`),
      );
  }

  refused(token: Token, why: string): void {
    if (this.#holder.accepts(token)) this.#problem(`the Raft leader refused to renew the lease: ${why}`);
  }

  /** Opens the word for ordinary sessions. @throws when the supervisor refuses or is gone. */
  async openWord(token: Token): Promise<boolean> {
    const word = await this.#options.link.open(token);
    if (this.#holder.accepts(token)) this.#note(word);
    return word.open && tokensEqual(word.token, token);
  }

  /** Waits until the lease is live. Gives false when `deadlineMs` passes or the token is forgotten meanwhile. */
  async awaitLive(token: Token, deadlineMs: number): Promise<boolean> {
    const until = monotonicMs() + deadlineMs;
    while (this.#holder.accepts(token) && monotonicMs() < until) {
      if (this.live) return true;
      await Promise.race([new Promise<void>((resolve) => this.#watchers.push(resolve)), delay(watchMs)]);
    }
    return this.#holder.accepts(token) && this.live;
  }

  #note(word: LeaseWord): void {
    this.#word = word;
    this.#confirmedAtMs = monotonicMs();
    this.#wakeWatchers();
  }

  #wakeWatchers(): void {
    const watchers = this.#watchers;
    this.#watchers = [];
    for (const wake of watchers) wake();
  }

  /** One line per cause, not one per attempt. */
  #problem(text: string): void {
    if (text === this.#lastProblem) return;
    this.#lastProblem = text;
    this.#options.log.warning(text);
  }
}
