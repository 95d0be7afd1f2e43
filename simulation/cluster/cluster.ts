/** One simulated cluster: its servers, agents and networks, and what the parts ask of each other. */
import type { NodeAction, NodeInput } from "../../src/control/decisions.js";
import { promotionOf } from "../../src/control/membership.js";
import type { ControlState } from "../../src/control/types.js";
import type { NodeId } from "../../src/raft/types.js";
import type { Host, Machine } from "../layer.js";
import { Random } from "../random.js";
import { NodeAgent, type NodeFile } from "./agent.js";
import { Checker } from "./checker.js";
import { type ClusterFaults, soundCluster } from "./faults.js";
import { type ClusterKnobs, drawClusterKnobs } from "./knobs.js";
import { type ClusterMark, clusterMarks } from "./marks.js";
import { drawProfile, foreverMs, profileStream } from "./profiles.js";
import { connect, endSession, rejoinSource, releaseWaiters, type Session, setList, ship } from "./replication.js";
import { type Rejoin, Server } from "./server.js";
import { type Slot, States } from "./states.js";
import { acceptsStart, Branch } from "./wal.js";

/** What `Host.schedule` carries; the name shows in traces. */
export interface Job {
  readonly name: string;
  readonly run: () => void;
}

export const firstPosition = 16;

export class Cluster {
  readonly knobs: ClusterKnobs;
  readonly faults: ClusterFaults;
  readonly marks: Record<ClusterMark, number> & Record<string, number>;
  readonly random: Random;
  readonly checker: Checker;
  readonly states: States;
  readonly servers: Array<Server | undefined> = [undefined];
  readonly agents: Array<NodeAgent | undefined> = [undefined];
  readonly files: Array<NodeFile | undefined> = [undefined];
  readonly root = new Branch(null, firstPosition, 1, 0);
  /** The newest state that anybody has applied: what is committed, as far as it can be known. */
  newest: Slot;
  /** The Raft term in which the newest promote was committed. */
  promotedIn = 0;
  maximumLag: number;
  #isWarm: boolean;
  #dataCut: boolean[] = [];

  constructor(readonly host: Host) {
    this.random = host.stream(1);
    const { initialVoters, leaseMs } = host.knobs;
    this.knobs = {
      ...drawClusterKnobs(host.stream(0), initialVoters, leaseMs),
      ...drawProfile(new Random(host.seed, profileStream), leaseMs),
      ...host.faults.clusterKnobs,
    };
    this.faults = host.faults.cluster ?? soundCluster;
    // They count in the world's marks, so that they are summed up over schedules with the others.
    this.marks = Object.assign(host.marks, clusterMarks()) as unknown as Cluster["marks"];
    this.checker = new Checker(this);
    this.states = new States(this.faults, (slot, before) => this.#committed(slot, before));
    this.newest = this.states.at(0);
    this.maximumLag = this.knobs.maximumLag;
    this.#isWarm = this.knobs.warmUpMs === 0;
  }

  /** The layer's faults begin: the promise is in force on more than the first primary, or does not come. */
  get isWarm(): boolean {
    return this.#isWarm || this.host.nowMs > this.knobs.warmUpMs;
  }

  get truth(): ControlState {
    return this.newest.state;
  }

  // ---- time and chance

  clock(id: NodeId): number {
    return (this.host.nodes[id] as Machine).clock(this.host.nowMs);
  }

  /** Exponential; short when the faults are over. */
  delay(meanMs: number): number {
    return this.random.exponential(this.host.healed ? Math.min(meanMs, 5) : meanMs);
  }

  chance(probability: number): boolean {
    return !this.host.healed && this.isWarm && this.random.chance(probability);
  }

  later(id: NodeId, afterMs: number, name: string, run: () => void): void {
    this.host.schedule(afterMs, id, { name, run } satisfies Job, "machine");
  }

  agentLater(id: NodeId, afterMs: number, name: string, run: () => void): void {
    this.host.schedule(afterMs, id, { name, run } satisfies Job);
  }

  // ---- processes

  addServer(id: NodeId, absent: boolean, isFirst: boolean): Server {
    const server = new Server(this, id, this.root, isFirst ? firstPosition : 0, absent);
    if (!isFirst) server.rejoin = { token: null, method: "rebuild", source: 0, phase: "destroyed" };
    this.servers[id] = server;
    this.files[id] = { pledge: null, pointedAt: null, promotedUnder: null };
    return server;
  }

  startAgent(machine: Machine, slot: Slot): void {
    const { id } = machine;
    this.agents[id] = new NodeAgent(this, machine, this.servers[id] as Server, this.files[id] as NodeFile, slot);
  }

  /** The server was started again: so is everything of the agent that belonged to its last life. */
  replaceAgent(machine: Machine): void {
    const old = this.agents[machine.id];
    if (old === undefined) return;
    const { server, file, slot, leader } = old;
    const agent = new NodeAgent(this, machine, server, file, slot, leader);
    for (const [id, heard] of old.gossip) agent.gossip.set(id, heard);
    this.agents[machine.id] = agent;
  }

  crashHost(id: NodeId): void {
    const machine = this.host.nodes[id];
    if (machine === undefined) return;
    this.marks.hostCrash++;
    if (machine.running) this.host.crash(machine, "machine");
    else this.servers[id]?.crashHost();
  }

  /** @returns true when the agent that takes the step is no more. */
  crashInStep(machine: Machine, name: string): boolean {
    const { fatalStep, fatalStepChance, stepCrashChance } = this.knobs;
    if (!this.chance(name === fatalStep ? fatalStepChance : stepCrashChance)) return false;
    const kind = this.random.integer(0, 3);
    if (kind <= 1) {
      this.marks.agentCrashInStep++;
      this.host.crash(machine, "agent");
      return true;
    }
    if (kind === 2) {
      this.marks.postmasterCrashInStep++;
      this.servers[machine.id]?.killPostmaster();
      return false;
    }
    this.marks.hostCrashInStep++;
    this.crashHost(machine.id);
    return true;
  }

  /** Of servers that hang until a person comes there is at most one, or nobody could be demanded to go on. */
  mayHang(server: Server): boolean {
    if (this.knobs.promoteHangMs < foreverMs) return true;
    const isStuck = (one: Server): boolean => one.phase === "promoting" || one.hungUntilMs > this.host.nowMs;
    return !this.servers.some((one) => one !== undefined && one !== server && isStuck(one));
  }

  /** The end of the faults does not wake it up; the cluster has to do without it, or to restart it. */
  isStuckForEver(server: Server): boolean {
    return server.hungUntilMs - this.host.nowMs > foreverMs / 2;
  }

  // ---- the data network

  dataLinked(from: NodeId, to: NodeId): boolean {
    if (this.#dataCut[from * 64 + to] === true) return false;
    return !this.knobs.sharedNetwork || this.host.linked(from, to);
  }

  cutData(): void {
    this.marks.dataPartition++;
    this.#dataCut = [];
    const count = this.servers.length - 1;
    const alone = this.random.chance(0.5) ? this.random.integer(1, count) : 0;
    const side = Array.from({ length: count + 1 }, (_, id) => (alone === 0 ? this.random.chance(0.5) : id === alone));
    for (let a = 1; a <= count; a++) {
      for (let b = 1; b <= count; b++) if (side[a] !== side[b]) this.#dataCut[a * 64 + b] = true;
    }
  }

  uniteData(): void {
    this.#dataCut = [];
  }

  connect(standby: Server): boolean {
    return connect(this, standby);
  }

  ship(upstream: Server): void {
    ship(this, upstream);
  }

  releaseWaiters(upstream: Server): void {
    releaseWaiters(upstream);
  }

  endSession(session: Session): void {
    endSession(this, session);
  }

  endUpstream(server: Server): void {
    if (server.upstream !== null) endSession(this, server.upstream);
  }

  rejoinSource(server: Server, { source }: Rejoin): Server | null {
    return rejoinSource(this, server, source);
  }

  // ---- the log

  #committed(slot: Slot, before: ControlState): void {
    const { command, outcome, state } = slot;
    this.newest = slot;
    this.checker.committed(slot, before);
    if (command === null || outcome?.ok !== true) return;
    const { marks } = this;
    switch (command.type) {
      case "begin":
        marks[beginMarks[command.reason]]++;
        if (before.phase.kind === "promoted" || before.phase.kind === "granted") marks.lostBeforeOpening++;
        if (before.durability.target !== null) marks.setChangeInterrupted++;
        return;
      case "promote": {
        this.promotedIn = slot.term;
        if (state.durability.inForce !== null) marks.promotedUnderPromise++;
        if (before.durability.target !== null && state.durability.target === null) marks.promotedOutsideTarget++;
        const replaced = before.phase.kind === "recruit" ? promotionOf(before, before.phase.from) : undefined;
        if (replaced?.forkLsn === null) marks.forkOfNeverMarked++;
        if (command.text.includes("the best of 1 reports")) marks.holderAlone++;
        return;
      }
      case "cancelHandover":
        marks.switchoverGivenUp++;
        return;
      case "beginSetChange":
        if (before.phase.kind === "granted") marks.setChangedBeforeOpening++;
        return;
      case "settleSetChange":
        marks.setChanged++;
        if (state.durability.acks > 0) this.#isWarm = true;
        return;
      case "addMember":
        marks.memberAdded++;
        return;
      case "removeMember":
        marks.memberRemoved++;
        return;
      case "updateMember":
        marks.tagged++;
        return;
      case "amendRecruit":
        marks.amended++;
        return;
      default:
        return;
    }
  }

  // ---- what mutants do to the decisions of a node

  spoilNodeAction(agent: NodeAgent, input: NodeInput, action: NodeAction): NodeAction {
    const { faults } = this;
    const { state } = input;
    if (
      faults.waitsForOpened &&
      state.phase.kind === "granted" &&
      (action.type === "rejoin" || action.type === "follow")
    ) {
      return { type: "none", text: "waiting for the opening" };
    }
    if (faults.judgesByTimeline && action.type === "rejoin" && input.server.upstreamLacksWal !== true) {
      const upstream = this.servers[action.primary.id];
      const { server } = agent;
      const fits =
        upstream?.phase === "primary" &&
        acceptsStart(upstream.branch, upstream.flushed, input.server.timeline ?? 0, server.written);
      if (fits && input.server.rejoining !== true) {
        return { type: "follow", token: action.token, primary: action.primary, text: "" };
      }
    }
    if (faults.listAfterOpening) this.#setListLate(agent, state);
    return action;
  }

  /** A mutant: the list is in force one D after the opening. */
  #setListLate(agent: NodeAgent, state: ControlState): void {
    const { server } = agent;
    const { list } = agent.sync;
    if (server.phase !== "primary" || !server.word.open) {
      agent.openSinceMs = null;
      return;
    }
    agent.openSinceMs ??= this.host.nowMs;
    if (this.host.nowMs - agent.openSinceMs <= state.leaseMs) return;
    if (list !== null && list.acks > 0 && server.listGeneration === 1) setList(this, server, list);
  }
}

const beginMarks = {
  bootstrap: "begunBootstrap",
  "lease-expired": "begunLeaseExpired",
  released: "begunReleased",
  switchover: "begunSwitchover",
  operator: "begunOperator",
  "open-timeout": "begunOpenTimeout",
  "not-renewed": "begunNotRenewed",
} as const;
