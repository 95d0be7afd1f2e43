/**
 * One schedule: a cluster of real Raft cores on a faulty network, faulty disks and drifting clocks, run event by event
 * in true (simulated) time from one seed. Every invariant is looked at after every event; the first broken one ends it.
 *
 * The world is the base: processes, disks, clocks, network, Raft. What is replicated, and what machines do with it, is
 * a layer on top (layer.ts).
 */

import { RolledBackError } from "../src/raft/errors.js";
import type { ConfChange, Message, NodeId, ProposeResult, RaftNode, ReadToken, Snapshot } from "../src/raft/types.js";
import { copyMessage } from "./copy.js";
import type { Disk, DiskWrite } from "./disk.js";
import { dump, eventLine, threw } from "./dump.js";
import { EventKind } from "./event-kind.js";
import { EventQueue } from "./event-queue.js";
import { type Faults, sound } from "./faults.js";
import { type FaultKind, Injector } from "./injector.js";
import { drawKnobs, type Knobs } from "./knobs.js";
import type { Host, Layer, Scope } from "./layer.js";
import { addNode, crash, pause, peerLost, scheduleTick, start } from "./lifecycle.js";
import { Liveness } from "./liveness.js";
import { Marks } from "./marks.js";
import { Network } from "./network.js";
import { pump, readKey, synced, written } from "./node-loop.js";
import { type Action, actionsOf, perform } from "./operations.js";
import { RaftChecker } from "./raft-checker.js";
import { mix, Random } from "./random.js";
import { checkRollback, endIfUnproven, stopRolledBack } from "./rollback.js";
import type { SimulatedNode } from "./simulated-node.js";
import { createLayer, type Stack, worldKnobsOf } from "./stacks.js";
import type { Trace } from "./trace.js";
import { Violation } from "./violation.js";

export { type Faults, sound } from "./faults.js";

export interface ScheduleOptions {
  readonly seed: number;
  readonly nodes: number;
  /** Default: "raft". */
  readonly stack?: Stack;
  readonly faults?: Faults;
  readonly trace?: Trace;
  /** Knobs with other values than drawn. */
  readonly set?: Partial<Knobs>;
  /** Leaves some of what is done to the cluster out. */
  readonly injector?: Injector;
}

export interface ScheduleResult {
  readonly seed: number;
  readonly knobs: Knobs;
  readonly layer: string;
  readonly layerKnobs: Readonly<Record<string, unknown>>;
  readonly events: number;
  readonly simulatedMs: number;
  /** Over (event, state of the node it touched), of every event. */
  readonly hash: number;
  readonly marks: Marks;
  readonly violation: Violation | null;
  /** Per node, for the report of a failure. */
  readonly dump: readonly string[];
}

/** Spare ids for members that join during the schedule; ids are never reused. */
const spareNodes = 4;
/** A schedule has some thousand events; one that has this many feeds itself. */
const mostEvents = 1_000_000;
/** Streams of one seed: the world has 1 to 19, its layer 20 to 79, the nodes 100 and more. */
const firstLayerStream = 20;

export function runSchedule(options: ScheduleOptions): ScheduleResult {
  return new World(options).run();
}

export class World implements Host {
  readonly seed: number;
  readonly knobs: Knobs;
  readonly faults: Faults;
  readonly injector: Injector;
  readonly layer: Layer;
  readonly marks = new Marks();
  readonly nodes: Array<SimulatedNode | undefined> = [undefined];
  readonly disks: Array<Disk | undefined> = [undefined];
  readonly maxNodes: number;
  readonly queue = new EventQueue();
  readonly network: Network;
  readonly checker: RaftChecker;
  readonly diskRandom: Random;
  readonly clockRandom: Random;
  readonly operationsRandom: Random;
  readonly crashRandom: Random;
  readonly #trace: Trace | null;
  readonly #liveness: Liveness;
  nowMs = 0;
  healed = false;
  /** Until then no new fault begins: what is demanded of a rolled-back disk rests on peers that can be reached. */
  calmUntilMs = 0;
  /** The highest index of a proposal whose success was told. */
  maxAcknowledged = 0;
  /** When the last effect of a fault that is already on its way arrives. */
  latestEffectMs = 0;
  /** Nodes whose core was called by the layer or an operator and may want something done. */
  readonly #touched: SimulatedNode[] = [];
  #events = 0;
  #hash = 0;
  #over = false;

  constructor({ seed, nodes, stack, faults, trace, set, injector }: ScheduleOptions) {
    this.seed = seed;
    this.faults = faults ?? sound;
    this.#trace = trace ?? null;
    this.injector = injector ?? new Injector();
    const drawn = drawKnobs(seed, nodes);
    this.knobs = { ...drawn, ...worldKnobsOf(stack ?? "raft", seed, drawn), ...set };
    this.maxNodes = nodes + spareNodes;
    this.diskRandom = new Random(seed, 2);
    this.clockRandom = new Random(seed, 3);
    this.operationsRandom = new Random(seed, 4);
    this.crashRandom = new Random(seed, 5);
    this.network = new Network(this.knobs, new Random(seed, 6), this.marks, this.injector, this.maxNodes);
    this.checker = new RaftChecker(this.disks, this.marks);
    this.#liveness = new Liveness(this);
    this.layer = createLayer(stack ?? "raft", this);
  }

  run(): ScheduleResult {
    let violation: Violation | null = null;
    try {
      this.#begin();
      while (!this.#over && this.queue.next()) {
        this.#handle();
        this.#settle();
        this.layer.check();
      }
    } catch (error) {
      violation = error instanceof Violation ? error : threw(error);
    }
    return {
      seed: this.seed,
      knobs: this.knobs,
      layer: this.layer.name,
      layerKnobs: this.layer.knobs,
      events: this.#events,
      simulatedMs: this.nowMs,
      hash: this.#hash,
      marks: this.marks,
      violation,
      dump: violation === null ? [] : dump(this),
    };
  }

  #begin(): void {
    const { knobs, layer } = this;
    const voters = Array.from({ length: knobs.initialVoters }, (_, i) => i + 1);
    const config = { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
    const snapshot: Snapshot = { index: 1, term: 1, config, data: layer.begin(voters) };
    this.checker.begin(snapshot);
    const hardState = { term: 1, vote: 0, commit: 1 };
    for (const id of voters) addNode(this, { hardState, snapshot, entries: [] }, id);
    layer.begun();
    if (knobs.warmStart) this.campaign(this.nodes[this.operationsRandom.pick(voters)] as SimulatedNode);
    for (const action of actionsOf(knobs, layer)) this.scheduleAction(action);
    this.#settle();
    this.queue.push(layer.faultsMs ?? knobs.faultsMs, EventKind.heal, 0, 0, undefined);
  }

  scheduleAction(action: Action): void {
    const afterMs = this.operationsRandom.exponential(action.everyMs);
    this.queue.push(this.nowMs + afterMs, EventKind.action, 0, 0, action);
  }

  /** Lets the cores that were called in this event get on with it. */
  #settle(): void {
    for (let node = this.#touched.pop(); node !== undefined; node = this.#touched.pop()) {
      pump(this, node);
      this.observe(node);
    }
  }

  // ---- events

  #handle(): void {
    const { queue } = this;
    const { kind, life, payload } = queue;
    const id = queue.node;
    this.nowMs = queue.timeMs;
    this.injector.nowMs = this.nowMs;
    this.#events++;
    if (this.#events > mostEvents)
      throw new Violation("runaway", `more than ${mostEvents} events: a storm of messages`);
    this.#hash = mix(mix(this.#hash, (this.nowMs * 1000) | 0), (kind << 8) | id);
    this.#trace?.add(eventLine(this, kind, id, payload));
    if (id === 0) {
      this.#handleWorld(kind, payload);
      return;
    }
    const node = this.nodes[id] as SimulatedNode;
    if (kind === EventKind.restart) {
      if (node.core === null && node.life === life) start(this, node);
    } else if (kind === EventKind.deliverMachine) {
      this.layer.message(node, life, payload);
    } else if (kind === EventKind.machine) {
      if (node.machineLife === life) this.layer.event(node, payload);
    } else if (node.core !== null) this.#handleAgent(node, node.core, kind, life, payload);
  }

  /** @param life the process that an event is meant for; the sender, for a message of the layer. */
  #handleAgent(node: SimulatedNode, core: RaftNode, kind: number, life: number, payload: unknown): void {
    if (kind !== EventKind.deliver && kind !== EventKind.deliverLayer && node.life !== life) return;
    if (node.pausedUntilMs > this.nowMs) {
      // Everything that happens to a paused process happens when it wakes up, in the same order.
      this.queue.push(node.pausedUntilMs, kind, node.id, life, payload);
      return;
    }
    if (endIfUnproven(this, node)) return;
    switch (kind) {
      case EventKind.tick:
        core.tick(node.now(this.nowMs));
        scheduleTick(this, node);
        pump(this, node);
        this.refresh(node);
        this.#checkStall(node);
        if (node.core !== null) this.layer.tick(node);
        break;
      case EventKind.deliver:
        this.#deliver(node, core, payload as Message);
        break;
      case EventKind.deliverLayer:
        this.layer.message(node, life, payload);
        break;
      case EventKind.written:
        written(this, node, payload as DiskWrite);
        break;
      case EventKind.synced:
        synced(this, node);
        break;
      case EventKind.peerLost:
        core.reportUnreachable(payload as NodeId);
        pump(this, node);
        break;
      case EventKind.layer:
        this.layer.event(node, payload);
        break;
      default:
        throw new Error(`unknown event ${kind}`);
    }
    this.observe(node);
  }

  #deliver(node: SimulatedNode, core: RaftNode, message: Message): void {
    try {
      core.step(message, node.now(this.nowMs));
    } catch (error) {
      // Peers proved that its disk is older than it was; nobody may say so of a disk that is not.
      if (!(error instanceof RolledBackError) || node.rolledBack === null) throw error;
      stopRolledBack(this, node);
      return;
    }
    pump(this, node);
  }

  /** A leader whose disk does not answer for an election timeout is none any more (R28). */
  #checkStall(node: SimulatedNode): void {
    if (node.core === null || node.job?.kind !== "ready") return;
    const { electionTimeoutMs } = this.knobs;
    if (node.now(this.nowMs) - node.jobSinceMs < electionTimeoutMs) return;
    this.marks.diskStalled++;
    if (node.leads)
      throw new Violation("stalled-leader", `node ${node.id} leads, its disk is silent since ${node.jobSinceMs}`);
  }

  #handleWorld(kind: number, payload: unknown): void {
    switch (kind) {
      case EventKind.worldLayer:
        this.layer.event(null, payload);
        return;
      case EventKind.action:
        perform(this, payload as Action);
        if (!this.healed) this.scheduleAction(payload as Action);
        return;
      case EventKind.unite:
        if (!this.healed) this.network.unite();
        return;
      case EventKind.calmOver:
        checkRollback(this, payload as SimulatedNode);
        return;
      case EventKind.heal:
        this.#liveness.heal();
        return;
      case EventKind.probe:
        this.#over = this.#liveness.probe();
        return;
      default:
        throw new Error(`unknown event ${kind}`);
    }
  }

  /** Looks at a node after anything that touched it. */
  observe(node: SimulatedNode): void {
    if (node.core === null) return;
    const { seen } = node;
    seen.take(node.core);
    const state = mix(seen.term * 8 + seen.role.length, seen.commit * 4096 + seen.lastIndex);
    this.#hash = mix(mix(this.#hash, state), this.layer.hash(node));
    this.checker.observe(node.id, seen);
  }

  refresh(node: SimulatedNode): void {
    this.observe(node);
  }

  injects(kind: FaultKind, node: NodeId = 0): boolean {
    return this.injector.allows(kind, node);
  }

  get calm(): boolean {
    return this.healed || this.nowMs < this.calmUntilMs;
  }

  effect(atMs: number): void {
    if (atMs > this.latestEffectMs) this.latestEffectMs = atMs;
  }

  note(line: string): void {
    this.#trace?.add(`${this.nowMs.toFixed(3)} ${line}`);
  }

  // ---- messages

  sendRaft(message: Message, node: SimulatedNode): void {
    const { from, to } = message;
    if (from !== node.id) throw new Violation("forged", `node ${node.id} sends as ${from}`);
    if (to === from) throw new Violation("self-message", `node ${to} sends ${message.type} to itself`);
    this.checker.sending(message);
    if (this.nodes[to] === undefined) return;
    this.#route(from, to, EventKind.deliver, 0, this.knobs.copyMessages ? copyMessage(message) : message);
  }

  send(from: NodeId, to: NodeId, payload: unknown, scope: Scope = "agent"): void {
    const kind = scope === "agent" ? EventKind.deliverLayer : EventKind.deliverMachine;
    if (from === to) this.queue.push(this.nowMs, kind, to, from, payload);
    else if (this.nodes[to] !== undefined) this.#route(from, to, kind, from, payload);
  }

  #route(from: NodeId, to: NodeId, kind: number, life: number, payload: unknown): void {
    const { network } = this;
    network.route(from, to, this.nowMs, this.nowMs < this.calmUntilMs);
    if (network.arrivalMs < 0) return;
    this.queue.push(network.arrivalMs, kind, to, life, payload);
    if (!this.healed) this.effect(network.arrivalMs);
    if (network.duplicateArrivalMs < 0) return;
    this.queue.push(network.duplicateArrivalMs, kind, to, life, payload);
    this.effect(network.duplicateArrivalMs);
  }

  linked(from: NodeId, to: NodeId): boolean {
    return this.network.linked(from, to);
  }

  // ---- what the layer and the operations may do to a node

  stream(concern: number): Random {
    return new Random(this.seed, firstLayerStream + concern);
  }

  schedule(afterMs: number, node: NodeId | 0, payload: unknown, scope: Scope = "agent"): void {
    const atMs = this.nowMs + afterMs;
    const target = this.nodes[node];
    if (target === undefined) this.queue.push(atMs, EventKind.worldLayer, 0, 0, payload);
    else if (scope === "agent") this.queue.push(atMs, EventKind.layer, node, target.life, payload);
    else this.queue.push(atMs, EventKind.machine, node, target.machineLife, payload);
  }

  propose(node: SimulatedNode, data: Uint8Array): number {
    if (node.core === null) return 0;
    const result = node.core.propose(data, node.now(this.nowMs));
    if (result.ok) node.proposals.set(result.index, result.term);
    else this.marks.proposalRefused++;
    this.#touched.push(node);
    return result.ok ? result.index : 0;
  }

  acknowledged(node: SimulatedNode, index: number): void {
    this.marks.proposalAcknowledged++;
    if (index > this.maxAcknowledged) this.maxAcknowledged = index;
    this.#liveness.acknowledged(index);
    this.layer.acknowledged(node, index);
  }

  proposalLost(node: SimulatedNode, index: number): void {
    this.marks.proposalLost++;
    this.layer.lost(node, index);
  }

  readIndex(node: SimulatedNode): ReadToken | null {
    if (node.core === null) return null;
    const token = node.core.readIndex(node.now(this.nowMs));
    node.reads.set(readKey(token.term, token.sequence), { acknowledged: this.maxAcknowledged });
    this.#touched.push(node);
    return token;
  }

  changeConfiguration(node: SimulatedNode, change: ConfChange): ProposeResult {
    if (node.core === null) return { ok: false, reason: "not-leader", message: "the agent is down" };
    const before = node.core.status();
    const result = node.core.proposeConfChange(change, node.now(this.nowMs));
    if (result.ok) {
      this.marks.configurationProposed++;
      this.checker.changing(node.id, before, change);
    } else this.marks.configurationRefused++;
    this.#touched.push(node);
    return result;
  }

  transferLeadership(node: SimulatedNode, to: NodeId): void {
    this.marks.transferAsked++;
    node.core?.transferLeadership(to, node.now(this.nowMs));
    this.#touched.push(node);
  }

  campaign(node: SimulatedNode): void {
    this.marks.campaignAsked++;
    node.core?.campaign(node.now(this.nowMs));
    this.#touched.push(node);
  }

  reportUnreachable(node: SimulatedNode, peer: NodeId): void {
    peerLost(this, node, peer, 0);
  }

  addMachine(): NodeId {
    return this.nodes.length <= this.maxNodes ? addNode(this, null) : 0;
  }

  crash(node: SimulatedNode, scope: Scope): void {
    crash(this, node, scope);
  }

  pause(node: SimulatedNode, forMs: number): void {
    pause(this, node, forMs);
  }

  leader(): SimulatedNode | null {
    let best: SimulatedNode | null = null;
    for (const node of this.nodes) {
      if (node === undefined || !node.leads || node.pausedUntilMs > this.nowMs) continue;
      if (best === null || node.term > best.term) best = node;
    }
    return best;
  }
}
