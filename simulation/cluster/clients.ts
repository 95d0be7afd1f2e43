/** Writers, readers and operators, and the faults of servers and the data network. */
import { applyCommand, emptyControlState } from "../../src/control/state.js";
import type { CommandBody, ControlState, Member } from "../../src/control/types.js";
import type { NodeId } from "../../src/raft/types.js";
import type { Machine } from "../layer.js";
import type { NodeAgent } from "./agent.js";
import type { Cluster } from "./cluster.js";
import type { Server } from "./server.js";

type ActorName =
  | "write"
  | "read"
  | "noise"
  | "operator"
  | "membership"
  | "tag"
  | "primary fault"
  | "contested failover"
  | "postmaster crash"
  | "host crash"
  | "total restart"
  | "maintenance"
  | "hang"
  | "data partition";

/** Goes on after the faults are over. */
const lasting: ReadonlySet<ActorName> = new Set(["write", "read", "noise"]);

const tags = { nofailover: false, failoverPriority: 100, nosync: false, noloadbalance: false };

function newMember(id: number, kind: Member["kind"]): Omit<Member, "id"> {
  return {
    name: `n${id}`,
    incarnation: `disk ${id}`,
    address: `n${id}:1`,
    dsn: `host=n${id}`,
    httpAddress: null,
    kind,
    tags,
  };
}

export function isWitness(cluster: Cluster, id: NodeId, voters: number): boolean {
  return id > voters - cluster.knobs.witnesses && id <= voters;
}

/** The state that all first voters hold: a bootstrapped cluster without a primary. */
export function firstState(cluster: Cluster, voters: readonly NodeId[]): ControlState {
  const { leaseMs } = cluster.host.knobs;
  const commands: CommandBody[] = [];
  for (const id of voters) {
    const member = newMember(id, isWitness(cluster, id, voters.length) ? "witness" : "data");
    const systemIdentifier = "1";
    if (id === 1)
      commands.push({ type: "bootstrap", clusterId: "c", systemIdentifier, serverMajor: 15, leaseMs, member });
    else commands.push({ type: "addMember", systemIdentifier, serverMajor: 15, member });
  }
  if (cluster.knobs.quorum) commands.push({ type: "durabilityMode", mode: "quorum" });
  let state = emptyControlState();
  for (const command of commands) {
    state = applyCommand(state, { ...command, atMs: 0, by: "" }, { term: 1, index: 1 }).state;
  }
  return state;
}

export class Clients {
  readonly #cluster: Cluster;
  #added = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  begin(): void {
    const { knobs } = this.#cluster;
    const actors: Array<readonly [ActorName, number]> = [
      ["write", knobs.writeEveryMs],
      ["read", knobs.readEveryMs],
      ["noise", knobs.noiseEveryMs],
      ["operator", knobs.operatorEveryMs],
      ["membership", knobs.membershipEveryMs],
      ["tag", knobs.tagEveryMs],
      ["primary fault", knobs.primaryFaultEveryMs],
      ["contested failover", knobs.contestedEveryMs],
      ["postmaster crash", knobs.postmasterCrashEveryMs],
      ["host crash", knobs.hostCrashEveryMs],
      ["total restart", knobs.totalRestartEveryMs],
      ["maintenance", knobs.maintenanceEveryMs],
      ["hang", knobs.hangEveryMs],
      ["data partition", knobs.dataPartitionEveryMs],
    ];
    for (const [name, everyMs] of actors) if (Number.isFinite(everyMs)) this.#schedule(name, everyMs);
  }

  #schedule(name: ActorName, everyMs: number): void {
    const { host, random } = this.#cluster;
    host.schedule(random.exponential(everyMs), 0, {
      name,
      run: () => {
        if (host.healed && !lasting.has(name)) return;
        this.#schedule(name, everyMs);
        if (!lasting.has(name) && !this.#cluster.isWarm) return;
        if (host.injects(name.replaceAll(" ", "-"))) this.#act(name);
      },
    });
  }

  #act(name: ActorName): void {
    const { host, knobs, marks, random } = this.#cluster;
    switch (name) {
      case "write":
        this.#primary()?.write();
        return;
      case "read":
        this.read();
        return;
      case "noise": {
        const server = this.#primary();
        if (server?.phase !== "primary") return;
        server.append();
        server.flush(() => {});
        return;
      }
      case "operator":
        this.#operate();
        return;
      case "membership":
        this.#changeMembers();
        return;
      case "tag": {
        const agent = this.#someAgent();
        if (agent !== null) this.#tag(agent);
        return;
      }
      case "primary fault":
        this.#hitPrimary();
        return;
      case "contested failover":
        this.#contest();
        return;
      case "postmaster crash":
        marks.postmasterCrash++;
        this.#someServer()?.killPostmaster();
        return;
      case "host crash":
        this.#cluster.crashHost(random.integer(1, this.#cluster.servers.length - 1));
        return;
      case "total restart":
        marks.totalRestart++;
        for (let id = 1; id < this.#cluster.servers.length; id++) this.#cluster.crashHost(id);
        return;
      case "maintenance": {
        // Somebody stops a server in good order, by the system's service manager.
        const server = random.chance(0.6) ? this.#primary() : this.#someServer();
        marks.maintenance++;
        server?.stop("fast");
        // A service manager's patience ends.
        server?.later(4 * host.knobs.leaseMs, "kill", () => server.stop("immediate"));
        return;
      }
      case "hang": {
        const server = this.#someServer();
        if (server === null) return;
        marks.serverHung++;
        server.hungUntilMs = host.nowMs + random.exponential(knobs.hangMeanMs);
        return;
      }
      case "data partition":
        this.#cluster.cutData();
        host.schedule(random.exponential(knobs.dataPartitionForMs), 0, {
          name: "data network united",
          run: () => this.#cluster.uniteData(),
        });
        return;
    }
  }

  read(): void {
    const server = this.#primary();
    if (server === null || !server.mayWrite()) return;
    this.#cluster.marks.clientRead++;
    this.#cluster.checker.read(server);
  }

  /** Any server that is out of recovery, the right one or not: clients try them all. */
  #primary(): Server | null {
    const open = this.#cluster.servers.filter(
      (server): server is Server => server !== undefined && (server.phase === "primary" || server.orphans),
    );
    return open.length === 0 ? null : this.#cluster.random.pick(open);
  }

  /** An operator replaces a primary whose agent has just died, and the leader dies over it. */
  #contest(): void {
    const { random, host } = this.#cluster;
    const { leaseMs } = host.knobs;
    const server = this.#primary();
    const machine = server === null ? undefined : host.nodes[server.id];
    if (machine?.running !== true) return;
    this.#cluster.marks.contested++;
    if (random.chance(0.5)) host.crash(machine, "agent");
    else host.pause(machine, random.between(0.5, 2) * leaseMs);
    this.#replace(machine, 12);
  }

  /** Asks until some other node leads. */
  #replace(primary: Machine, attempts: number): void {
    const { random, host, agents } = this.#cluster;
    const { leaseMs } = host.knobs;
    const run = (): void => {
      const leader = agents.find(
        (one) => one?.machine.leads === true && one.machine !== primary && one.machine.pausedUntilMs <= host.nowMs,
      );
      const current = leader?.state.current ?? null;
      if (leader === undefined || current === null) {
        if (attempts > 0 && !host.healed) this.#replace(primary, attempts - 1);
        return;
      }
      const text = "An operator asked for a failover.";
      const more = { reason: "operator", target: null, waitLsn: null, allowDataLoss: false } as const;
      leader.submit({ type: "begin", from: current, ...more, text });
      this.#killLeaderOncePromoted(primary, 20);
    };
    host.schedule(random.between(0.02, 0.1) * leaseMs, 0, { name: "failover by an operator", run });
  }

  #killLeaderOncePromoted(primary: Machine, attempts: number): void {
    const cluster = this.#cluster;
    const { host } = cluster;
    const run = (): void => {
      if (host.healed || attempts === 0) return;
      const leader = host.nodes.find((node) => node?.leads === true && node !== primary);
      if (cluster.truth.phase.kind === "promoted" && leader !== undefined) host.crash(leader, "agent");
      else this.#killLeaderOncePromoted(primary, attempts - 1);
    };
    const afterMs = cluster.random.between(0, 0.04) * host.knobs.leaseMs;
    host.schedule(afterMs, 0, { name: "the leader dies", run });
  }

  #hitPrimary(): void {
    const { random, marks, host } = this.#cluster;
    const server = this.#primary();
    if (server === null) return;
    const machine = host.nodes[server.id];
    const { machineFaultShare } = this.#cluster.knobs;
    const isMachine = machineFaultShare > 0 && random.chance(machineFaultShare);
    switch (isMachine ? 0 : random.integer(0, 3)) {
      case 0:
        this.#cluster.crashHost(server.id);
        return;
      case 1:
        marks.postmasterCrash++;
        server.killPostmaster();
        return;
      case 2:
        if (machine?.running === true) host.crash(machine, "agent");
        return;
      default:
        if (machine?.running === true) host.pause(machine, random.exponential(host.knobs.leaseMs));
    }
  }

  #someServer(): Server | null {
    return this.#cluster.servers[this.#cluster.random.integer(1, this.#cluster.servers.length - 1)] ?? null;
  }

  #someAgent(): NodeAgent | null {
    const { agents, random, host } = this.#cluster;
    const agent = agents[random.integer(1, agents.length - 1)];
    if (agent === undefined || !agent.machine.running || agent.machine.pausedUntilMs > host.nowMs) return null;
    return agent;
  }

  /** What an operator asks of some node, which sees the cluster as far as it has applied the log. */
  #operate(): void {
    const agent = this.#someAgent();
    if (agent === null) return;
    const { random, knobs } = this.#cluster;
    const dice = random.uniform();
    if (dice < 0.45) this.#failover(agent);
    else if (dice < 0.6) agent.submit({ type: "pause", paused: random.chance(0.5) });
    else if (dice < 0.8) this.#tag(agent);
    else if (knobs.changesMode) {
      agent.submit({ type: "durabilityMode", mode: random.chance(0.6) ? "quorum" : "async" });
    } else this.#failover(agent);
  }

  #failover(agent: NodeAgent): void {
    const { random } = this.#cluster;
    const { state } = agent;
    const { current, phase } = state;
    const others = state.members.filter(({ kind, tags: { nofailover } }) => kind === "data" && !nofailover);
    const target = others.length > 0 && random.chance(0.4) ? random.pick(others).id : null;
    const allowDataLoss = random.chance(0.15);
    if (current === null || phase.kind === "empty" || phase.kind === "promoted") return;
    if (phase.kind === "recruit") {
      agent.submit({ type: "amendRecruit", token: current, target, allowDataLoss, text: "" });
      return;
    }
    if (random.chance(0.6) && !allowDataLoss) agent.submit({ type: "handover", from: current, target });
    else {
      const text = "An operator asked for a failover.";
      agent.submit({ type: "begin", from: current, reason: "operator", target, waitLsn: null, allowDataLoss, text });
    }
  }

  #tag(agent: NodeAgent): void {
    const { random } = this.#cluster;
    const data = agent.state.members.filter(({ kind }) => kind === "data");
    if (data.length === 0) return;
    const member = random.pick(data);
    const { nofailover, nosync } = member.tags;
    const changed = random.chance(this.#cluster.knobs.nofailoverShare)
      ? { nofailover: !nofailover }
      : { nosync: !nosync };
    agent.submit({ type: "updateMember", member: { ...member, tags: { ...member.tags, ...changed } } });
  }

  #changeMembers(): void {
    const agent = this.#someAgent();
    if (agent === null) return;
    const { host, random } = this.#cluster;
    const { members } = agent.state;
    const whole = members.filter(({ id, kind }) => kind === "data" && this.#cluster.servers[id]?.rejoin === null);
    // Who removes the nodes that have the data, or the last primary while there is none, needs no fault to lose them.
    if (random.chance(0.5) && whole.length > 2 && agent.state.phase.kind === "steady") {
      agent.submit({ type: "removeMember", id: random.pick(members).id });
      return;
    }
    if (host.nodes.length > host.maxNodes || this.#added >= 2) return;
    this.#added++;
    const member = newMember(100 + this.#added, "data");
    agent.submit({ type: "addMember", systemIdentifier: "1", serverMajor: 15, member });
  }

  /** After the faults an operator puts right what operators did. */
  repair(agent: NodeAgent): void {
    const { state } = agent;
    this.#acceptLoss(agent);
    for (const member of state.members) {
      const { nofailover, nosync } = member.tags;
      if (nofailover || nosync) agent.submit({ type: "updateMember", member: { ...member, tags } });
    }
  }

  /** Who removed nodes of the set while there was no primary has to say that what only they had may be lost. */
  #acceptLoss(agent: NodeAgent): void {
    const { phase, current, members, durability } = agent.state;
    if (phase.kind !== "recruit" || phase.allowDataLoss || current === null) return;
    if (durability.members.every((id) => members.some((member) => member.id === id))) return;
    agent.submit({ type: "amendRecruit", token: current, target: null, allowDataLoss: true, text: "" });
  }
}
