/** What an agent does while it is the Raft leader: the product's grantor and decisions, driven as src/agent/leader-loop.ts does. */
import { encodeCommand } from "../../src/control/command.js";
import type { LeaderAction, LeaderInput } from "../../src/control/decisions.js";
import { decideLeader, failoverTable } from "../../src/control/failover.js";
import { LeaseGrantor } from "../../src/control/lease.js";
import { promotionOf } from "../../src/control/membership.js";
import { noneUnsynced, trackUnsynced, type Unsynced } from "../../src/control/set-change.js";
import { compareTokens, formatToken } from "../../src/control/token.js";
import type { CommandBody, ControlState, Outcome, Report, Token } from "../../src/control/types.js";
import type { NodeId, ReadToken, Status } from "../../src/raft/types.js";
import type { NodeAgent } from "./agent.js";
import { setList } from "./replication.js";

interface Pause {
  readonly key: string;
  readonly againAtMs: number;
  readonly waitMs: number;
}

const pauseSteps = 20;

export class Leader {
  agent: NodeAgent;
  readonly #grantor = new LeaseGrantor();
  #leading = false;
  #term = 0;
  /** Index of the proposal under way; 0: none. */
  #acting = 0;
  #actingKey = "";
  #listFirst = "";
  #pause: Pause | null = null;
  #phase = { key: "", sinceMs: 0 };
  reports = new Map<NodeId, Report>();
  #reportsFor: Token | null = null;
  #firstReportMs: number | null = null;
  #openAttempts = 0;
  #handoverSinceMs: number | null = null;
  #unsynced: Unsynced = noneUnsynced;
  waitingFor = "";

  constructor(agent: NodeAgent) {
    this.agent = agent;
  }

  evaluate(): void {
    const { machine, state } = this.agent;
    this.#follow();
    if (!this.#leading) return;
    this.#notePhase(state);
    const { status } = machine;
    if (this.#acting === 0 && status !== null) this.#act(state, status);
  }

  renewal(from: NodeId, token: Token, stampMs: number): void {
    const { cluster, machine, state } = this.agent;
    cluster.host.refresh(machine);
    this.#follow();
    if (!this.#leading) return;
    const renewal = { from, token, stampNs: String(stampMs) };
    if (!this.#grantor.request({ ...renewal, state, now: this.agent.now }).ok) return;
    // The round starts after the renewal was received: that is what makes its confirmation count.
    const round = cluster.host.readIndex(machine);
    if (round !== null) this.#grantor.roundStarted(round, [renewal]);
  }

  roundConfirmed(round: ReadToken): void {
    if (!this.#leading) return;
    for (const { from, token, stampNs } of this.#grantor.roundConfirmed(round, this.agent.state)) {
      this.agent.send(from, { kind: "renewed", token, stampMs: Number(stampNs) });
    }
  }

  report(from: NodeId, token: Token, report: Report): void {
    const { cluster, machine } = this.agent;
    cluster.host.refresh(machine);
    this.#follow();
    if (!this.#leading) return;
    const { keepsOldReports } = cluster.faults;
    if (this.#reportsFor !== null && compareTokens(token, this.#reportsFor) < 0 && !keepsOldReports) return;
    if (this.#reportsFor === null || compareTokens(token, this.#reportsFor) > 0) this.#forgetReports(token);
    this.reports.set(from, report);
    this.#firstReportMs ??= this.agent.now;
    this.evaluate();
  }

  /** The proposal at `index` was applied, or lost (null). */
  decided(index: number, outcome: Outcome | null): void {
    if (index !== this.#acting) return;
    this.#acting = 0;
    if (outcome?.ok === true) this.#pause = null;
    else this.#pauseFor(this.#actingKey, outcome === null ? "lost" : outcome.code);
  }

  #follow(): void {
    const { machine } = this.agent;
    const { leads: leading, term } = machine;
    const status = leading && (!this.#leading || term !== this.#term) ? machine.status : null;
    if (status !== null) {
      const { noHold } = this.agent.cluster.faults;
      const electionElapsedMs = noHold ? Number.POSITIVE_INFINITY : status.electionElapsedMs;
      this.#grantor.becomeLeader({ term: status.term, electedAtMs: status.electedAtMs, electionElapsedMs });
      this.#phase = { key: "", sinceMs: 0 };
      this.#forgetReports(null);
      this.#openAttempts = 0;
      this.#acting = 0;
      this.#pause = null;
    } else if (!leading && this.#leading) {
      this.#grantor.stepDown();
      this.waitingFor = "";
    }
    this.#leading = leading;
    this.#term = term;
  }

  #notePhase(state: ControlState): void {
    const { now } = this.agent;
    if (state.handover === null) this.#handoverSinceMs = null;
    else this.#handoverSinceMs ??= now;
    const key = `${state.phase.kind} ${state.current === null ? "" : formatToken(state.current)}`;
    if (key === this.#phase.key) return;
    this.#phase = { key, sinceMs: now };
    if (state.phase.kind === "steady") this.#openAttempts = 0;
    if (state.phase.kind !== "recruit") return;
    if (state.phase.reason === "open-timeout") this.#openAttempts += 1;
    if (this.#reportsFor === null || state.current === null || compareTokens(state.current, this.#reportsFor) !== 0) {
      if (!this.agent.cluster.faults.keepsOldReports) this.#forgetReports(state.current);
      else this.#reportsFor = state.current;
    }
  }

  #forgetReports(token: Token | null): void {
    this.reports = new Map();
    this.#reportsFor = token;
    this.#firstReportMs = null;
  }

  #input(state: ControlState, status: Status): LeaderInput {
    const { cluster, machine, now, gossip } = this.agent;
    this.#unsynced = trackUnsynced(this.#unsynced, { state, gossip, now });
    return {
      now,
      selfId: machine.id,
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
      mayGrant: this.#mayGrant(state, now),
      reports: this.reports,
      gossip,
      phaseSinceMs: this.#phase.sinceMs,
      firstReportMs: this.#firstReportMs,
      handoverSinceMs: this.#handoverSinceMs,
      openAttempts: this.#openAttempts,
      maximumLagOnFailover: cluster.maximumLag,
      unsyncedSinceMs: this.#unsynced.sinceMs,
    };
  }

  #mayGrant(state: ControlState, now: number): LeaderInput["mayGrant"] {
    const { faults, promotedIn } = this.agent.cluster;
    const waived = { ok: true, why: "by mistake" };
    if (faults.noHoldInQuorumMode && state.durability.inForce !== null) return waived;
    if (faults.grantToPromoted && state.phase.kind === "promoted" && promotedIn < this.#term) return waived;
    return this.#grantor.mayGrant(state, now);
  }

  #act(state: ControlState, status: Status): void {
    const { cluster } = this.agent;
    const action = this.#decide(this.#input(state, status));
    const { now, machine } = this.agent;
    switch (action.type) {
      case "wait":
        this.waitingFor = action.text;
        return;
      case "transfer":
        if (this.#isPaused(action.text)) return;
        this.#pause = { key: action.text, againAtMs: now + state.leaseMs, waitMs: state.leaseMs };
        cluster.host.transferLeadership(machine, action.to);
        return;
      case "propose": {
        const key = JSON.stringify(action.command);
        if (this.#isPaused(key)) return;
        this.#propose(key, action.command, action.next);
        return;
      }
      case "confChange": {
        if (this.#isPaused(action.text)) return;
        const result = cluster.host.changeConfiguration(machine, action.change);
        this.#pauseFor(action.text, result.ok ? "configuration" : result.reason);
        return;
      }
    }
  }

  #decide(sound: LeaderInput): LeaderAction {
    const { faults, marks } = this.agent.cluster;
    const input = spoilLeaderInput(sound, this.agent);
    const action = decideLeader(input);
    if (action.type === "propose" && action.command.type === "begin") {
      const { reason } = action.command;
      if (faults.noOpenTimeout && (reason === "open-timeout" || reason === "not-renewed")) {
        return { type: "wait", text: "waiting for the opening" };
      }
    }
    if (action.type !== "wait" || action.text !== this.waitingFor) markRow(input, action, marks);
    if (action.type === "propose" && action.command.type === "promote") markChoice(input, marks);
    return action;
  }

  #propose(key: string, command: CommandBody, next: CommandBody | undefined): void {
    const { cluster, machine } = this.agent;
    if (cluster.faults.listBeforeCommit && command.type === "beginSetChange" && this.#listFirst !== key) {
      this.#listFirst = key;
      this.#takeListNow(command);
      this.#pause = { key, againAtMs: this.agent.now + this.agent.state.leaseMs, waitMs: 0 };
      return;
    }
    const data = this.#encoded(command);
    const index = cluster.host.propose(machine, data);
    this.#actingKey = key;
    if (index === 0) {
      this.#pauseFor(key, "refused");
      return;
    }
    this.#acting = index;
    if (next !== undefined) {
      const second = cluster.host.propose(machine, this.#encoded(next));
      if (second !== 0) this.#acting = second;
    }
  }

  /** By mistake: before the change is committed. */
  #takeListNow(command: Extract<CommandBody, { type: "beginSetChange" }>): void {
    const { cluster, state } = this.agent;
    const holder = promotionOf(state, state.current)?.holder ?? 0;
    const server = cluster.servers[holder];
    const members = command.members.filter((id) => id !== holder);
    if (server?.phase === "primary") setList(cluster, server, { members, acks: command.acks });
  }

  #encoded(command: CommandBody): Uint8Array {
    return encodeCommand({ ...command, atMs: this.agent.cluster.host.nowMs, by: String(this.agent.machine.id) });
  }

  #isPaused(key: string): boolean {
    return this.#pause !== null && this.#pause.key === key && this.agent.now < this.#pause.againAtMs;
  }

  #pauseFor(key: string, code: string): void {
    const { leaseMs } = this.agent.state;
    const shortest = leaseMs / pauseSteps;
    const before = this.#pause !== null && this.#pause.key === key ? this.#pause.waitMs : 0;
    const waitMs = code === "transferring" ? shortest : Math.min(leaseMs, Math.max(shortest, before * 2));
    this.#pause = { key, againAtMs: this.agent.now + waitMs, waitMs };
  }
}

/** The row whose action this is; it is found by asking each again, only when something is done. */
function markRow(input: LeaderInput, action: LeaderAction, marks: Record<string, number>): void {
  if (!input.raft.termCommitted) return;
  for (const row of failoverTable) {
    if (!row.phases.includes(input.state.phase.kind)) continue;
    if (row.act(input) === null) continue;
    marks[`leader:${row.name}`] = (marks[`leader:${row.name}`] ?? 0) + 1;
    return;
  }
  if (action.type !== "wait") throw new Error("no row of the failover table gives this action");
}

/** How much an election had to tell apart. */
function markChoice({ reports }: LeaderInput, marks: Record<string, number>): void {
  const positions = [...reports.values()].flatMap((report) => (report.kind === "position" ? [report] : []));
  const tokens = new Set(positions.map(({ token }) => (token === null ? "" : formatToken(token))));
  if (tokens.size > 1) marks.choseByMarker = (marks.choseByMarker ?? 0) + 1;
  const places = new Set(positions.map(({ lsn }) => lsn));
  if (places.size > 1) marks.choseAmongDifferent = (marks.choseAmongDifferent ?? 0) + 1;
}

function spoilLeaderInput(input: LeaderInput, { cluster }: NodeAgent): LeaderInput {
  const { faults } = cluster;
  if (!(faults.oneFewerPosition || faults.noHolderRule || faults.nofailoverSkipped)) return input;
  let { state, reports } = input;
  if (state.phase.kind !== "recruit") return input;
  if (faults.oneFewerPosition && state.durability.members.length > 0) {
    const { durability } = state;
    // One position is still needed: nobody would count on none.
    const acks = Math.min(durability.acks + 1, durability.members.length - 1);
    state = { ...state, durability: { ...durability, acks } };
  }
  if (faults.noHolderRule) {
    if (state.lastGranted !== null) state = { ...state, lastGranted: { ...state.lastGranted, holder: 0 } };
    reports = new Map(
      [...reports].map(([id, one]) => [id, one.kind === "position" ? { ...one, wasHolder: false } : one]),
    );
  }
  if (faults.nofailoverSkipped) {
    const skipped = state.members.filter(({ tags }) => tags.nofailover).map(({ id }) => id);
    reports = new Map(
      [...reports].map(([id, one]) =>
        skipped.includes(id) && one.kind === "position" ? [id, { ...one, token: null, lsn: "0/0" }] : [id, one],
      ),
    );
  }
  return { ...input, state, reports };
}
