/** What clients and operators do to the cluster, and the faults that come by the clock. */
import type { ConfOp, NodeId, Status } from "../src/raft/types.js";
import type { Knobs } from "./knobs.js";
import type { SimulatedNode } from "./simulated-node.js";
import { encodeWrite } from "./state-machine.js";
import { EventKind, type World } from "./world.js";

export type ActionName =
  | "write"
  | "read"
  | "membership"
  | "transfer"
  | "campaign"
  | "release"
  | "takeover"
  | "crash"
  | "pause"
  | "partition"
  | "reset";

export interface Action {
  readonly name: ActionName;
  /** Mean true time between two. */
  readonly everyMs: number;
}

/** Goes on after the faults are over: the liveness phase has to serve it. */
const lasting: ReadonlySet<ActionName> = new Set(["write", "read"]);

export function actionsOf(knobs: Knobs): Action[] {
  const actions: Action[] = [
    { name: "write", everyMs: knobs.proposeEveryMs },
    // A schedule without reads still has to serve one at its end.
    { name: "read", everyMs: Math.min(knobs.readEveryMs, 5 * knobs.electionTimeoutMs) },
    { name: "membership", everyMs: knobs.membershipEveryMs },
    { name: "transfer", everyMs: knobs.transferEveryMs },
    { name: "campaign", everyMs: knobs.campaignEveryMs },
    { name: "release", everyMs: knobs.releaseEveryMs },
    { name: "takeover", everyMs: knobs.takeoverEveryMs },
    { name: "crash", everyMs: knobs.crashEveryMs },
    { name: "pause", everyMs: knobs.pauseEveryMs },
    { name: "partition", everyMs: knobs.partition === "none" ? Number.POSITIVE_INFINITY : knobs.partitionEveryMs },
    { name: "reset", everyMs: knobs.resetEveryMs },
  ];
  return actions.filter((action) => Number.isFinite(action.everyMs));
}

export function perform(world: World, { name }: Action): void {
  if (world.healed && !lasting.has(name)) {
    if (name === "membership") leaveJointByHand(world);
    return;
  }
  const atLeader = name === "write" || name === "transfer" || name === "takeover" || world.healed;
  const node = atLeader ? someLeader(world) : someNode(world);
  if (name === "partition") partition(world);
  else if (name === "membership") changeMembership(world);
  else if (node !== null) {
    act(world, node, name);
    if (node.core !== null) world.observe(node);
  }
}

/** What a cluster without faults owes its clients. */
export function serveClients(world: World): void {
  perform(world, { name: "write", everyMs: 0 });
  perform(world, { name: "read", everyMs: 0 });
}

function act(world: World, node: SimulatedNode, name: ActionName): void {
  const random = world.operationsRandom;
  const { knobs } = world;
  if (name === "crash") {
    world.crash(node);
    return;
  }
  if (name === "pause") {
    world.pause(node, random.exponential(knobs.pauseMeanMs));
    return;
  }
  if (node.core === null || node.pausedUntilMs > world.nowMs) return;
  const now = node.now(world.nowMs);
  switch (name) {
    case "write":
      world.propose(node, encodeWrite(world.nextOperation++));
      return;
    case "read": {
      const token = node.core.readIndex(now);
      node.reads.set(`${token.term}.${token.sequence}`, { acknowledged: world.maxAcknowledged });
      world.pump(node);
      return;
    }
    case "transfer": {
      world.marks.transferAsked++;
      node.core.transferLeadership(random.integer(1, world.nodes.length - 1), now);
      world.pump(node);
      return;
    }
    case "campaign":
      world.marks.campaignAsked++;
      node.core.campaign(now);
      world.pump(node);
      return;
    case "release": {
      const holder = world.nodes.find(
        (other) => other !== undefined && other.core !== null && other.word.token.index > 0,
      );
      if (holder !== undefined && holder.pausedUntilMs <= world.nowMs) world.release(holder);
      return;
    }
    case "takeover":
      world.proposeBegin(node);
      return;
    case "reset": {
      world.marks.connectionReset++;
      const peer = random.integer(1, world.nodes.length - 1);
      if (peer !== node.id) world.peerLost(node, peer, 0);
      return;
    }
    default:
      throw new Error(`no such action: ${name}`);
  }
}

/** Mostly the leader, sometimes an older one that still believes it leads. */
function someLeader(world: World): SimulatedNode | null {
  const leaders = world.nodes.filter((node): node is SimulatedNode => node?.leads === true);
  if (leaders.length === 0) return null;
  return world.operationsRandom.pick(leaders);
}

function someNode(world: World): SimulatedNode | null {
  return world.nodes[world.operationsRandom.integer(1, world.nodes.length - 1)] ?? null;
}

function partition(world: World): void {
  world.marks.partitionBegun++;
  world.network.partition(world.nodes.length - 1);
  const forMs = world.operationsRandom.exponential(world.knobs.partitionForMs);
  world.queue.push(world.nowMs + forMs, EventKind.unite, 0, 0, undefined);
}

function changeMembership(world: World): void {
  const leader = someLeader(world);
  if (leader === null || leader.core === null || leader.status === null || leader.pausedUntilMs > world.nowMs) return;
  if (leader.status.config.votersOutgoing.length > 0 && !leader.status.config.autoLeave) {
    leave(world, leader);
    return;
  }
  const ops = drawChange(world, leader.status);
  if (ops.length === 0) return;
  const explicit = ops.length > 1 && world.operationsRandom.chance(0.3);
  propose(world, leader, explicit ? "jointExplicit" : "auto", ops);
}

function drawChange(world: World, status: Status): ConfOp[] {
  const random = world.operationsRandom;
  const { voters, learners } = status.config;
  const learner: NodeId | undefined = learners.length > 0 ? random.pick(learners) : undefined;
  const dice = random.uniform();
  if (learner !== undefined && dice < 0.35) return [{ type: "addVoter", id: learner }];
  if (learner !== undefined && dice < 0.65) {
    return [
      { type: "addVoter", id: learner },
      { type: "remove", id: random.pick(voters) },
    ];
  }
  if (dice < 0.45 && world.nodes.length <= world.maxNodes) return [{ type: "addLearner", id: world.addNode(null) }];
  if (voters.length > 2 && dice < 0.7) return [{ type: "remove", id: random.pick(voters) }];
  if (voters.length > 2 && dice < 0.8) return [{ type: "addLearner", id: random.pick(voters) }];
  return learner !== undefined ? [{ type: "addVoter", id: learner }] : [];
}

function propose(
  world: World,
  leader: SimulatedNode,
  transition: "auto" | "jointExplicit" | "leave",
  ops: readonly ConfOp[],
): void {
  if (leader.core === null) return;
  const result = leader.core.proposeConfChange({ transition, ops }, leader.now(world.nowMs));
  if (result.ok) world.marks.configurationProposed++;
  else world.marks.configurationRefused++;
  world.pump(leader);
  world.observe(leader);
}

function leave(world: World, leader: SimulatedNode): void {
  propose(world, leader, "leave", []);
}

/** An operator who entered a joint configuration by hand also leaves it. */
export function leaveJointByHand(world: World): void {
  const leader = world.leader();
  const config = leader?.status?.config;
  if (leader === null || config === undefined) return;
  if (config.votersOutgoing.length > 0 && !config.autoLeave) leave(world, leader);
}
