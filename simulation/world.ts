/**
 * One schedule: a cluster of real Raft cores on a faulty network, faulty disks and drifting clocks, run event by event
 * in true (simulated) time from one seed. Every invariant is looked at after every event; the first broken one ends it.
 */
import { type LeaseTimings, leaseTimings } from "../src/control/lease.js";
import { createRaftNode } from "../src/raft/index.js";
import type {
  Message,
  NodeId,
  PersistentState,
  RaftNode,
  RaftOptions,
  ReadState,
  Ready,
  Snapshot,
  Status,
} from "../src/raft/types.js";
import { copyMessage } from "./copy.js";
import { Disk, type DiskWrite } from "./disk.js";
import { EventQueue } from "./event-queue.js";
import { drawKnobs, type Knobs } from "./knobs.js";
import { type LeaseFaults, type LeaseMessage, LeaseWord, soundLease } from "./lease-agent.js";
import { LeaseChecker } from "./lease-checker.js";
import { Marks } from "./marks.js";
import { Network } from "./network.js";
import { type Action, actionsOf, leaveJointByHand, perform, serveClients } from "./operations.js";
import { RaftChecker } from "./raft-checker.js";
import { mix, Random } from "./random.js";
import { SimulatedNode } from "./simulated-node.js";
import { encodeBegin, encodeGrant, encodeRelease, StateMachine, sameToken } from "./state-machine.js";
import type { Trace } from "./trace.js";
import { Violation } from "./violation.js";

/** How a mutant breaks the world around an otherwise sound core. */
export interface Faults {
  readonly lease: LeaseFaults;
  /** Sends what must wait for the disk at once. */
  readonly sendBeforeSync: (message: Message) => boolean;
  /** Wraps the core. */
  readonly createNode: (options: RaftOptions) => RaftNode;
  /** What a node reads back at its start. */
  readonly readBack: (state: PersistentState) => PersistentState;
}

export const sound: Faults = {
  lease: soundLease,
  sendBeforeSync: () => false,
  createNode: createRaftNode,
  readBack: (state) => state,
};

export interface ScheduleOptions {
  readonly seed: number;
  readonly nodes: number;
  readonly faults?: Faults;
  readonly trace?: Trace;
}

export interface ScheduleResult {
  readonly seed: number;
  readonly knobs: Knobs;
  readonly events: number;
  readonly simulatedMs: number;
  /** Over (event, state of the node it touched), of every event. */
  readonly hash: number;
  readonly marks: Marks;
  readonly violation: Violation | null;
  /** Per node, for the report of a failure. */
  readonly dump: readonly string[];
}

export const EventKind = {
  tick: 0,
  deliver: 1,
  deliverLease: 2,
  written: 3,
  synced: 4,
  restart: 5,
  resume: 6,
  peerLost: 7,
  renew: 8,
  action: 9,
  heal: 10,
  checkLeader: 11,
  checkLively: 12,
  unite: 13,
} as const;

const eventNames = Object.keys(EventKind);

/** Spare ids for members that join during the schedule; ids are never reused. */
const spareNodes = 4;
/** A schedule has some ten thousand events; one that has this many feeds itself. */
const mostEvents = 1_000_000;
const mostReadiesAtOnce = 10_000;
const electionTimeoutsToElect = 10;
const electionTimeoutsToServe = 30;

export function runSchedule(options: ScheduleOptions): ScheduleResult {
  return new World(options).run();
}

export class World {
  readonly knobs: Knobs;
  readonly marks = new Marks();
  readonly nodes: Array<SimulatedNode | undefined> = [undefined];
  readonly maxNodes: number;
  readonly queue = new EventQueue();
  readonly network: Network;
  readonly checker: RaftChecker;
  readonly leaseChecker = new LeaseChecker();
  readonly operationsRandom: Random;
  readonly #options: ScheduleOptions;
  readonly #faults: Faults;
  readonly #disks: Array<Disk | undefined> = [undefined];
  readonly #diskRandom: Random;
  readonly #clockRandom: Random;
  readonly #crashRandom: Random;
  readonly #leaseTimes: LeaseTimings;
  nowMs = 0;
  healed = false;
  /** The highest index of a proposal whose success was told. */
  maxAcknowledged = 0;
  nextOperation = 1;
  /** When the last effect of a fault that is already on its way arrives. */
  #latestEffectMs = 0;
  #events = 0;
  #hash = 0;
  #over = false;
  #acknowledgedAtHeal = 0;
  #readsAtHeal = 0;

  constructor(options: ScheduleOptions) {
    const { seed, nodes } = options;
    this.#options = options;
    this.#faults = options.faults ?? sound;
    this.knobs = drawKnobs(seed, nodes);
    this.maxNodes = nodes + spareNodes;
    this.#diskRandom = new Random(seed, 2);
    this.#clockRandom = new Random(seed, 3);
    this.operationsRandom = new Random(seed, 4);
    this.#crashRandom = new Random(seed, 5);
    this.network = new Network(this.knobs, new Random(seed, 6), this.marks, this.maxNodes);
    this.checker = new RaftChecker(this.#disks, this.marks);
    this.#leaseTimes = leaseTimings(this.knobs.leaseMs);
  }

  run(): ScheduleResult {
    let violation: Violation | null = null;
    try {
      this.#begin();
      while (!this.#over && this.queue.next()) this.#handle();
    } catch (error) {
      violation = error instanceof Violation ? error : threw(error);
    }
    return {
      seed: this.#options.seed,
      knobs: this.knobs,
      events: this.#events,
      simulatedMs: this.nowMs,
      hash: this.#hash,
      marks: this.marks,
      violation,
      dump: violation === null ? [] : this.#dump(),
    };
  }

  #begin(): void {
    const { knobs } = this;
    const voters = Array.from({ length: knobs.initialVoters }, (_, i) => i + 1);
    const state = new StateMachine();
    state.applied = 1;
    const config = { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
    const snapshot: Snapshot = { index: 1, term: 1, config, data: state.encode() };
    this.checker.begin(snapshot, state);
    for (const id of voters) this.addNode({ hardState: { term: 1, vote: 0, commit: 1 }, snapshot, entries: [] }, id);
    for (const action of actionsOf(knobs)) this.scheduleAction(action);
    this.queue.push(knobs.faultsMs, EventKind.heal, 0, 0, undefined);
  }

  /** Adds a machine; without a state it is an empty one that waits to be told. */
  addNode(initial: PersistentState | null, id: NodeId = this.nodes.length): NodeId {
    const { clockRateBound, clockExtremes } = this.knobs;
    const random = this.#clockRandom;
    const deviation = clockExtremes ? random.pick([-1, 1]) : random.between(-1, 1);
    const none = { voters: [], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
    const empty: PersistentState = {
      hardState: { term: 0, vote: 0, commit: 0 },
      snapshot: { index: 0, term: 0, config: none, data: new Uint8Array(0) },
      entries: [],
    };
    const disk = new Disk(id, initial ?? empty, this.checker, this.marks);
    const rate = 1 + deviation * clockRateBound * 0.9999;
    const node = new SimulatedNode(
      id,
      disk,
      rate,
      random.integer(1000, 1_000_000),
      new Random(this.#options.seed, 100 + id),
    );
    this.nodes[id] = node;
    this.#disks[id] = disk;
    this.#start(node);
    return id;
  }

  scheduleAction(action: Action): void {
    const afterMs = this.operationsRandom.exponential(action.everyMs);
    this.queue.push(this.nowMs + afterMs, EventKind.action, 0, 0, action);
  }

  // ---- events

  #handle(): void {
    const { queue } = this;
    const { kind, life, payload } = queue;
    const id = queue.node;
    this.nowMs = queue.timeMs;
    this.#events++;
    if (this.#events > mostEvents)
      throw new Violation("runaway", `more than ${mostEvents} events: a storm of messages`);
    this.#hash = mix(mix(this.#hash, (this.nowMs * 1000) | 0), (kind << 8) | id);
    if (this.#options.trace !== undefined) this.#traceEvent(kind, id, payload);
    if (id === 0) {
      this.#handleWorld(kind, payload);
      return;
    }
    const node = this.nodes[id] as SimulatedNode;
    if (kind === EventKind.restart) {
      if (node.core === null && node.life === life) this.#start(node);
      return;
    }
    if (node.core === null) return;
    if (kind !== EventKind.deliver && kind !== EventKind.deliverLease && node.life !== life) return;
    if (node.pausedUntilMs > this.nowMs) {
      // Everything that happens to a paused process happens when it wakes up, in the same order.
      queue.push(node.pausedUntilMs, kind, id, life, payload);
      return;
    }
    this.#handleNode(node, node.core, kind, payload);
    this.observe(node);
  }

  #handleNode(node: SimulatedNode, core: RaftNode, kind: number, payload: unknown): void {
    const now = node.now(this.nowMs);
    switch (kind) {
      case EventKind.tick:
        core.tick(now);
        this.#scheduleTick(node);
        this.pump(node);
        this.#leaderDuties(node);
        return;
      case EventKind.deliver:
        core.step(payload as Message, now);
        this.pump(node);
        return;
      case EventKind.written:
        this.#written(node, payload as DiskWrite);
        return;
      case EventKind.synced:
        node.disk.sync();
        this.#jobDone(node);
        return;
      case EventKind.peerLost:
        core.reportUnreachable(payload as NodeId);
        this.pump(node);
        return;
      case EventKind.renew:
        this.#scheduleRenewal(node);
        this.#renew(node);
        return;
      case EventKind.deliverLease:
        this.#leaseMessage(node, payload as LeaseMessage);
        return;
      default:
        throw new Error(`unknown event ${kind}`);
    }
  }

  #handleWorld(kind: number, payload: unknown): void {
    switch (kind) {
      case EventKind.action:
        perform(this, payload as Action);
        this.scheduleAction(payload as Action);
        return;
      case EventKind.unite:
        if (!this.healed) this.network.unite();
        return;
      case EventKind.heal:
        this.#heal();
        return;
      case EventKind.checkLeader:
        this.#checkLeader();
        return;
      case EventKind.checkLively:
        this.#checkLively();
        this.#over = true;
        return;
      default:
        throw new Error(`unknown event ${kind}`);
    }
  }

  /** Looks at a node after anything that touched it. */
  observe(node: SimulatedNode): void {
    if (node.core === null) return;
    const status = node.core.status();
    node.status = status;
    this.#hash = mix(this.#hash, mix(status.term * 8 + status.role.length, status.commit * 4096 + status.lastIndex));
    this.checker.observe(node.id, status);
  }

  // ---- process

  #start(node: SimulatedNode): void {
    const { knobs } = this;
    const initial = this.#faults.readBack(node.disk.read());
    if (node.life > 0) this.marks.restart++;
    const core = this.#faults.createNode({
      id: node.id,
      electionTimeoutMs: knobs.electionTimeoutMs,
      heartbeatIntervalMs: knobs.heartbeatIntervalMs,
      random: () => node.random.uniform(),
      maxBytesPerAppend: knobs.maxBytesPerAppend,
      maxInflightAppends: knobs.maxInflightAppends,
      maxUncommittedBytes: knobs.maxUncommittedBytes,
      initial,
    });
    node.core = core;
    node.state = StateMachine.decode(node.disk.snapshot.data);
    node.status = core.status();
    this.checker.started(node.id, node.status);
    core.tick(node.now(this.nowMs));
    this.#scheduleTick(node);
    this.#scheduleRenewal(node);
    this.pump(node);
    this.observe(node);
  }

  crash(node: SimulatedNode): void {
    if (node.core === null) return;
    // It may have committed and told others within the very event that ends it.
    this.observe(node);
    this.marks.crash++;
    const host = this.#crashRandom.chance(this.knobs.hostCrashChance);
    node.disk.crash(this.#diskRandom);
    node.die();
    if (host) {
      const { forgotten } = node.word;
      node.word = new LeaseWord();
      node.word.forgotten = forgotten;
      this.leaseChecker.expired(node.id);
    }
    this.#options.trace?.add(`${this.nowMs.toFixed(3)} crash of ${host ? "machine" : "agent"} ${node.id}`);
    if (!node.retired) {
      const afterMs = this.#crashRandom.exponential(this.knobs.restartMeanMs);
      this.queue.push(this.nowMs + afterMs, EventKind.restart, node.id, node.life, undefined);
    }
    this.#tellPeers(node.id);
  }

  /** The others see the connection end, if the network lets them. */
  #tellPeers(lost: NodeId): void {
    for (const other of this.nodes) {
      if (other === undefined || other.id === lost || other.core === null) continue;
      if (this.#crashRandom.chance(0.7)) this.peerLost(other, lost, this.#crashRandom.exponential(2));
    }
  }

  peerLost(node: SimulatedNode, peer: NodeId, afterMs: number): void {
    this.queue.push(this.nowMs + afterMs, EventKind.peerLost, node.id, node.life, peer);
  }

  pause(node: SimulatedNode, forMs: number): void {
    this.marks.pause++;
    node.pausedUntilMs = Math.max(node.pausedUntilMs, this.nowMs + forMs);
    this.#effect(node.pausedUntilMs);
  }

  #scheduleTick(node: SimulatedNode): void {
    const { tickIntervalMs, tickJitter } = this.knobs;
    let afterMs = node.trueMs(tickIntervalMs);
    if (tickJitter > 0 && !this.healed) afterMs += this.#clockRandom.exponential(tickJitter * tickIntervalMs);
    this.queue.push(this.nowMs + afterMs, EventKind.tick, node.id, node.life, undefined);
  }

  #effect(atMs: number): void {
    if (atMs > this.#latestEffectMs) this.#latestEffectMs = atMs;
  }

  // ---- Ready: storage, sending, applying

  /** Takes out what the core wants done, until it waits for the disk or wants nothing. */
  pump(node: SimulatedNode): void {
    for (let taken = 0; node.core !== null && node.job === null && node.core.hasReady(); taken++) {
      if (taken > mostReadiesAtOnce) throw new Violation("never-idle", `node ${node.id} always has something to do`);
      const ready = node.core.ready();
      if (ready.entries.length > 0) {
        // A commit may have caused these entries (a joint configuration left by itself): see it first.
        this.observe(node);
        if (node.status !== null) this.checker.appending(node.id, ready, node.status);
      }
      for (const message of ready.messages) this.#send(message, node);
      if (ready.hardState !== undefined || ready.entries.length > 0 || ready.snapshot !== undefined) {
        for (const message of ready.messagesAfterPersist) {
          if (this.#faults.sendBeforeSync(message)) this.#send(message, node);
        }
        node.job = { kind: "ready", ready };
        this.#startWrite(node, ready);
        return;
      }
      this.#finish(node, node.core, ready);
    }
  }

  #startWrite(node: SimulatedNode, write: DiskWrite): void {
    if (this.#crashHere()) {
      this.marks.crashBeforeWrite++;
      this.crash(node);
      return;
    }
    const afterMs = this.#diskDelay(this.knobs.writeMeanMs);
    this.queue.push(this.nowMs + afterMs, EventKind.written, node.id, node.life, write);
    this.#effect(this.nowMs + afterMs);
  }

  #written(node: SimulatedNode, write: DiskWrite): void {
    node.disk.write(write);
    if (!write.mustSync) {
      // Nothing depends on it: it may be lost, and is visible to this process only through the core.
      this.#jobDone(node);
      return;
    }
    if (this.#crashHere()) {
      this.marks.crashBeforeSync++;
      this.crash(node);
      return;
    }
    const afterMs = this.#diskDelay(this.knobs.syncMeanMs);
    this.queue.push(this.nowMs + afterMs, EventKind.synced, node.id, node.life, undefined);
    this.#effect(this.nowMs + afterMs);
  }

  #jobDone(node: SimulatedNode): void {
    const { job, core } = node;
    if (job === null || core === null) throw new Error(`node ${node.id} has no disk operation in flight`);
    if (this.#crashHere()) {
      this.marks.crashBeforeSend++;
      this.crash(node);
      return;
    }
    node.job = null;
    if (job.kind === "ready") this.#finish(node, core, job.ready);
    this.pump(node);
  }

  #crashHere(): boolean {
    return !this.healed && this.#crashRandom.chance(this.knobs.boundaryCrashChance);
  }

  #diskDelay(meanMs: number): number {
    if (this.healed) return 0.1;
    const { stallChance, stallMeanMs } = this.knobs;
    const base = this.#diskRandom.exponential(meanMs);
    return this.#diskRandom.chance(stallChance) ? base + this.#diskRandom.exponential(stallMeanMs) : base;
  }

  #finish(node: SimulatedNode, core: RaftNode, ready: Ready): void {
    for (const message of ready.messagesAfterPersist) this.#send(message, node);
    this.#apply(node, ready);
    core.advance(ready);
    for (const read of ready.readStates) this.#readReady(node, read);
    if (ready.committedEntries.length > 0 || ready.snapshot !== undefined) this.#applied(node, core);
  }

  #apply(node: SimulatedNode, ready: Ready): void {
    if (ready.snapshot !== undefined) {
      this.marks.snapshotInstalled++;
      node.state = StateMachine.decode(ready.snapshot.data);
      this.checker.installed(node.id, ready.snapshot.index, node.state);
    }
    for (const entry of ready.committedEntries) {
      if (entry.index !== node.state.applied + 1) {
        throw new Violation("applied-gap", `node ${node.id} applies ${entry.index} after ${node.state.applied}`);
      }
      node.state.apply(entry);
      this.checker.applied(node.id, entry, node.state);
      const proposedIn = node.proposals.get(entry.index);
      if (proposedIn === undefined) continue;
      node.proposals.delete(entry.index);
      if (proposedIn === entry.term) this.#acknowledge(entry.index);
      else this.marks.proposalLost++;
    }
  }

  #acknowledge(index: number): void {
    this.marks.proposalAcknowledged++;
    if (index > this.maxAcknowledged) this.maxAcknowledged = index;
  }

  #applied(node: SimulatedNode, core: RaftNode): void {
    const { compactEvery } = this.knobs;
    const { state } = node;
    const mine = state.phase === "granted" && state.holder === node.id && !sameToken(state.released, state.granted);
    if (mine && !sameToken(node.word.token, state.granted) && node.word.hold(state.granted)) {
      // The word now carries another token: whatever was left of the old lease is gone.
      this.leaseChecker.expired(node.id);
      this.#renew(node);
    }
    if (compactEvery === 0 || state.applied - node.disk.snapshot.index < compactEvery || node.job !== null) return;
    // A snapshot from the leader is on its way to the disk: what is applied here is history already.
    if (core.status().firstIndex > state.applied + 1) return;
    const snapshot = core.compact(state.applied, state.encode());
    this.marks.compacted++;
    node.job = { kind: "compaction" };
    this.#startWrite(node, { entries: [], snapshot, mustSync: true, compaction: true });
  }

  #send(message: Message, node: SimulatedNode): void {
    if (message.from !== node.id) throw new Violation("forged", `node ${node.id} sends as ${message.from}`);
    this.checker.sending(message);
    this.#transmit(message);
  }

  #transmit(message: Message): void {
    const { to } = message;
    if (to === message.from) throw new Violation("self-message", `node ${to} sends ${message.type} to itself`);
    if (this.nodes[to] === undefined) return;
    this.#route(message.from, to, EventKind.deliver, this.knobs.copyMessages ? copyMessage(message) : message);
  }

  #route(from: NodeId, to: NodeId, kind: number, payload: unknown): void {
    const { network } = this;
    network.route(from, to, this.nowMs);
    if (network.arrivalMs < 0) return;
    this.queue.push(network.arrivalMs, kind, to, 0, payload);
    if (!this.healed) this.#effect(network.arrivalMs);
    if (network.duplicateArrivalMs < 0) return;
    this.queue.push(network.duplicateArrivalMs, kind, to, 0, payload);
    this.#effect(network.duplicateArrivalMs);
  }

  #readReady(node: SimulatedNode, { token, index }: ReadState): void {
    if (node.grantorTerm !== 0) {
      // The stamp travels through the grantor as text, as in the product.
      for (const renewal of node.grantor.roundConfirmed(token, node.state.control(this.knobs.leaseMs))) {
        const stampMs = Number(renewal.stampNs);
        this.#sendLease({ type: "renewed", from: node.id, to: renewal.from, token: renewal.token, stampMs });
      }
    }
    const key = `${token.term}.${token.sequence}`;
    const read = node.reads.get(key);
    if (read === undefined) return;
    node.reads.delete(key);
    if (index < read.acknowledged) {
      throw new Violation(
        "stale-read",
        `node ${node.id} reads at ${index}, ${read.acknowledged} was acknowledged before`,
      );
    }
    this.marks.readServed++;
    if (!node.leads) this.marks.readForwarded++;
  }

  // ---- the lease

  #sendLease(message: LeaseMessage): void {
    if (message.to !== message.from) this.#route(message.from, message.to, EventKind.deliverLease, message);
    else this.queue.push(this.nowMs, EventKind.deliverLease, message.to, 0, message);
  }

  #scheduleRenewal(node: SimulatedNode): void {
    const afterMs = node.trueMs(this.#leaseTimes.renewEveryMs);
    this.queue.push(this.nowMs + afterMs, EventKind.renew, node.id, node.life, undefined);
  }

  #renew(node: SimulatedNode): void {
    const { token } = node.word;
    const leader = node.status?.leader ?? 0;
    if (token.index === 0 || leader === 0) return;
    this.#sendLease({ type: "renew", from: node.id, to: leader, token, stampMs: node.clock(this.nowMs) });
  }

  #leaseMessage(node: SimulatedNode, message: LeaseMessage): void {
    switch (message.type) {
      case "renew":
        this.#renewalArrived(node, message.from, message);
        return;
      case "renewed":
        this.#renewed(node, message.token, message.stampMs);
        return;
      case "release":
        if (node.leads) this.propose(node, encodeRelease(message.token));
        return;
    }
  }

  #renewalArrived(
    node: SimulatedNode,
    from: NodeId,
    renewal: { token: { term: number; index: number }; stampMs: number },
  ): void {
    const { core, grantor } = node;
    this.#followLeadership(node);
    if (core === null || node.grantorTerm === 0) return;
    const now = node.now(this.nowMs);
    const request = { from, token: renewal.token, stampNs: String(renewal.stampMs) };
    if (!grantor.request({ ...request, state: node.state.control(this.knobs.leaseMs), now }).ok) {
      this.marks.leaseRefused++;
      return;
    }
    if (this.#faults.lease.replyWithoutRound) {
      this.#sendLease({ type: "renewed", from: node.id, to: from, token: renewal.token, stampMs: renewal.stampMs });
      return;
    }
    const round = core.readIndex(now);
    grantor.roundStarted(round, [request]);
    this.pump(node);
  }

  /** Tells the grantor when this node becomes leader or stops being it. */
  #followLeadership(node: SimulatedNode): void {
    const status: Status | null = node.core === null ? null : node.core.status();
    const term = status !== null && status.role === "leader" ? status.term : 0;
    if (term === node.grantorTerm) return;
    node.grantorTerm = term;
    if (status === null || term === 0) {
      node.grantor.stepDown();
      return;
    }
    const { electedAtMs, electionElapsedMs } = status;
    const elapsedMs = this.#faults.lease.noHold ? Number.POSITIVE_INFINITY : electionElapsedMs;
    node.grantor.becomeLeader({ term, electedAtMs, electionElapsedMs: elapsedMs });
  }

  #renewed(node: SimulatedNode, token: { term: number; index: number }, stampMs: number): void {
    if (!sameToken(node.word.token, token)) return;
    const from = this.#faults.lease.countFromReceipt ? node.clock(this.nowMs) : stampMs;
    const deadlineMs = from + this.knobs.leaseMs;
    if (deadlineMs <= node.word.deadlineMs) return;
    node.word.deadlineMs = deadlineMs;
    this.marks.leaseRenewed++;
    const untilMs = this.nowMs + node.trueMs(deadlineMs - node.clock(this.nowMs));
    this.leaseChecker.extended(node.id, token, untilMs, this.nowMs);
  }

  /** The holder stops its server, forgets its token and only then says so. */
  release(node: SimulatedNode): void {
    const { token } = node.word;
    const leader = node.status?.leader ?? 0;
    if (node.core === null || token.index === 0 || leader === 0) return;
    this.marks.leaseReleased++;
    if (!this.#faults.lease.releaseWithoutStop) {
      node.word.forget();
      this.leaseChecker.expired(node.id);
    }
    this.#sendLease({ type: "release", from: node.id, to: leader, token });
  }

  /** Whether this node leads, has committed in its term and has applied all that is committed. */
  #decides(node: SimulatedNode): boolean {
    const { status } = node;
    return node.leads && status?.termCommitted === true && status.commit === node.state.applied;
  }

  /** What the leader decides by itself at every tick: whom to replace, whom to grant. */
  #leaderDuties(node: SimulatedNode): void {
    this.observe(node);
    const { status, state } = node;
    this.#followLeadership(node);
    if (status === null || !this.#decides(node)) return;
    const now = node.now(this.nowMs);
    const { leaseProposal } = node;
    if (leaseProposal.term === status.term && leaseProposal.index > state.applied) return;
    if (state.phase === "recruit") this.#grant(node, now);
    else if (state.phase === "empty" || this.#suspects(node, now)) this.proposeBegin(node);
  }

  #grant(node: SimulatedNode, now: number): void {
    const { status, grantor, state } = node;
    if (status === null) return;
    const { leaseMs } = this.knobs;
    const { lastAcceptedMs } = grantor;
    const sound = grantor.mayGrant(state.control(leaseMs), now).ok;
    const unpadded = lastAcceptedMs === null || now > lastAcceptedMs + leaseMs;
    if (!(sound || (this.#faults.lease.noDriftFactor && unpadded && now > status.electedAtMs + leaseMs))) {
      this.marks.leaseHeldOverElection++;
      return;
    }
    const alive = status.progress.filter((peer) => peer.recentActive).map((peer) => peer.id);
    const candidates = status.config.voters.filter((id) => id === node.id || alive.includes(id));
    if (candidates.length === 0) return;
    this.marks.leaseGranted++;
    this.#proposeLease(node, encodeGrant(state.token, this.operationsRandom.pick(candidates)));
  }

  /** The holder is silent for too long, or said that it has stopped. */
  #suspects(node: SimulatedNode, now: number): boolean {
    const { state, grantor } = node;
    if (sameToken(state.released, state.granted)) return true;
    return now > grantor.suspectAtMs(state.control(this.knobs.leaseMs));
  }

  /** Starts to replace the holder, on suspicion or because an operator asked. */
  proposeBegin(node: SimulatedNode): void {
    if (node.state.phase === "recruit" || !this.#decides(node)) return;
    this.marks.leaseTakenOver++;
    this.#proposeLease(node, encodeBegin(node.state.token));
  }

  #proposeLease(node: SimulatedNode, data: Uint8Array): void {
    const result = this.propose(node, data);
    if (result !== 0) node.leaseProposal = { term: node.status?.term ?? 0, index: result };
  }

  /** @returns the index of the entry, 0 when the core refused. */
  propose(node: SimulatedNode, data: Uint8Array): number {
    if (node.core === null) return 0;
    const result = node.core.propose(data, node.now(this.nowMs));
    if (result.ok) node.proposals.set(result.index, result.term);
    else this.marks.proposalRefused++;
    this.pump(node);
    return result.ok ? result.index : 0;
  }

  // ---- healing and liveness

  #heal(): void {
    this.healed = true;
    this.network.heal();
    for (const node of this.nodes) {
      if (node === undefined || node.retired || node.core !== null) continue;
      this.#start(node);
    }
    const fromMs = Math.max(this.nowMs, this.#latestEffectMs);
    const { electionTimeoutMs } = this.knobs;
    // Local timeouts run slower on a slow clock.
    const slack = 1 + 2 * this.knobs.clockRateBound;
    this.#acknowledgedAtHeal = this.marks.proposalAcknowledged;
    this.#readsAtHeal = this.marks.readServed;
    this.queue.push(
      fromMs + electionTimeoutsToElect * electionTimeoutMs * slack,
      EventKind.checkLeader,
      0,
      0,
      undefined,
    );
    this.queue.push(
      fromMs + electionTimeoutsToServe * electionTimeoutMs * slack,
      EventKind.checkLively,
      0,
      0,
      undefined,
    );
  }

  leader(): SimulatedNode | null {
    let best: SimulatedNode | null = null;
    for (const node of this.nodes) {
      if (node === undefined || !node.leads || node.pausedUntilMs > this.nowMs) continue;
      if (best === null || (node.status?.term ?? 0) > (best.status?.term ?? 0)) best = node;
    }
    return best;
  }

  #checkLeader(): void {
    if (this.leader()?.status?.termCommitted === true) {
      leaveJointByHand(this);
      serveClients(this);
      return;
    }
    throw new Violation(
      "no-leader",
      `no leader that commits within ${electionTimeoutsToElect} election timeouts after the faults`,
    );
  }

  #checkLively(): void {
    const status = this.leader()?.status;
    if (status === undefined || status === null) throw new Violation("no-leader", "no leader after the faults");
    if (this.marks.proposalAcknowledged === this.#acknowledgedAtHeal) {
      throw new Violation("no-write", "no proposal was acknowledged after the faults");
    }
    if (this.marks.readServed === this.#readsAtHeal)
      throw new Violation("no-read", "no read was served after the faults");
    if (status.config.votersOutgoing.length > 0)
      throw new Violation("joint-for-ever", "the configuration is still joint");
    for (const id of [...status.config.voters, ...status.config.learners]) {
      const node = this.nodes[id];
      if (node === undefined || node.retired) continue;
      if (node.state.applied < this.maxAcknowledged - 50 || node.state.applied < status.commit - 50) {
        throw new Violation(
          "member-behind",
          `member ${id} has applied ${node.state.applied}, commit is ${status.commit}`,
        );
      }
    }
    if (this.leaseChecker.holderAt(this.nowMs) === 0 && this.marks.leaseGranted === 0) {
      throw new Violation("no-primary", "nobody was ever granted the lease");
    }
  }

  // ---- reports

  #traceEvent(kind: number, id: number, payload: unknown): void {
    const node = this.nodes[id];
    const { status } = node ?? {};
    const about = kind === EventKind.written || kind === EventKind.synced ? "" : describe(payload);
    const where =
      status === undefined || status === null
        ? ""
        : ` [${status.role} t${status.term} c${status.commit} l${status.lastIndex}${node && node.pausedUntilMs > this.nowMs ? " paused" : ""}]`;
    this.#options.trace?.add(
      `${this.nowMs.toFixed(3)} ${eventNames[kind]} ${id === 0 ? "" : `node ${id}${where}`} ${about}`,
    );
  }

  #dump(): string[] {
    return this.nodes.slice(1).map((node) => {
      if (node === undefined) return "(no such node)";
      const { disk, word, state } = node;
      const durable = `durable hardState ${JSON.stringify(disk.hardState)} snapshot ${disk.snapshot.index} last ${disk.lastIndex}`;
      const live = node.core === null ? "down" : JSON.stringify(node.status);
      return (
        `node ${node.id} rate ${node.clockRate.toFixed(5)} ${live}\n  ${durable}\n` +
        `  word ${JSON.stringify(word)} now ${node.clock(this.nowMs).toFixed(3)} phase ${state.phase} holder ${state.holder} ` +
        `granted ${JSON.stringify(state.granted)} token ${JSON.stringify(state.token)}`
      );
    });
  }
}

function threw(error: unknown): Violation {
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  const violation = new Violation("threw", stack);
  return violation;
}

function describe(payload: unknown): string {
  if (payload === undefined) return "";
  return JSON.stringify(payload, (key, value: unknown) => {
    if (value instanceof Uint8Array) return `<${value.length} bytes>`;
    return key === "everyMs" ? undefined : value;
  }).slice(0, 400);
}
