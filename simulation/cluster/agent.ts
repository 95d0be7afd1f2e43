/**
 * The agent of one node: asks the product's `decideNode` what to do to the local server and does it step by step, in the
 * order of src/agent/executor.ts, lease-keeper.ts and agent.ts. Each step takes time and can be the last one.
 */

import { encodeCommand } from "../../src/control/command.js";
import type { NodeAction, NodeInput } from "../../src/control/decisions.js";
import { decideNode } from "../../src/control/follow.js";
import { LeaseHolder } from "../../src/control/lease.js";
import { compareTokens, tokensEqual } from "../../src/control/token.js";
import type { CommandBody, ControlState, Gossip, Lsn, Report, SyncList, Token } from "../../src/control/types.js";
import type { NodeId, ReadToken } from "../../src/raft/types.js";
import type { Machine } from "../layer.js";
import type { Cluster } from "./cluster.js";
import { Executor } from "./executor.js";
import { Leader } from "./leader.js";
import type { AppMessage } from "./messages.js";
import type { Server } from "./server.js";
import type { Slot } from "./states.js";
import { toLsn } from "./wal.js";

/** What a node keeps in its state directory. */
export interface NodeFile {
  pledge: Token | null;
  pointedAt: Token | null;
  promotedUnder: Token | null;
}

export interface Observation {
  readonly reachable: boolean;
  readonly inRecovery: boolean | null;
  readonly timeline: number | null;
  readonly replayLsn: Lsn | null;
  readonly markerToken: Token | null;
  readonly hasConninfo: boolean;
  readonly streaming: boolean;
  readonly replayDone: boolean;
  readonly rejoining: boolean;
}

const unreachable: Observation = {
  reachable: false,
  inRecovery: null,
  timeline: null,
  replayLsn: null,
  markerToken: null,
  hasConninfo: false,
  streaming: false,
  replayDone: false,
  rejoining: false,
};

const submitPatienceMs = 2000;
const proofWaitMs = 300;
const stopPatienceMs = 60_000;

interface Submission {
  readonly data: Uint8Array;
  readonly untilMs: number;
}

export class NodeAgent {
  /** Goes on when only the server was started again: the process that led still knows what it accepted. */
  readonly leader: Leader;
  readonly executor: Executor;
  readonly holder = new LeaseHolder();
  readonly gossip = new Map<NodeId, { readonly receivedAtMs: number; readonly gossip: Gossip }>();
  slot: Slot;
  token: Token | null = null;
  leaving = false;
  rejoining = false;
  handingOver = false;
  serverGone = false;
  pledgedFor: Token | null = null;
  sync: { list: SyncList | null; provenLsn: Lsn | null } = { list: null, provenLsn: null };
  lastPrimary: number | null = null;
  followed: Token | null = null;
  probeOkMs: number;
  stopAskedAtMs = 0;
  /** For the mutant that sets its list late. */
  openSinceMs: number | null = null;
  lastAction: NodeAction["type"] = "none";
  report: { readonly token: Token; readonly report: Report } | null = null;
  #submissions: Submission[] = [];
  #nextRenewalMs = 0;
  #nextGossipMs = 0;
  #nextKickMs = 0;
  /** The life of the server that this agent belongs to; a start of the server starts a new agent. */
  readonly serverLife: number;

  constructor(
    readonly cluster: Cluster,
    readonly machine: Machine,
    readonly server: Server,
    readonly file: NodeFile,
    slot: Slot,
    leader?: Leader,
  ) {
    this.slot = slot;
    this.leader = leader ?? new Leader(this);
    this.leader.agent = this;
    this.executor = new Executor(this);
    this.serverLife = server.life;
    this.probeOkMs = this.now;
  }

  get id(): NodeId {
    return this.machine.id;
  }

  get state(): ControlState {
    return this.slot.state;
  }

  get now(): number {
    return this.machine.now(this.cluster.host.nowMs);
  }

  /** The server of this agent's life, which may have gone meanwhile. */
  get isAttached(): boolean {
    return this.server.alive && this.server.life === this.serverLife;
  }

  send(to: NodeId, message: AppMessage): void {
    this.cluster.host.send(this.id, to, message);
  }

  // ---- what drives it

  tick(): void {
    const { host, knobs } = this.cluster;
    if (this.server.alive && this.server.life !== this.serverLife) {
      this.cluster.replaceAgent(this.machine);
      return;
    }
    if (!this.serverGone && !this.isAttached && !this.server.absent) this.#serverDied();
    this.#submitAgain();
    if (this.token !== null && host.nowMs >= this.#nextRenewalMs) {
      this.#nextRenewalMs = host.nowMs + knobs.renewEveryMs;
      this.renew();
    }
    if (host.nowMs >= this.#nextGossipMs) {
      this.#nextGossipMs = host.nowMs + knobs.gossipEveryMs;
      this.#sendGossip();
      if (this.state.phase.kind === "recruit" && this.report !== null)
        this.sendReport(this.report.token, this.report.report);
    }
    this.leader.evaluate();
    if (host.nowMs >= this.#nextKickMs) this.kick();
  }

  progressed(): void {
    this.#followLease();
    this.leader.evaluate();
    if (this.machine.running) this.kick();
  }

  /** Looks at the server and acts. */
  kick(): void {
    if (this.server.absent || !this.machine.running) return;
    this.#nextKickMs = this.cluster.host.nowMs + this.state.leaseMs / 20;
    this.server.settleRejoin();
    this.executor.kick();
  }

  message(from: NodeId, message: AppMessage): void {
    switch (message.kind) {
      case "gossip":
        this.gossip.set(from, { receivedAtMs: this.now, gossip: message.gossip });
        return;
      case "renew":
        this.leader.renewal(from, message.token, message.stampMs);
        return;
      case "renewed":
        this.#confirmed(message.token, message.stampMs);
        return;
      case "report":
        this.leader.report(from, message.token, message.report);
        return;
      case "propose":
        if (this.machine.leads) this.cluster.host.propose(this.machine, message.data);
        return;
    }
  }

  roundConfirmed(round: ReadToken): void {
    this.leader.roundConfirmed(round);
  }

  // ---- what is observed and decided

  observe(): Observation {
    const { server } = this;
    if (!this.isAttached || !server.reachable) return unreachable;
    const inRecovery = server.phase !== "primary";
    const { upstream } = server;
    if (upstream !== null) {
      this.lastPrimary = Math.max(this.lastPrimary ?? 0, upstream.upstream.written);
      this.followed = this.file.pointedAt;
    }
    return {
      reachable: true,
      inRecovery,
      timeline: server.timeline,
      replayLsn: toLsn(server.replayed),
      markerToken: inRecovery && this.cluster.faults.markerUnreadable ? null : server.markerToken,
      hasConninfo: inRecovery && server.conninfo !== 0,
      streaming: upstream !== null,
      replayDone: server.replayDone,
      rejoining: server.rejoin !== null,
    };
  }

  decide(seen: Observation): NodeAction {
    const { faults } = this.cluster;
    const { file, server } = this;
    const input: NodeInput = {
      now: this.now,
      selfId: this.id,
      state: this.state,
      pledge: faults.followsPastPledge ? null : file.pledge,
      pointedAt: file.pointedAt,
      promotedUnder: faults.holdsReleasedToken && seen.inRecovery === true ? null : file.promotedUnder,
      server: {
        reachable: seen.reachable,
        inRecovery: seen.inRecovery,
        timeline: seen.timeline,
        replayLsn: seen.replayLsn,
        markerToken: seen.markerToken,
        followingToken: seen.hasConninfo ? file.pointedAt : null,
        streaming: seen.streaming,
        upstreamLacksWal: false,
        replayDone: seen.replayDone,
        rejoining: seen.rejoining,
      },
      lease: { token: this.token, live: this.isLeaseLive, open: this.token !== null && server.word.open },
      pledgedFor: this.pledgedFor,
      sync: this.sync,
    };
    return this.cluster.spoilNodeAction(this, input, decideNode(input));
  }

  // ---- the lease, on the holder's side

  /** As the agent knows it: its own token is in the word, and the deadline has not passed. */
  get isLeaseLive(): boolean {
    return this.token !== null && tokensEqual(this.server.word.token, this.token) && this.server.isLive();
  }

  hold(token: Token): boolean {
    if (this.token !== null && tokensEqual(this.token, token)) return true;
    this.forget();
    if (!this.server.grantWord(token)) return false;
    this.token = token;
    this.holder.hold(token);
    this.#nextRenewalMs = this.cluster.host.nowMs + this.cluster.knobs.renewEveryMs;
    this.renew();
    return true;
  }

  forget(): void {
    this.token = null;
    this.holder.forget();
  }

  renew(): void {
    const { token, server, cluster } = this;
    const leader = this.machine.leader;
    if (token === null || !this.isAttached || leader === 0) return;
    if (server.phase === "primary" && server.hungUntilMs <= cluster.host.nowMs) this.probeOkMs = this.now;
    if (this.leaving || this.handingOver || this.serverGone) return;
    if (server.word.open && this.now - this.probeOkMs > this.state.leaseMs) return;
    const stampMs = this.machine.clock(cluster.host.nowMs);
    if (leader === this.id) this.leader.renewal(this.id, token, stampMs);
    else this.send(leader, { kind: "renew", token, stampMs });
  }

  #confirmed(token: Token, stampMs: number): void {
    if (!this.holder.accepts(token) || !this.isAttached) return;
    this.server.extendWord(token, stampMs + this.state.leaseMs);
    this.cluster.checker.leaseMoved();
    this.executor.leaseMoved();
  }

  #followLease(): void {
    const { lastGranted, current, released } = this.state;
    const held = this.token;
    if (held === null) return;
    const still =
      lastGranted !== null &&
      lastGranted.holder === this.id &&
      tokensEqual(lastGranted.token, held) &&
      tokensEqual(current, held) &&
      (released === null || compareTokens(released.token, held) < 0);
    if (!still) this.forget();
  }

  stillHolds(token: Token): boolean {
    const { current, lastGranted } = this.state;
    return (
      tokensEqual(current, token) &&
      lastGranted !== null &&
      tokensEqual(lastGranted.token, token) &&
      lastGranted.holder === this.id &&
      this.isLeaseLive
    );
  }

  // ---- the server's end

  #serverDied(): void {
    const { cluster, token } = this;
    this.serverGone = true;
    this.report = null;
    this.executor.abandon();
    if (token === null) return;
    const sinceMs = cluster.host.nowMs;
    const look = (): void => {
      const { server } = this;
      if (server.life !== this.serverLife + 1 && server.life !== this.serverLife) return;
      if (server.backendsGone === null && cluster.host.nowMs - sinceMs < proofWaitMs) {
        this.executor.step("is every backend gone", 5, look);
        return;
      }
      this.forget();
      if (server.backendsGone !== true) {
        cluster.marks.releaseWithoutProof++;
        return;
      }
      const shutdownLsn = server.shutdownAt === null ? null : toLsn(server.shutdownAt);
      if (shutdownLsn === null) cluster.marks.releaseWithProof++;
      else cluster.marks.releaseAtShutdown++;
      this.executor.save("renounce", { promotedUnder: token }, () => {
        this.submit({ type: "release", token, shutdownLsn, text: "the server is gone" });
      });
    };
    look();
  }

  stopServer(mode: "fast" | "immediate"): void {
    this.stopAskedAtMs = this.now;
    if (this.isAttached) this.server.stop(mode);
  }

  insistOnStop(): void {
    // Shorter than the product's minute, so that a schedule need not last that long.
    const patienceMs = Math.min(stopPatienceMs, 4 * this.state.leaseMs);
    if (this.now - this.stopAskedAtMs >= patienceMs) this.stopServer("immediate");
  }

  // ---- what it says

  sendReport(token: Token, report: Report): void {
    const leader = this.machine.leader;
    if (leader === this.id) this.leader.report(this.id, token, report);
    else if (leader !== 0) this.send(leader, { kind: "report", token, report });
  }

  submit(command: CommandBody): void {
    const data = encodeCommand({ ...command, atMs: this.cluster.host.nowMs, by: String(this.id) });
    this.#submissions.push({ data, untilMs: this.cluster.host.nowMs + submitPatienceMs });
    this.#submitAgain();
  }

  /** Nothing was proposed while no leader is known: that is tried again for a while. */
  #submitAgain(): void {
    if (this.#submissions.length === 0) return;
    const { host } = this.cluster;
    const leader = this.machine.leader;
    const waiting = this.#submissions;
    this.#submissions = [];
    for (const submission of waiting) {
      if (host.nowMs > submission.untilMs) continue;
      if (leader === this.id && host.propose(this.machine, submission.data) !== 0) continue;
      if (leader !== 0 && leader !== this.id) this.send(leader, { kind: "propose", data: submission.data });
      else this.#submissions.push(submission);
    }
  }

  #sendGossip(): void {
    const gossip = this.#describe();
    this.gossip.set(this.id, { receivedAtMs: this.now, gossip });
    const leader = this.machine.leader;
    // Only leaders decide by it.
    if (leader !== 0 && leader !== this.id) this.send(leader, { kind: "gossip", gossip });
  }

  #describe(): Gossip {
    const { server, state } = this;
    const seen = this.observe();
    const holds = this.token !== null && tokensEqual(this.token, state.current);
    const isPrimary = seen.inRecovery === false && holds;
    const stopped = !seen.reachable || (seen.inRecovery === false && !holds);
    const at = toLsn(server.replayed);
    return {
      id: this.id,
      name: String(this.id),
      atMs: 0,
      agentVersion: "",
      role: stopped ? "stopped" : isPrimary ? (server.word.open ? "primary" : "promoting") : "standby",
      state: !seen.reachable ? "unreachable" : seen.streaming ? "streaming" : "running",
      timeline: seen.timeline,
      receiveLsn: seen.reachable ? toLsn(server.flushed) : null,
      replayLsn: seen.replayLsn,
      writeLsn: isPrimary ? at : null,
      token: seen.markerToken,
      upstream: null,
      pendingRestart: false,
      applied: this.machine.applied,
      lease: null,
    };
  }
}
