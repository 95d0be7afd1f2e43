/**
 * Converges the local PostgreSQL server to the committed state: asks `decideNode` what to do and does it, one action at
 * a time, each idempotent, so that an agent that restarts in the middle just goes on.
 */
import type { NodeAction } from "../control/decisions.js";
import { compareLsn, decideNode, formatToken, parseToken, promotionOf, tokensEqual } from "../control/index.js";
import type { CommandBody, ControlState, Lsn, Member, Outcome, Report, Token } from "../control/types.js";
import { ServerError } from "../postgres/errors.js";
import type { LocalServer, PledgeResult, RejoinIntent, ServerObservation } from "../postgres/types.js";
import type { NodeId } from "../raft/types.js";
import type { NodeState } from "../storage/types.js";
import { monotonicMs } from "./clock.js";
import { describeError } from "./errors.js";
import type { Hooks } from "./hooks.js";
import type { LeaseKeeper } from "./lease-keeper.js";
import type { Logger } from "./logger.js";

export interface ExecutorOptions {
  readonly selfId: NodeId;
  readonly selfName: string;
  readonly log: Logger;
  readonly server: LocalServer;
  readonly lease: LeaseKeeper;
  readonly hooks: Hooks;
  readonly state: () => ControlState;
  /** Where the primary's oldest WAL begins, as it last said; null when not known. */
  readonly primaryOldestLsn: () => Lsn | null;
  readonly markerKey: string;
  /** Proposes through the leader, wherever it is. */
  readonly submit: (command: CommandBody) => Promise<Outcome>;
  readonly sendReport: (token: Token, report: Report) => void;
  readonly nodeState: NodeState;
  readonly saveNodeState: (state: NodeState) => Promise<void>;
  readonly saveRejoinIntent: (intent: RejoinIntent) => Promise<void>;
  /** Expires the lease word: no backend of this server writes from here on. */
  readonly expireWord: () => Promise<void>;
  readonly stopServer: (mode: "fast" | "immediate") => void;
  /** Resolves with the end of the shutdown checkpoint once pg_control says that the server is shut down. */
  readonly waitForShutdownCheckpoint: (deadlineMs: number) => Promise<Lsn>;
  readonly onObserved: () => void;
}

const noToken = "0.0";
/** SQLSTATE of what the fence refuses. */
const fencedState = "25006";
/** How long a server may take to stop before it is stopped at once. */
const stopPatienceMs = 60_000;
/** How long a standby may fail to stream before the primary's lack of WAL is taken for the cause. */
const patienceMs = 5000;

export class Executor {
  readonly #options: ExecutorOptions;
  #node: NodeState;
  #observation: ServerObservation | null = null;
  #running = false;
  #again = false;
  #serverGone = false;
  #pledgedFor: Token | null = null;
  #report: { readonly token: Token; readonly report: Report } | null = null;
  #lastText = "";
  #lastProblem = "";
  #notStreamingSinceMs: number | null = null;
  #handingOver: Token | null = null;
  #leaving = false;
  #stopAskedAtMs = 0;
  #saving: Promise<void> = Promise.resolve();
  #rejoining = false;
  #followedThisLife: { readonly token: string; readonly startedAt: string | null } | null = null;
  #lastProbeOkMs = monotonicMs();
  #probing = false;
  #lastPrimaryLsn: Lsn | null = null;
  #action: NodeAction["type"] = "none";
  /** Number of the newest look at the server; the answer to an older one is dropped. */
  #looks = 0;
  /** What was tried failed: the server is not as it was seen last. */
  #mustLook = false;
  #stopWaiting: (() => void) | null = null;

  constructor(options: ExecutorOptions) {
    this.#options = options;
    this.#node = options.nodeState;
  }

  get observation(): ServerObservation | null {
    return this.#observation;
  }

  get action(): NodeAction["type"] {
    return this.#action;
  }

  /** True from the moment the server is told to stop for a rejoin, a demotion or a handover. */
  get leaving(): boolean {
    return this.#leaving || this.#handingOver !== null;
  }

  get serverGone(): boolean {
    return this.#serverGone;
  }

  /** Looks at the server and acts; a call while one is running makes it look once more afterwards. */
  kick(): void {
    if (this.#running) {
      this.#again = true;
      if (this.#stopWaiting !== null && this.#urgent() !== null) this.#stopWaiting();
      return;
    }
    this.#running = true;
    this.#run().then(
      () => {
        this.#running = false;
        if (this.#again) this.kick();
      },
      (error: unknown) => {
        this.#running = false;
        this.#mustLook = true;
        this.#problem(`the local server could not be brought to the committed state: ${describeError(error)}`);
      },
    );
  }

  /** The postmaster is gone: there is nothing to execute on any more. */
  serverDied(): void {
    this.#serverGone = true;
    this.#observation = null;
    // It is true still, but nobody can be promoted here before the next start.
    this.#report = null;
    this.kick();
  }

  /**
   * Durable before the lease of `token` is given back: this node never takes it up again, not in a later life either.
   * A release whose outcome is not known may still be committed, and from then on nobody waits for this lease.
   */
  async renounce(token: Token): Promise<void> {
    if (this.#node.promotedUnder !== formatToken(token)) await this.#save({ promotedUnder: formatToken(token) });
  }

  /** Sends the present report again (a new leader recruits from zero). */
  repeatReport(): void {
    if (this.#report !== null) this.#options.sendReport(this.#report.token, this.#report.report);
  }

  /** Why this server is not fit to stay primary, or null. */
  unfit(leaseMs: number): string | null {
    if (this.#serverGone) return "the local server is gone";
    if (this.leaving) return "the local server is being stopped";
    if (!this.#options.lease.open) return null;
    const silentMs = monotonicMs() - this.#lastProbeOkMs;
    return silentMs > leaseMs ? `the local server has not completed a commit for more than ${leaseMs} ms` : null;
  }

  /** The committing health probe of an open primary; one at a time, its age is what counts. */
  probe(): void {
    if (this.#probing || this.#serverGone || !this.#options.lease.open) return;
    this.#probing = true;
    this.#options.server
      .probeCommit(this.#options.markerKey)
      .then(() => {
        this.#lastProbeOkMs = monotonicMs();
      })
      .catch((error: unknown) => {
        // It is the fence that refused, the server works: a lease that ran out must not stand in its own way.
        if (error instanceof ServerError && error.sqlState === fencedState) this.#lastProbeOkMs = monotonicMs();
        else this.#options.log.warning(`the commit probe failed: ${describeError(error)}`);
      })
      .finally(() => {
        this.#probing = false;
      });
  }

  async #run(): Promise<void> {
    this.#again = false;
    if (this.#serverGone) {
      this.#reportUnable("the server is down");
      return;
    }
    if (this.#urgent() === null) await this.#observeUnlessUrgent();
    const action = this.#urgent() ?? this.#decide();
    this.#action = action.type;
    await this.#perform(action);
    this.#options.onObserved();
  }

  /** A recruit or promotion does not wait for another look: the last one, at most a gossip interval old, will do. */
  #urgent(): NodeAction | null {
    if (this.#mustLook || this.#observation?.reachable !== true) return null;
    const action = this.#decide();
    return action.type === "pledge" || action.type === "promote" ? action : null;
  }

  /** A look that is under way when something urgent is committed is not waited for: it may take a new connection. */
  async #observeUnlessUrgent(): Promise<void> {
    const stopped = new Promise<void>((resolve) => {
      this.#stopWaiting = resolve;
    });
    try {
      await Promise.race([this.#observe(), stopped]);
    } finally {
      this.#stopWaiting = null;
      this.#looks += 1;
    }
  }

  async #observe(): Promise<void> {
    const look = this.#looks;
    const observation = await this.#options.server.observe();
    if (this.#serverGone || look !== this.#looks) return;
    this.#observation = observation;
    this.#mustLook = false;
    if (observation.receiver?.latestEndLsn) this.#lastPrimaryLsn = observation.receiver.latestEndLsn;
    if (observation.receiver?.status === "streaming" && this.#node.pointedAt !== noToken) {
      this.#followedThisLife = { token: this.#node.pointedAt, startedAt: observation.postmasterStartTime };
    }
    this.#options.onObserved();
  }

  #decide(): NodeAction {
    const { state, lease } = this.#options;
    const observation = this.#observation;
    return decideNode({
      now: monotonicMs(),
      selfId: this.#options.selfId,
      state: state(),
      pledge: optionalToken(this.#node.pledge),
      pointedAt: optionalToken(this.#node.pointedAt),
      promotedUnder: optionalToken(this.#node.promotedUnder),
      server: {
        reachable: observation?.reachable ?? false,
        inRecovery: observation?.inRecovery ?? null,
        timeline: observation?.timeline ?? null,
        replayLsn: observation?.replayLsn ?? null,
        markerToken: observation?.markerToken ?? null,
        followingToken: this.#followingToken(observation),
        streaming: observation?.receiver?.status === "streaming",
        upstreamLacksWal: this.#upstreamLacksWal(observation),
        replayDone: observation?.replayDone ?? false,
      },
      lease: { token: lease.token, live: lease.live, open: lease.open },
      // Quorum mode is refused at the configuration: no list of this agent is ever in force.
      sync: { list: null, provenLsn: null },
      pledgedFor: this.#pledgedFor,
    });
  }

  /** Not streaming for a while from a primary that has only newer WAL: waiting longer does not help. */
  #upstreamLacksWal(observation: ServerObservation | null): boolean {
    const oldestLsn = this.#options.primaryOldestLsn();
    const following = this.#followingToken(observation) !== null && observation?.receiver?.status !== "streaming";
    if (!following || oldestLsn === null || !observation?.replayLsn) {
      this.#notStreamingSinceMs = null;
      return false;
    }
    this.#notStreamingSinceMs ??= monotonicMs();
    const waitedMs = monotonicMs() - this.#notStreamingSinceMs;
    return waitedMs > patienceMs && compareLsn(observation.replayLsn, oldestLsn) < 0;
  }

  /** A conninfo that is set was set in this life of the server: every start clears it. */
  #followingToken(observation: ServerObservation | null): Token | null {
    if (observation === null || !observation.primaryConninfo) return null;
    return optionalToken(this.#node.pointedAt);
  }

  async #perform(action: NodeAction): Promise<void> {
    if (action.type !== "none" && action.text !== "" && action.text !== this.#lastText) {
      this.#options.log.info(action.text);
    }
    this.#lastText = action.text;
    if (this.leaving) {
      this.#insistOnStop();
      if (action.type === "pledge") this.#options.sendReport(action.token, this.#leavingReport());
      return;
    }
    switch (action.type) {
      case "pledge":
        await this.#pledge(action.token, action.waitLsn);
        return;
      case "promote":
        await this.#promote(action.token, action.parent);
        return;
      case "follow":
        await this.#follow(action.token, action.primary);
        return;
      case "rejoin":
        await this.#rejoin(action);
        return;
      case "demote":
        this.#leaving = true;
        this.#options.lease.forget();
        try {
          await this.#options.expireWord();
        } finally {
          // A supervisor that does not answer is no reason to stay: the word runs out by itself.
          this.#stop("immediate");
        }
        return;
      case "release":
        this.#options.lease.forget();
        await this.#options.expireWord();
        await this.#submit({ type: "release", token: action.token, shutdownLsn: null, text: action.text });
        return;
      case "handover":
        await this.#handOver(action.token);
        return;
      case "setSyncList":
      case "mark":
      case "proveSyncList":
      case "settle":
      case "open":
        throw new Error(`${action.type}: the committed state asks for quorum mode, which this release does not run`);
      case "none":
        return;
    }
  }

  /** One after the other, each on top of the one before: two at once would lose one of the two. */
  #save(change: Partial<NodeState>): Promise<void> {
    const saved = this.#saving.then(async () => {
      const next: NodeState = { ...this.#node, ...change };
      await this.#options.saveNodeState(next);
      this.#node = next;
    });
    // The caller of each sees its error; the queue only keeps the order.
    this.#saving = saved.catch(() => undefined);
    return saved;
  }

  async #pledge(token: Token, waitLsn: Lsn | null): Promise<void> {
    if (!this.#observation?.reachable) {
      this.#reportUnable(this.#observation?.why ?? "the server was not looked at yet");
      return;
    }
    const before = this.#observation;
    const result = await this.#recordedPledge(token, waitLsn).catch((error: unknown) => {
      // It is tried again, but the others need not wait for it for ever.
      this.#reportUnable(`its pledge could not be proven: ${describeError(error)}`);
      throw error;
    });
    const { phase } = this.#options.state();
    const from = phase.kind === "recruit" ? phase.from : null;
    const report: Report = {
      kind: "position",
      token: result.markerToken,
      lsn: result.lsn,
      timeline: result.timeline,
      followedSinceStart:
        this.#followedThisLife !== null &&
        from !== null &&
        this.#followedThisLife.token === formatToken(from) &&
        this.#followedThisLife.startedAt === before.postmasterStartTime,
      lastPrimaryLsn: result.lastPrimaryLsn ?? this.#lastPrimaryLsn,
      wasHolder:
        from !== null && this.#node.promotedUnder === formatToken(from) && result.markerToken !== null
          ? tokensEqual(result.markerToken, from)
          : false,
    };
    this.#pledgedFor = token;
    this.#report = { token, report };
    this.#options.sendReport(token, report);
  }

  /** Durable before anything is ended: an agent that restarts here follows nothing older (docs/protocol.md section 7). */
  async #recordedPledge(token: Token, waitLsn: Lsn | null): Promise<PledgeResult> {
    const recorded = this.#save({ pledge: formatToken(token) });
    // Its error comes out below, also when the server's own comes first.
    recorded.catch(() => undefined);
    const waitMs = waitLsn === null ? 0 : 5000;
    try {
      return await this.#options.server.pledge({ recorded, waitLsn, waitMs, deadlineMs: 5000 });
    } finally {
      await recorded;
    }
  }

  #leavingReport(): Report {
    return this.#rejoining ? { kind: "rejoining" } : { kind: "unable", why: "the server is being stopped" };
  }

  #reportUnable(why: string): void {
    const state = this.#options.state();
    if (state.phase.kind !== "recruit" || state.current === null) return;
    this.#options.sendReport(state.current, { kind: "unable", why });
  }

  async #promote(token: Token, parent: Token | null): Promise<void> {
    const { lease, log, hooks, server } = this.#options;
    if (lease.token === null || !tokensEqual(lease.token, token)) await lease.hold(token);
    // An agent that was restarted beside its healthy primary only takes up the renewals again.
    if (lease.open && this.#options.state().phase.kind === "steady") {
      this.#lastProbeOkMs = monotonicMs();
      return;
    }
    const deadlineMs = Math.max(1000, this.#options.state().leaseMs);
    if (!(await lease.awaitLive(token, deadlineMs))) {
      log.warning(`waiting for the lease of ${formatToken(token)} before promoting`);
      return;
    }
    if (this.#observation?.inRecovery !== false) {
      const veto = await hooks.prePromote(token);
      if (veto !== null) {
        log.warning(`not promoted: ${veto}`);
        lease.forget();
        // Durable: from here on this node only ever releases the token. Holding it again while the release may still be
        // committed would let another node be granted beside a live lease.
        await this.renounce(token);
        await this.#options.expireWord();
        await this.#submit({
          type: "release",
          token,
          shutdownLsn: null,
          text: `The pre_promote hook refused: ${veto}`,
        });
        return;
      }
      // A hook takes its time, and the cluster does not wait for it.
      if (!this.#stillHolds(token)) return;
      // Durable first: found in recovery afterwards, this node knows that the promotion did not hold, and releases.
      await this.#save({ promotedUnder: formatToken(token), pledge: formatToken(token) });
    }
    const parentTimeline = promotionOf(this.#options.state(), parent)?.timeline ?? null;
    const promotion = await server.promote(deadlineMs, parentTimeline);
    if (!this.#stillHolds(token)) return;
    await server.writeMarker({ token, parent, node: this.#options.selfName, markerKey: this.#options.markerKey });
    this.#lastProbeOkMs = monotonicMs();
    if (!this.#stillHolds(token) || !(await lease.openWord(token))) {
      log.warning(`the lease of ${formatToken(token)} was lost before the server was opened`);
      this.#tellFork(token, promotion);
      return;
    }
    log.info(`this server is the primary under token ${formatToken(token)}, timeline ${promotion.timeline}`);
    hooks.roleChanged("primary", token);
    this.#observation = null;
    await this.#submit({ type: "opened", token, timeline: promotion.timeline, forkLsn: promotion.forkLsn });
  }

  /**
   * Left recovery, but not open: with its fork in the log nobody is rewound without need. Not waited for, since the
   * leader may be out of reach; refused when another failover has begun.
   */
  #tellFork(token: Token, { timeline, forkLsn }: { timeline: number; forkLsn: Lsn }): void {
    this.#submit({ type: "marked", token, timeline, forkLsn }).catch((error: unknown) =>
      this.#problem(`the fork of ${formatToken(token)} could not be told: ${describeError(error)}`),
    );
  }

  #stillHolds(token: Token): boolean {
    const { current, lastGranted } = this.#options.state();
    return (
      current !== null &&
      tokensEqual(current, token) &&
      lastGranted !== null &&
      tokensEqual(lastGranted.token, token) &&
      lastGranted.holder === this.#options.selfId &&
      this.#options.lease.live
    );
  }

  async #follow(token: Token, primary: Member): Promise<void> {
    const wasFollowing = this.#node.pointedAt === formatToken(token);
    if (!wasFollowing) await this.#save({ pointedAt: formatToken(token) });
    await this.#options.server.follow({
      token,
      dsn: primary.dsn,
      applicationName: memberSlotName(this.#options.selfId),
      slotName: memberSlotName(this.#options.selfId),
    });
    if (!wasFollowing) this.#options.hooks.roleChanged("standby", token);
  }

  async #rejoin(action: Extract<NodeAction, { type: "rejoin" }>): Promise<void> {
    const state = this.#options.state();
    await this.#options.saveRejoinIntent({
      format: 1,
      token: formatToken(action.token),
      source: { node: action.primary.name, dsn: action.primary.dsn },
      candidates: state.members
        .filter(
          (member) => member.kind === "data" && member.id !== this.#options.selfId && member.id !== action.primary.id,
        )
        .map((member) => ({ node: member.name, dsn: member.dsn })),
      method: action.method,
      why: action.text,
      timeline: action.timeline,
      systemIdentifier: state.systemIdentifier,
    });
    this.#leaving = true;
    this.#rejoining = true;
    this.#stop("fast");
  }

  async #handOver(token: Token): Promise<void> {
    const { log, server } = this.#options;
    await server.checkpoint();
    const { handover } = this.#options.state();
    if (handover === null || !tokensEqual(handover.from, token)) {
      log.info("the switchover was given up while this server wrote its checkpoint; it goes on as primary");
      return;
    }
    this.#handingOver = token;
    // Forgotten first: a confirmation that is still on its way moves nothing any more.
    this.#options.lease.forget();
    try {
      await this.#options.expireWord();
    } finally {
      this.#stop("fast");
    }
    let shutdownLsn: Lsn;
    try {
      shutdownLsn = await this.#options.waitForShutdownCheckpoint(10_000);
    } catch (error) {
      // The word is expired and the token forgotten: nothing is acknowledged here any more, whatever the server does.
      log.warning(
        `the server did not shut down in time for the switchover: ${describeError(error)}; stopping it at once`,
      );
      this.#stop("immediate");
      return;
    }
    await this.#submit({
      type: "release",
      token,
      shutdownLsn,
      text: `${this.#options.selfName} shut down at ${shutdownLsn} for the switchover`,
    });
  }

  #stop(mode: "fast" | "immediate"): void {
    this.#stopAskedAtMs = monotonicMs();
    this.#options.stopServer(mode);
  }

  /** A hanging archiver or a lost signal must not keep this node out of the cluster for ever. */
  #insistOnStop(): void {
    if (monotonicMs() - this.#stopAskedAtMs < stopPatienceMs) return;
    this.#options.log.warning(`the server has not stopped within ${stopPatienceMs} ms; stopping it at once`);
    this.#stop("immediate");
  }

  /** One line per cause, not one per attempt: it is tried again with each gossip. */
  #problem(text: string): void {
    if (text === this.#lastProblem) return;
    this.#lastProblem = text;
    this.#options.log.warning(text);
  }

  async #submit(command: CommandBody): Promise<void> {
    const outcome = await this.#options.submit(command);
    if (!outcome.ok) this.#options.log.warning(`${command.type} was not accepted: ${outcome.message}`);
  }
}

/** Slot and application_name of a member: they carry the Raft id, so that a wiped node is never taken for its old self. */
export function memberSlotName(id: NodeId): string {
  return `pg_replica_${id}`;
}

function optionalToken(text: string): Token | null {
  return text === noToken ? null : parseToken(text);
}
