/** Machines and their processes: added, started, crashed, paused. */
import { createRaftNode } from "../src/raft/index.js";
import type { NodeId, PersistentState } from "../src/raft/types.js";
import { Disk } from "./disk.js";
import { EventKind } from "./event-kind.js";
import type { Scope } from "./layer.js";
import { pump } from "./node-loop.js";
import { Random } from "./random.js";
import { readDisk } from "./replacement.js";
import { calmElectionTimeouts } from "./rollback.js";
import { SimulatedNode } from "./simulated-node.js";
import type { World } from "./world.js";

/** Rates stay inside the bound, not on it: times are floats here. */
const safely = 0.9999;

/** A clock changes its rate, within the bound: temperature, or a time daemon that slews it. */
export function changeClockRate(world: World, node: SimulatedNode): void {
  // Asleep, both clocks of the machine have to agree on how long.
  if (node.pausedUntilMs > world.nowMs) return;
  world.marks.clockRateChanged++;
  node.setClockRate(1 + world.clockRandom.between(-1, 1) * world.knobs.clockRateBound * safely, world.nowMs);
}

/** Adds a machine; without a state it is an empty one that waits to be told. */
export function addNode(world: World, initial: PersistentState | null, id: NodeId = world.nodes.length): NodeId {
  const { clockRateBound, clockExtremes } = world.knobs;
  const random = world.clockRandom;
  const deviation = clockExtremes ? random.pick([-1, 1]) : random.between(-1, 1);
  const none = { voters: [], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
  const empty: PersistentState = {
    hardState: { term: 0, vote: 0, commit: 0 },
    snapshot: { index: 0, term: 0, config: none, data: new Uint8Array(0) },
    entries: [],
  };
  const disk = new Disk(id, initial ?? empty, world.checker, world.marks);
  const rate = 1 + deviation * clockRateBound * safely;
  const offsetMs = random.integer(1000, 1_000_000);
  const node = new SimulatedNode(id, disk, rate, offsetMs, new Random(world.seed, 100 + id));
  world.nodes[id] = node;
  world.disks[id] = disk;
  world.layer.nodeAdded(node);
  start(world, node);
  return id;
}

export function start(world: World, node: SimulatedNode): void {
  const { knobs } = world;
  if (node.halted) return;
  if (node.life > 0) {
    if (!readDisk(world, node)) return;
    world.marks.restart++;
  }
  // What is tried is the proof by heartbeats, not whether one of them comes through in the agent's shorter grace.
  const restartGrace = node.rolledBack === null ? knobs.restartGrace : calmElectionTimeouts;
  const initial = node.disk.read();
  const core = createRaftNode({
    id: node.id,
    electionTimeoutMs: knobs.electionTimeoutMs,
    heartbeatIntervalMs: knobs.heartbeatIntervalMs,
    random: () => node.random.uniform(),
    maxBytesPerAppend: knobs.maxBytesPerAppend,
    maxInflightAppends: knobs.maxInflightAppends,
    maxUncommittedBytes: knobs.maxUncommittedBytes,
    restartGraceMs: node.life > 0 ? Math.floor(restartGrace * knobs.electionTimeoutMs) : 0,
    initial,
  });
  node.core = core;
  node.seen.take(core);
  node.applied = node.disk.snapshot.index;
  world.checker.started(node.id, node.seen);
  core.tick(node.now(world.nowMs));
  scheduleTick(world, node);
  world.layer.nodeStarted(node, node.disk.snapshot.data);
  pump(world, node);
  world.observe(node);
}

/**
 * @param scope the process, or the machine with it; null: the schedule's knob decides.
 * @param cache what becomes of the disk's cache, where that is not the same.
 */
export function crash(world: World, node: SimulatedNode, scope: Scope | null = null, cache = scope): void {
  if (node.core === null) return;
  // It may have committed and told others within the very event that ends it.
  world.observe(node);
  world.marks.crash++;
  const whole = scope === null ? world.crashRandom.chance(world.knobs.hostCrashChance) : scope === "machine";
  if (whole) world.marks.machineCrash++;
  if (world.knobs.rollbackChance > 0 && world.crashRandom.chance(0.5)) node.disk.keepImage();
  node.disk.crash(world.diskRandom, cache ?? (whole ? "machine" : "agent"));
  node.die();
  if (whole) node.machineLife++;
  world.note(`crash of ${whole ? "machine" : "agent"} ${node.id}`);
  world.layer.nodeCrashed(node, whole ? "machine" : "agent");
  const afterMs = world.healed
    ? world.knobs.electionTimeoutMs / 10
    : world.crashRandom.exponential(world.knobs.restartMeanMs);
  world.queue.push(world.nowMs + afterMs, EventKind.restart, node.id, node.life, undefined);
  tellPeers(world, node.id);
}

/** The others see the connection end, if the network lets them. */
export function tellPeers(world: World, lost: NodeId): void {
  for (const other of world.nodes) {
    if (other === undefined || other.id === lost || other.core === null) continue;
    if (world.crashRandom.chance(0.7)) peerLost(world, other, lost, world.crashRandom.exponential(2));
  }
}

export function peerLost(world: World, node: SimulatedNode, peer: NodeId, afterMs: number): void {
  world.queue.push(world.nowMs + afterMs, EventKind.peerLost, node.id, node.life, peer);
}

export function pause(world: World, node: SimulatedNode, forMs: number): void {
  world.marks.pause++;
  const fromMs = Math.max(node.pausedUntilMs, world.nowMs);
  const untilMs = Math.max(fromMs, world.nowMs + forMs);
  node.pausedUntilMs = untilMs;
  if (world.crashRandom.chance(world.knobs.suspendChance)) {
    world.marks.suspend++;
    node.suspend(untilMs - fromMs);
  }
  world.effect(node.pausedUntilMs);
  world.layer.nodePaused(node, forMs);
}

export function scheduleTick(world: World, node: SimulatedNode): void {
  const { tickIntervalMs, tickJitter } = world.knobs;
  let afterMs = node.trueMs(tickIntervalMs);
  if (tickJitter > 0 && !world.healed) afterMs += world.clockRandom.exponential(tickJitter * tickIntervalMs);
  world.queue.push(world.nowMs + afterMs, EventKind.tick, node.id, node.life, undefined);
}
