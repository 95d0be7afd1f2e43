/**
 * What a node does while it is the Raft leader: answers lease renewals by quorum rounds, collects reports, and asks
 * `decideLeader` what to propose next. One action at a time; every proposal is a compare-and-set, so that a repeated or
 * late one is refused when it is applied.
 */
import { decideLeader, LeaseGrantor, noneUnsynced, trackUnsynced, type Unsynced } from "../control/index.js";
import { compareTokens, formatToken } from "../control/token.js";
import type { Command, CommandBody, ControlState, Gossip, Outcome, Report, Token } from "../control/types.js";
import type { NodeId, ReadState, ReadToken, Status } from "../raft/types.js";
import { monotonicMs, wallClockMs } from "./clock.js";
import type { Logger } from "./logger.js";
import type { RaftDriver } from "./raft-driver.js";

export interface LeaderLoopOptions {
  readonly selfId: NodeId;
  readonly selfName: string;
  readonly driver: RaftDriver;
  readonly log: Logger;
  readonly gossip: ReadonlyMap<NodeId, { readonly receivedAtMs: number; readonly gossip: Gossip }>;
  readonly answerRenewal: (to: NodeId, token: Token, stampNs: string, refusal: string | null) => void;
  readonly maximumLagOnFailover: () => number;
}

/** An action that was refused, or a transfer that was begun: the same one is not tried again before `againAtMs`. */
interface Pause {
  readonly key: string;
  readonly againAtMs: number;
  readonly waitMs: number;
}

/** From 1/20 of a lease on, doubling up to a whole one: each refused proposal would leave an entry in every log. */
const pauseSteps = 20;

interface PhaseMark {
  readonly key: string;
  readonly sinceMs: number;
}

export class LeaderLoop {
  readonly #options: LeaderLoopOptions;
  readonly #grantor = new LeaseGrantor();
  #leading = false;
  #term = 0;
  /** Number of the proposal under way, 0 when there is none. */
  #acting = 0;
  #proposals = 0;
  #pause: Pause | null = null;
  #timer: NodeJS.Timeout | null = null;
  #phase: PhaseMark = { key: "", sinceMs: 0 };
  #reports = new Map<NodeId, Report>();
  #reportsFor: Token | null = null;
  #firstReportMs: number | null = null;
  #openAttempts = 0;
  #handoverSinceMs: number | null = null;
  #waitingFor = "";
  #unsynced: Unsynced = noneUnsynced;

  constructor(options: LeaderLoopOptions) {
    this.#options = options;
  }

  /** What the leader waits for at the moment, in words; empty in the steady state and on followers. */
  get waitingFor(): string {
    return this.#waitingFor;
  }

  /** Looks at the world and acts; called on every tick and after everything that may have changed the answer. */
  evaluate(): void {
    const status = this.#options.driver.status();
    this.#follow(status);
    if (!this.#leading) return;
    const state = this.#options.driver.state;
    this.#notePhase(state);
    if (this.#acting !== 0) return;
    this.#act(state, status);
  }

  renewal(from: NodeId, token: Token, stampNs: string): void {
    this.#follow(this.#options.driver.status());
    const { state } = this.#options.driver;
    if (!this.#leading) {
      this.#options.answerRenewal(from, token, stampNs, "this node is not the Raft leader");
      return;
    }
    const answer = this.#grantor.request({ state, from, token, stampNs, now: monotonicMs() });
    if (!answer.ok) {
      this.#options.answerRenewal(from, token, stampNs, answer.why);
      return;
    }
    // The round starts after the renewal was received: that is what makes its confirmation count.
    const round: ReadToken = this.#options.driver.readIndex();
    this.#grantor.roundStarted(round, [{ from, token, stampNs }]);
  }

  roundConfirmed(readState: ReadState): void {
    if (!this.#leading) return;
    for (const { from, token, stampNs } of this.#grantor.roundConfirmed(readState.token, this.#options.driver.state)) {
      this.#options.answerRenewal(from, token, stampNs, null);
    }
  }

  report(from: NodeId, token: Token, report: Report): void {
    this.#follow(this.#options.driver.status());
    if (!this.#leading) return;
    if (this.#reportsFor !== null && compareTokens(token, this.#reportsFor) < 0) return;
    // A follower applies `begin` only after this leader did, unless this leader is a new one that is still behind.
    if (this.#reportsFor === null || compareTokens(token, this.#reportsFor) > 0) this.#forgetReports(token);
    this.#reports.set(from, report);
    this.#firstReportMs ??= monotonicMs();
    this.evaluate();
  }

  #follow(status: Status): void {
    const leading = status.role === "leader";
    if (leading && (!this.#leading || status.term !== this.#term)) {
      this.#grantor.becomeLeader({
        term: status.term,
        electedAtMs: status.electedAtMs,
        electionElapsedMs: status.electionElapsedMs,
      });
      this.#phase = { key: "", sinceMs: 0 };
      this.#forgetReports(null);
      this.#openAttempts = 0;
      // What an earlier leadership proposed may never be decided: this one does not wait for it.
      this.#acting = 0;
      this.#pause = null;
      this.#options.log.info(`this node is the Raft leader of term ${status.term}`);
    } else if (!leading && this.#leading) {
      this.#grantor.stepDown();
      this.#waitingFor = "";
      this.#options.log.info(`this node is no longer the Raft leader (term ${status.term})`);
    }
    this.#leading = leading;
    this.#term = status.term;
  }

  #notePhase(state: ControlState): void {
    if (state.handover === null) this.#handoverSinceMs = null;
    else this.#handoverSinceMs ??= monotonicMs();
    const key = `${state.phase.kind} ${state.current === null ? "" : formatToken(state.current)}`;
    if (key === this.#phase.key) return;
    this.#phase = { key, sinceMs: monotonicMs() };
    if (state.phase.kind === "steady") this.#openAttempts = 0;
    if (state.phase.kind === "recruit") {
      if (state.phase.reason === "open-timeout") this.#openAttempts += 1;
      if (this.#reportsFor === null || state.current === null || compareTokens(state.current, this.#reportsFor) !== 0) {
        this.#forgetReports(state.current);
      }
    }
  }

  #forgetReports(token: Token | null): void {
    this.#reports = new Map();
    this.#reportsFor = token;
    this.#firstReportMs = null;
  }

  #act(state: ControlState, status: Status): void {
    const { driver, log } = this.#options;
    const now = monotonicMs();
    const mayGrant = this.#grantor.mayGrant(state, now);
    this.#unsynced = trackUnsynced(this.#unsynced, { state, gossip: this.#options.gossip, now });
    this.#lookAgainIn(state.phase.kind === "promoted" ? mayGrant.againInMs : undefined);
    const action = decideLeader({
      now,
      selfId: this.#options.selfId,
      state,
      raft: {
        term: status.term,
        termCommitted: status.termCommitted && status.applied === status.commit,
        electedAtMs: status.electedAtMs,
        electionElapsedMs: status.electionElapsedMs,
        lastIndex: status.lastIndex,
        voters: status.config.voters,
        votersOutgoing: status.config.votersOutgoing,
        learners: status.config.learners,
        progress: status.progress,
      },
      lastAcceptedMs: this.#grantor.lastAcceptedMs,
      suspectAtMs: this.#grantor.suspectAtMs(state),
      mayGrant,
      reports: this.#reports,
      gossip: this.#options.gossip,
      phaseSinceMs: this.#phase.sinceMs,
      firstReportMs: this.#firstReportMs,
      handoverSinceMs: this.#handoverSinceMs,
      openAttempts: this.#openAttempts,
      maximumLagOnFailover: this.#options.maximumLagOnFailover(),
      unsyncedSinceMs: this.#unsynced.sinceMs,
    });
    switch (action.type) {
      case "wait":
        if (action.text !== this.#waitingFor && action.text !== "") log.info(action.text);
        this.#waitingFor = action.text;
        return;
      case "transfer":
        if (this.#isPaused(action.text)) return;
        if (this.#waitingFor !== action.text) log.info(action.text);
        this.#waitingFor = action.text;
        // While a transfer is under way the core refuses every proposal: one that does not succeed must leave room.
        this.#pause = { key: action.text, againAtMs: now + state.leaseMs, waitMs: state.leaseMs };
        driver.transferLeadership(action.to);
        return;
      case "propose": {
        const key = JSON.stringify(action.command);
        if (this.#isPaused(key)) return;
        const proposal = driver.propose(this.#stamped(action.command));
        const next = action.next === undefined ? null : driver.propose(this.#stamped(action.next));
        // Whether the second one was accepted shows in the state; if not, it is decided anew.
        this.#run(key, describeCommand(action.command), next === null ? proposal : next.then(() => proposal));
        return;
      }
      case "confChange":
        if (this.#isPaused(action.text)) return;
        log.info(action.text);
        this.#run(action.text, action.text, driver.proposeConfChange(action.change));
        return;
    }
  }

  /** The grant waits for a moment that is known exactly: each tick that it came later would be a part of the outage. */
  #lookAgainIn(ms: number | undefined): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = ms === undefined ? null : setTimeout(() => this.evaluate(), ms);
  }

  #run(key: string, what: string, proposal: Promise<Outcome>): void {
    this.#proposals += 1;
    const number = this.#proposals;
    this.#acting = number;
    proposal.then((outcome) => {
      if (this.#acting !== number) return;
      this.#acting = 0;
      if (outcome.ok) this.#pause = null;
      else {
        this.#options.log.info(`${what}: ${outcome.message}`);
        this.#pauseFor(key, outcome.code);
      }
      setImmediate(() => this.evaluate());
    });
  }

  #isPaused(key: string): boolean {
    return this.#pause !== null && this.#pause.key === key && monotonicMs() < this.#pause.againAtMs;
  }

  #pauseFor(key: string, code: string): void {
    const { leaseMs } = this.#options.driver.state;
    const shortest = leaseMs / pauseSteps;
    const before = this.#pause !== null && this.#pause.key === key ? this.#pause.waitMs : 0;
    // A transfer under way is over soon: what waits for it is not made to wait longer and longer.
    const waitMs = code === "transferring" ? shortest : Math.min(leaseMs, Math.max(shortest, before * 2));
    this.#pause = { key, againAtMs: monotonicMs() + waitMs, waitMs };
  }

  #stamped(command: CommandBody): Command {
    return { ...command, atMs: wallClockMs(), by: this.#options.selfName };
  }
}

function describeCommand(command: CommandBody): string {
  return "text" in command && command.text !== "" ? command.text : command.type;
}
