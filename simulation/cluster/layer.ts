/**
 * The whole stack on top of Raft: the product's control machine and its decisions on modelled agents and PostgreSQL
 * servers, with clients that are told what was written (docs/protocol.md is what this layer puts to the test).
 */
import { encodeCommand } from "../../src/control/command.js";
import type { Entry, NodeId, ReadToken } from "../../src/raft/types.js";
import type { Host, Layer, Machine, Scope } from "../layer.js";
import type { NodeAgent } from "./agent.js";
import { Clients, firstState, isWitness } from "./clients.js";
import { Cluster, type Job } from "./cluster.js";
import { dumpNode } from "./dump.js";
import { whatIsMissing } from "./lively.js";
import type { AppMessage } from "./messages.js";

/** An open timeout may have doubled before the faults ended, and what was asked for in vain is waited out. */
const livelyWithinMs = 120_000;

export class ClusterLayer implements Layer {
  readonly name = "cluster";
  readonly ownsMembership = true;
  readonly knobs: Readonly<Record<string, unknown>>;
  readonly livelyWithinMs = livelyWithinMs;
  readonly faultsMs: number;
  readonly cluster: Cluster;
  readonly #host: Host;
  readonly #clients: Clients;
  #firstVoters = 0;

  constructor(host: Host) {
    this.#host = host;
    this.cluster = new Cluster(host);
    this.knobs = this.cluster.knobs;
    this.faultsMs = this.cluster.knobs.faultsMs;
    this.#clients = new Clients(this.cluster);
  }

  begin(voters: readonly NodeId[]): Uint8Array {
    this.#firstVoters = voters.length;
    return this.cluster.states.begin(firstState(this.cluster, voters));
  }

  begun(): void {
    const first = this.#host.nodes[1];
    if (this.#host.knobs.warmStart && first !== undefined) this.#host.campaign(first);
    this.#clients.begin();
  }

  // ---- processes

  nodeAdded({ id }: Machine): void {
    const isFirst = id <= this.#firstVoters;
    const server = this.cluster.addServer(id, isWitness(this.cluster, id, this.#firstVoters), isFirst);
    this.#host.schedule(0, 0, { name: "first start", run: () => server.start() } satisfies Job);
  }

  nodeStarted(node: Machine, snapshot: Uint8Array): void {
    this.cluster.startAgent(node, this.cluster.states.restore(node.applied, snapshot));
  }

  nodeCrashed(node: Machine, scope: Scope): void {
    this.cluster.agents[node.id] = undefined;
    if (scope === "machine") this.cluster.servers[node.id]?.crashHost();
  }

  nodePaused(): void {}

  // ---- the replicated state

  applied(node: Machine, entry: Entry): void {
    const agent = this.#agent(node);
    agent.slot = this.cluster.states.apply(entry, agent.slot);
    this.#addMachines();
  }

  /** A member that the log has taken in gets its machine. */
  #addMachines(): void {
    const { nextNodeId } = this.cluster.truth;
    if (this.#host.nodes.length >= nextNodeId) return;
    this.#host.schedule(0, 0, { name: "new machine", run: () => this.#addMachine(nextNodeId) } satisfies Job);
  }

  #addMachine(nextNodeId: NodeId): void {
    while (this.#host.nodes.length < nextNodeId) if (this.#host.addMachine() === 0) return;
  }

  restored(node: Machine, snapshot: Uint8Array): void {
    this.#agent(node).slot = this.cluster.states.restore(node.applied, snapshot);
  }

  progressed(node: Machine): void {
    this.#agent(node).progressed();
  }

  encodeSnapshot(node: Machine): Uint8Array {
    return this.cluster.states.encode(this.#agent(node).slot);
  }

  digest(node: Machine): number {
    return this.#agent(node).slot.digest;
  }

  readState(node: Machine, token: ReadToken): void {
    this.cluster.agents[node.id]?.roundConfirmed(token);
  }

  acknowledged(node: Machine, index: number): void {
    this.cluster.agents[node.id]?.leader.decided(index, this.cluster.states.at(index).outcome ?? { ok: true });
  }

  lost(node: Machine, index: number): void {
    this.cluster.agents[node.id]?.leader.decided(index, null);
  }

  // ---- events

  tick(node: Machine): void {
    this.#agent(node).tick();
  }

  message(node: Machine, from: NodeId, payload: unknown): void {
    this.cluster.agents[node.id]?.message(from, payload as AppMessage);
  }

  event(_node: Machine | null, payload: unknown): void {
    (payload as Job).run();
  }

  // ---- the end

  heal(): void {
    const { cluster } = this;
    cluster.uniteData();
    cluster.maximumLag = -1;
    for (const server of cluster.servers) {
      if (server === undefined) continue;
      if (!cluster.isStuckForEver(server)) server.hungUntilMs = 0;
      server.start();
    }
  }

  serve(leader: Machine): void {
    const agent = this.cluster.agents[leader.id];
    if (agent === undefined) return;
    this.#clients.repair(agent);
    // Mostly changes nothing, but is a command that is acknowledged like any other.
    this.#host.propose(leader, encodeCommand({ type: "pause", paused: false, atMs: 0, by: "" }));
    this.#host.readIndex(leader);
    this.#clients.read();
  }

  lively(): string | null {
    return whatIsMissing(this.cluster);
  }

  check(): void {
    this.cluster.checker.check();
  }

  dump(node: Machine): string {
    return dumpNode(this.cluster, node.id);
  }

  hash(node: Machine): number {
    const server = this.cluster.servers[node.id];
    return server === undefined ? 0 : (server.word.deadlineMs * 8 + server.written * 64 + server.life) | 0;
  }

  #agent({ id }: Machine): NodeAgent {
    return this.cluster.agents[id] as NodeAgent;
  }
}
