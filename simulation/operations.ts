/** What operators do to the Raft cluster, and the faults that come by the clock. */
import type { ConfOp, NodeId, Status } from "../src/raft/types.js";
import { EventKind } from "./event-kind.js";
import type { Knobs } from "./knobs.js";
import type { Host, Layer, Machine } from "./layer.js";
import { changeClockRate, crash, pause, peerLost } from "./lifecycle.js";
import { haltedMembers, replaceHalted } from "./replacement.js";
import type { SimulatedNode } from "./simulated-node.js";
import type { World } from "./world.js";

/** A split along the halves of a joint configuration lasts this long, and on average as much again. */
const splitElectionTimeouts = 3;

export type ActionName =
  | "membership"
  | "jointSplit"
  | "transfer"
  | "campaign"
  | "crash"
  | "pause"
  | "partition"
  | "reset"
  | "clock"
  | "replace";

export interface Action {
  readonly name: ActionName;
  /** Mean true time between two. */
  readonly everyMs: number;
}

export function actionsOf(knobs: Knobs, layer: Layer): Action[] {
  const never = Number.POSITIVE_INFINITY;
  const actions: Action[] = [
    { name: "membership", everyMs: layer.ownsMembership ? never : knobs.membershipEveryMs },
    { name: "jointSplit", everyMs: layer.ownsMembership ? never : knobs.jointSplitEveryMs },
    { name: "transfer", everyMs: knobs.transferEveryMs },
    { name: "campaign", everyMs: knobs.campaignEveryMs },
    { name: "crash", everyMs: knobs.crashEveryMs },
    { name: "pause", everyMs: knobs.pauseEveryMs },
    { name: "partition", everyMs: knobs.partition === "none" ? never : knobs.partitionEveryMs },
    { name: "reset", everyMs: knobs.resetEveryMs },
    { name: "clock", everyMs: knobs.clockRateBound === 0 ? never : knobs.clockChangeEveryMs },
    { name: "replace", everyMs: knobs.diskLossChance + knobs.damageChance > 0 ? knobs.electionTimeoutMs : never },
  ];
  return actions.filter((action) => Number.isFinite(action.everyMs));
}

export function perform(world: World, { name }: Action): void {
  if (world.calm) return;
  if (name === "partition") partition(world);
  else if (name === "membership") changeMembership(world);
  else if (name === "jointSplit") replaceInSplit(world);
  else if (name === "replace") replaceHalted(world);
  else {
    const node = name === "transfer" ? someLeader(world) : someNode(world);
    if (node !== null) act(world, node, name);
  }
}

function act(world: World, node: SimulatedNode, name: ActionName): void {
  const random = world.operationsRandom;
  if (name === "crash") {
    if (node.core !== null && world.injects(name, node.id)) crash(world, node);
    return;
  }
  if (name === "clock") {
    if (world.injects(name, node.id)) changeClockRate(world, node);
    return;
  }
  if (name === "pause") {
    const forMs = random.exponential(world.knobs.pauseMeanMs);
    if (world.injects(name, node.id)) pause(world, node, forMs);
    return;
  }
  if (node.core === null || node.pausedUntilMs > world.nowMs || !world.injects(name, node.id)) return;
  if (name === "transfer") world.transferLeadership(node, random.integer(1, world.nodes.length - 1));
  else if (name === "campaign") world.campaign(node);
  else if (name === "reset") {
    world.marks.connectionReset++;
    const peer = random.integer(1, world.nodes.length - 1);
    if (peer !== node.id) peerLost(world, node, peer, 0);
  }
}

/** Mostly the leader, sometimes an older one that still believes it leads; null when none does, or it is paused. */
export function someLeader<Node extends Machine>(
  host: Host & { readonly nodes: ReadonlyArray<Node | undefined> },
): Node | null {
  const leaders = host.nodes.filter((node): node is Node => node?.leads === true);
  return leaders.length === 0 ? null : host.operationsRandom.pick(leaders);
}

function someNode(world: World): SimulatedNode | null {
  return world.nodes[world.operationsRandom.integer(1, world.nodes.length - 1)] ?? null;
}

function partition(world: World): void {
  const leader = someLeader(world)?.id ?? 0;
  const forMs = world.operationsRandom.exponential(world.knobs.partitionForMs);
  if (!world.injects("partition", leader)) return;
  world.network.partition(world.nodes.length - 1, leader);
  world.queue.push(world.nowMs + forMs, EventKind.unite, 0, 0, undefined);
}

function changeMembership(world: World): void {
  const leader = someLeader<SimulatedNode>(world);
  if (leader === null || leader.status === null || leader.pausedUntilMs > world.nowMs) return;
  if (!world.injects("membership", leader.id)) return;
  const { config } = leader.status;
  // A member that never comes back is replaced first: another change could leave no majority of those that do.
  if (haltedMembers(world, [...config.voters, ...config.votersOutgoing, ...config.learners]).length > 0) return;
  if (config.votersOutgoing.length > 0 && !config.autoLeave) {
    world.changeConfiguration(leader, { transition: "leave", ops: [] });
    return;
  }
  const ops = drawChange(world, leader.status);
  if (ops.length === 0) return;
  const explicit = ops.length > 1 && world.operationsRandom.chance(0.3);
  world.changeConfiguration(leader, { transition: explicit ? "jointExplicit" : "auto", ops });
}

/**
 * Replaces a voter; the network comes apart before the joint configuration is known to many: the leader and just a
 * majority of the new voters here, where it is known, and there, where it is not, a majority of the old ones when their
 * number is odd. Each side goes without the other for elections to come about.
 */
function replaceInSplit(world: World): void {
  const leader = someLeader<SimulatedNode>(world);
  const config = leader?.status?.config;
  if (leader === null || config === undefined || leader.pausedUntilMs > world.nowMs) return;
  const { voters, votersOutgoing, learners } = config;
  if (votersOutgoing.length > 0 || haltedMembers(world, [...voters, ...learners]).length > 0) return;
  const random = world.operationsRandom;
  const joining = learners[0];
  if (joining === undefined) {
    const id = world.injects("jointSplit", leader.id) ? world.addMachine() : 0;
    if (id !== 0) world.changeConfiguration(leader, { transition: "auto", ops: [{ type: "addLearner", id }] });
    return;
  }
  const others = voters.filter((id) => id !== leader.id);
  if (others.length < 2) return;
  const leaving = random.pick(others);
  const forMs = world.knobs.electionTimeoutMs * (splitElectionTimeouts + random.exponential(splitElectionTimeouts));
  if (!world.injects("jointSplit", leader.id)) return;
  const ops: ConfOp[] = [
    { type: "addVoter", id: joining },
    { type: "remove", id: leaving },
  ];
  if (!world.changeConfiguration(leader, { transition: "auto", ops }).ok) return;
  const staying = others.filter((id) => id !== leaving);
  const majority = (voters.length >> 1) + 1;
  world.network.split(world.nodes.length - 1, [leader.id, joining, ...staying].slice(0, majority));
  world.queue.push(world.nowMs + forMs, EventKind.unite, 0, 0, undefined);
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
  if (dice < 0.45) {
    const id = world.addMachine();
    if (id !== 0) return [{ type: "addLearner", id }];
  }
  if (voters.length > 1 && dice < 0.7) return [{ type: "remove", id: random.pick(voters) }];
  if (voters.length > 2 && dice < 0.8) return [{ type: "addLearner", id: random.pick(voters) }];
  return learner !== undefined ? [{ type: "addVoter", id: learner }] : [];
}

/** An operator who entered a joint configuration by hand also leaves it. */
export function leaveJointByHand(world: World): void {
  const leader = world.leader();
  const config = leader?.status?.config;
  if (leader === null || config === undefined) return;
  if (config.votersOutgoing.length > 0 && !config.autoLeave)
    world.changeConfiguration(leader, { transition: "leave", ops: [] });
}
