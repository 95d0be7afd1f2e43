/**
 * The primary lease on top of Raft: holder's word, renewals, grants (docs/protocol.md section 4), and clients that write
 * and read a register. The grantor is the product's own; who is granted is decided more simply than in its failover
 * machine, and the lease moves far more often.
 */
import { LeaseGrantor, type LeaseTimings, leaseTimings } from "../src/control/lease.js";
import type { Entry, NodeId, ReadToken } from "../src/raft/types.js";
import type { Host, Layer, Machine, Scope } from "./layer.js";
import { type LeaseMessage, LeaseWord } from "./lease-agent.js";
import { LeaseChecker } from "./lease-checker.js";
import { someLeader } from "./operations.js";
import {
  encodeBegin,
  encodeGrant,
  encodeRelease,
  encodeWrite,
  type FencingToken,
  StateMachine,
  sameToken,
} from "./state-machine.js";

type ClientName = "write" | "read" | "release" | "takeover";

/** Something that clients or operators do again and again. */
interface Client {
  readonly name: ClientName;
  readonly everyMs: number;
}

/** Goes on after the faults are over. */
const lasting: ReadonlySet<ClientName> = new Set(["write", "read"]);

/** What one agent has in memory, and the word beside it. */
class Agent {
  /** Survives the agent, not the machine. */
  word = new LeaseWord();
  state = new StateMachine();
  grantor = new LeaseGrantor();
  /** The term for which `grantor` knows that this node leads; 0: it does not. */
  grantorTerm = 0;
  /** Index of the entry this leader proposed last for the lease: not again before it is applied. */
  proposal = { term: 0, index: 0 };
}

export class LeaseLayer implements Layer {
  readonly name = "raft";
  readonly ownsMembership = false;
  readonly knobs = {};
  readonly #host: Host;
  readonly #agents: Array<Agent | undefined> = [undefined];
  readonly #checker = new LeaseChecker();
  readonly #times: LeaseTimings;
  readonly #renewal = { name: "renewal" } as const;
  readonly #decision = { name: "decision" } as const;
  #nextOperation = 1;

  constructor(host: Host) {
    this.#host = host;
    this.#times = leaseTimings(host.knobs.leaseMs);
  }

  begin(voters: readonly NodeId[]): Uint8Array {
    const state = new StateMachine();
    state.applied = 1;
    if (this.#host.knobs.warmStart) state.begunBy(this.#host.operationsRandom.pick(voters));
    return state.encode();
  }

  begun(): void {
    const { knobs } = this.#host;
    const clients: Client[] = [
      { name: "write", everyMs: knobs.proposeEveryMs },
      { name: "read", everyMs: knobs.readEveryMs },
      { name: "release", everyMs: knobs.releaseEveryMs },
      { name: "takeover", everyMs: knobs.takeoverEveryMs },
    ];
    for (const client of clients) if (Number.isFinite(client.everyMs)) this.#scheduleClient(client);
  }

  // ---- processes

  nodeAdded({ id }: Machine): void {
    this.#agents[id] = new Agent();
  }

  nodeStarted(node: Machine, snapshot: Uint8Array): void {
    const { word } = this.#agent(node);
    const agent = new Agent();
    agent.word = word;
    agent.state = StateMachine.decode(snapshot);
    this.#agents[node.id] = agent;
    this.#scheduleRenewal(node);
  }

  nodeCrashed(node: Machine, scope: Scope): void {
    if (scope === "agent") return;
    const agent = this.#agent(node);
    const { forgotten } = agent.word;
    agent.word = new LeaseWord();
    agent.word.forgotten = forgotten;
    this.#checker.expired(node.id);
  }

  nodePaused(node: Machine, forMs: number): void {
    if (!this.#host.faults.lease.clockStopsInPause) return;
    const { nowMs } = this.#host;
    const { word } = this.#agent(node);
    if (word.deadlineMs <= node.clock(nowMs)) return;
    word.deadlineMs += forMs;
    this.#checker.extended(node, word.token, word.deadlineMs, nowMs);
  }

  // ---- the replicated state

  applied(node: Machine, entry: Entry): void {
    this.#agent(node).state.apply(entry);
  }

  restored(node: Machine, snapshot: Uint8Array): void {
    this.#agent(node).state = StateMachine.decode(snapshot);
  }

  progressed(node: Machine): void {
    const { state, word } = this.#agent(node);
    const mine = state.phase === "granted" && state.holder === node.id && !sameToken(state.released, state.granted);
    if (!mine || sameToken(word.token, state.granted) || !word.hold(state.granted)) return;
    // The word now carries another token: whatever was left of the old lease is gone.
    this.#checker.expired(node.id);
    this.#renew(node);
  }

  encodeSnapshot(node: Machine): Uint8Array {
    return this.#agent(node).state.encode();
  }

  digest(node: Machine): number {
    return this.#agent(node).state.digest;
  }

  readState(node: Machine, token: ReadToken): void {
    const { grantorTerm, grantor, state } = this.#agent(node);
    if (grantorTerm === 0) return;
    // The stamp travels through the grantor as text, as in the product.
    for (const renewal of grantor.roundConfirmed(token, state.control(this.#host.knobs.leaseMs))) {
      const stampMs = Number(renewal.stampNs);
      this.#send({ type: "renewed", from: node.id, to: renewal.from, token: renewal.token, stampMs });
    }
  }

  acknowledged(): void {}
  lost(): void {}

  // ---- events

  event(node: Machine | null, payload: unknown): void {
    if (node === null) {
      this.#client(payload as Client);
      return;
    }
    if (payload === this.#decision) {
      this.tick(node);
      return;
    }
    this.#scheduleRenewal(node);
    this.#renew(node);
  }

  message(node: Machine, _from: NodeId, payload: unknown): void {
    const message = payload as LeaseMessage;
    switch (message.type) {
      case "renew":
        this.#renewalArrived(node, message.from, message);
        return;
      case "renewed":
        this.#renewed(node, message.token, message.stampMs);
        return;
      case "release":
        if (node.leads) this.#host.propose(node, encodeRelease(message.token));
        return;
    }
  }

  // ---- the holder

  #send(message: LeaseMessage): void {
    this.#host.send(message.from, message.to, message);
  }

  #scheduleRenewal(node: Machine): void {
    this.#host.schedule(node.trueMs(this.#times.renewEveryMs), node.id, this.#renewal);
  }

  #renew(node: Machine): void {
    const { token } = this.#agent(node).word;
    const { leader } = node;
    if (token.index === 0 || leader === 0) return;
    this.#send({ type: "renew", from: node.id, to: leader, token, stampMs: node.clock(this.#host.nowMs) });
  }

  #renewed(node: Machine, token: FencingToken, stampMs: number): void {
    const { nowMs, faults, knobs, marks } = this.#host;
    const { word } = this.#agent(node);
    if (!sameToken(word.token, token)) return;
    const from = faults.lease.countFromReceipt ? node.clock(nowMs) : stampMs;
    const deadlineMs = from + knobs.leaseMs;
    if (deadlineMs <= word.deadlineMs) return;
    word.deadlineMs = deadlineMs;
    marks.leaseRenewed++;
    this.#checker.extended(node, token, deadlineMs, nowMs);
  }

  /** The holder stops its server, forgets its token and only then says so. */
  #release(node: Machine): void {
    const { word } = this.#agent(node);
    const { token } = word;
    const { leader } = node;
    if (!node.running || token.index === 0 || leader === 0) return;
    this.#host.marks.leaseReleased++;
    if (!this.#host.faults.lease.releaseWithoutStop) {
      word.forget();
      this.#checker.expired(node.id);
    }
    this.#send({ type: "release", from: node.id, to: leader, token });
  }

  // ---- the leader

  #renewalArrived(node: Machine, from: NodeId, renewal: { token: FencingToken; stampMs: number }): void {
    const { knobs, faults, marks, nowMs } = this.#host;
    const agent = this.#agent(node);
    this.#host.refresh(node);
    this.#followLeadership(node, agent);
    if (agent.grantorTerm === 0) return;
    const request = { from, token: renewal.token, stampNs: String(renewal.stampMs) };
    const state = agent.state.control(knobs.leaseMs);
    if (!agent.grantor.request({ ...request, state, now: node.now(nowMs) }).ok) {
      marks.leaseRefused++;
      return;
    }
    if (faults.lease.replyWithoutRound) {
      this.#send({ type: "renewed", from: node.id, to: from, token: renewal.token, stampMs: renewal.stampMs });
      return;
    }
    const round = this.#host.readIndex(node);
    if (round !== null) agent.grantor.roundStarted(round, [request]);
  }

  /** Tells the grantor when this node becomes leader or stops being it. */
  #followLeadership(node: Machine, agent: Agent): void {
    const term = node.leads ? node.term : 0;
    if (term === agent.grantorTerm) return;
    agent.grantorTerm = term;
    const { status } = node;
    if (status === null || term === 0) {
      agent.grantor.stepDown();
      return;
    }
    const { electedAtMs, electionElapsedMs } = status;
    agent.grantor.becomeLeader({ term, electedAtMs, electionElapsedMs });
  }

  /** Whether this node leads, has committed in its term and has applied all that is committed. */
  #decides(node: Machine): boolean {
    return node.leads && node.commit === node.applied && node.status?.termCommitted === true;
  }

  /** What the leader decides by itself at every tick: whom to replace, whom to grant. */
  tick(node: Machine): void {
    const agent = this.#agent(node);
    this.#followLeadership(node, agent);
    if (!this.#decides(node)) return;
    const { proposal, state } = agent;
    if (proposal.term === node.term && proposal.index > state.applied) return;
    const now = node.now(this.#host.nowMs);
    if (state.phase === "recruit") this.#grant(node, agent, now);
    else if (state.phase === "empty" || this.#suspects(agent, now)) this.#proposeBegin(node, agent);
  }

  #grant(node: Machine, agent: Agent, now: number): void {
    const { status } = node;
    const { state } = agent;
    const { marks, operationsRandom } = this.#host;
    if (status === null) return;
    const { ok, againInMs } = agent.grantor.mayGrant(state.control(this.#host.knobs.leaseMs), now);
    if (!ok) {
      marks.leaseHeldOverElection++;
      // Exactly then, like the product: the margin of clock rates is smaller than a tick.
      if (againInMs !== undefined && againInMs < this.#host.knobs.tickIntervalMs)
        this.#host.schedule(node.trueMs(againInMs), node.id, this.#decision);
      return;
    }
    const alive = status.progress.filter((peer) => peer.recentActive).map((peer) => peer.id);
    const candidates = status.config.voters.filter((id) => id === node.id || alive.includes(id));
    if (candidates.length === 0) return;
    marks.leaseGranted++;
    this.#propose(node, agent, encodeGrant(state.token, operationsRandom.pick(candidates)));
  }

  /** The holder is silent for too long, or said that it has stopped. */
  #suspects({ state, grantor }: Agent, now: number): boolean {
    if (sameToken(state.released, state.granted)) return true;
    return now > grantor.suspectAtMs(state.control(this.#host.knobs.leaseMs));
  }

  /** Starts to replace the holder, on suspicion or because an operator asked. */
  #proposeBegin(node: Machine, agent: Agent): void {
    if (agent.state.phase === "recruit" || !this.#decides(node)) return;
    this.#host.marks.leaseTakenOver++;
    this.#propose(node, agent, encodeBegin(agent.state.token));
  }

  #propose(node: Machine, agent: Agent, data: Uint8Array): void {
    const index = this.#host.propose(node, data);
    if (index !== 0) agent.proposal = { term: node.term, index };
  }

  // ---- clients

  #scheduleClient(client: Client): void {
    this.#host.schedule(this.#host.operationsRandom.exponential(client.everyMs), 0, client);
  }

  #client(client: Client): void {
    const host = this.#host;
    if (host.healed && !lasting.has(client.name)) return;
    this.#scheduleClient(client);
    const { operationsRandom: random, nodes } = host;
    if (client.name === "release") {
      const holder = nodes.find((node) => node?.running === true && this.#agent(node).word.token.index > 0);
      if (holder === undefined || holder.pausedUntilMs > host.nowMs) return;
      if (host.injects("release", holder.id)) this.#release(holder);
      return;
    }
    const anywhere = client.name === "read" && !host.healed;
    const node = anywhere ? nodes[random.integer(1, nodes.length - 1)] : someLeader(host);
    if (node === undefined || node === null || !node.running || node.pausedUntilMs > host.nowMs) return;
    if (!host.injects(client.name, node.id)) return;
    if (client.name === "write") this.#write(node);
    else if (client.name === "read") host.readIndex(node);
    else this.#proposeBegin(node, this.#agent(node));
  }

  #write(node: Machine): void {
    const { operationsRandom: random, knobs } = this.#host;
    const entries = random.chance(knobs.burstChance) ? random.integer(2, 40) : 1;
    for (let i = 0; i < entries; i++) this.#host.propose(node, encodeWrite(this.#nextOperation++));
  }

  // ---- the end

  heal(): void {}

  serve(leader: Machine): void {
    this.#host.propose(leader, encodeWrite(this.#nextOperation++));
    this.#host.readIndex(leader);
  }

  lively(): string | null {
    if (this.#checker.holderAt(this.#host.nowMs) !== 0 || this.#host.marks.leaseGranted > 0) return null;
    return "nobody was ever granted the lease";
  }

  check(): void {}

  dump(node: Machine): string {
    const { word, state } = this.#agent(node);
    return (
      `word ${JSON.stringify(word)} phase ${state.phase} holder ${state.holder} ` +
      `granted ${JSON.stringify(state.granted)} token ${JSON.stringify(state.token)}`
    );
  }

  hash(node: Machine): number {
    return this.#agent(node).word.deadlineMs | 0;
  }

  #agent({ id }: Machine): Agent {
    return this.#agents[id] as Agent;
  }
}
