/** One node's loop: what its core wants done, through disk and network, and back (the product's is src/agent). */
import type { RaftNode, ReadState, Ready } from "../src/raft/types.js";
import type { DiskWrite } from "./disk.js";
import { EventKind } from "./event-kind.js";
import { crash } from "./lifecycle.js";
import type { SimulatedNode } from "./simulated-node.js";
import { Violation } from "./violation.js";
import type { World } from "./world.js";

const mostReadiesAtOnce = 10_000;

/** Takes out what the core wants done, until it waits for the disk or wants nothing. */
export function pump(world: World, node: SimulatedNode): void {
  for (let taken = 0; node.core !== null && node.job === null && node.core.hasReady(); taken++) {
    if (taken > mostReadiesAtOnce) throw new Violation("never-idle", `node ${node.id} always has something to do`);
    const ready = node.core.ready();
    if (ready.entries.length > 0) {
      // A commit may have caused these entries (a joint configuration left by itself): see it first.
      world.refresh(node);
      world.checker.appending(node.id, ready, node.seen);
    }
    for (const message of ready.messages) world.sendRaft(message, node);
    if (ready.hardState !== undefined || ready.entries.length > 0 || ready.snapshot !== undefined) {
      node.job = { kind: "ready", ready };
      startWrite(world, node, ready);
      return;
    }
    finish(world, node, node.core, ready);
  }
}

function startWrite(world: World, node: SimulatedNode, write: DiskWrite): void {
  if (crashHere(world, node)) {
    world.marks.crashBeforeWrite++;
    crash(world, node);
    return;
  }
  node.disk.begin(write);
  node.jobSinceMs = node.now(world.nowMs);
  const afterMs = diskDelay(world, node, world.knobs.writeMeanMs);
  world.queue.push(world.nowMs + afterMs, EventKind.written, node.id, node.life, write);
  world.effect(world.nowMs + afterMs);
}

export function written(world: World, node: SimulatedNode, write: DiskWrite): void {
  if (!write.mustSync) {
    // Nothing depends on it: it may be lost, and is visible to this process only through the core.
    jobDone(world, node);
    return;
  }
  if (diskFails(world, node)) {
    // A full disk, or a medium that is gone: the part that was written stays (R46).
    world.marks.writeFailed++;
    crash(world, node, "agent");
    return;
  }
  node.disk.written();
  if (crashHere(world, node)) {
    world.marks.crashBeforeSync++;
    crash(world, node);
    return;
  }
  const afterMs = diskDelay(world, node, world.knobs.syncMeanMs);
  world.queue.push(world.nowMs + afterMs, EventKind.synced, node.id, node.life, undefined);
  world.effect(world.nowMs + afterMs);
}

export function synced(world: World, node: SimulatedNode): void {
  if (!diskFails(world, node)) node.disk.sync();
  else {
    world.marks.syncFailed++;
    if (!world.faults.disk.ignoreSyncError) {
      // What is on the medium after that is anybody's guess, and final for this process (R46).
      crash(world, node, "agent", "machine");
      return;
    }
    node.disk.dropUnsynced();
  }
  jobDone(world, node);
}

function diskFails(world: World, node: SimulatedNode): boolean {
  if (world.calm || !world.diskRandom.chance(world.knobs.diskErrorChance)) return false;
  return world.injects("diskError", node.id);
}

function jobDone(world: World, node: SimulatedNode): void {
  const { job, core } = node;
  if (job === null || core === null) throw new Error(`node ${node.id} has no disk operation in flight`);
  if (crashHere(world, node)) {
    world.marks.crashBeforeSend++;
    crash(world, node);
    return;
  }
  node.job = null;
  if (job.kind === "ready") finish(world, node, core, job.ready);
  pump(world, node);
}

function crashHere(world: World, node: SimulatedNode): boolean {
  if (world.calm || !world.crashRandom.chance(world.knobs.boundaryCrashChance)) return false;
  return world.injects("boundaryCrash", node.id);
}

function diskDelay(world: World, node: SimulatedNode, meanMs: number): number {
  if (world.calm) return 0.1;
  const { stallChance, stallMeanMs } = world.knobs;
  const base = world.diskRandom.exponential(meanMs);
  if (!world.diskRandom.chance(stallChance)) return base;
  const stallMs = world.diskRandom.exponential(stallMeanMs);
  return world.injects("stall", node.id) ? base + stallMs : base;
}

function finish(world: World, node: SimulatedNode, core: RaftNode, ready: Ready): void {
  for (const message of ready.messagesAfterPersist) world.sendRaft(message, node);
  apply(world, node, ready);
  core.advance(ready);
  for (const read of ready.readStates) readReady(world, node, read);
  if (ready.committedEntries.length === 0 && ready.snapshot === undefined) return;
  world.layer.progressed(node);
  compact(world, node, core);
}

function apply(world: World, node: SimulatedNode, ready: Ready): void {
  const { layer, checker } = world;
  if (ready.snapshot !== undefined) {
    world.marks.snapshotInstalled++;
    const { index, data } = ready.snapshot;
    node.applied = index;
    layer.restored(node, data);
    checker.installed(node.id, index, layer.digest(node));
  }
  for (const entry of ready.committedEntries) {
    if (entry.index !== node.applied + 1) {
      throw new Violation("applied-gap", `node ${node.id} applies ${entry.index} after ${node.applied}`);
    }
    node.applied = entry.index;
    layer.applied(node, entry);
    checker.applied(node.id, entry, layer.digest(node));
    const proposedIn = node.proposals.get(entry.index);
    if (proposedIn === undefined) continue;
    node.proposals.delete(entry.index);
    if (proposedIn === entry.term) world.acknowledged(node, entry.index);
    else world.proposalLost(node, entry.index);
  }
}

function readReady(world: World, node: SimulatedNode, { token, index }: ReadState): void {
  const key = readKey(token.term, token.sequence);
  const read = node.reads.get(key);
  if (read !== undefined) {
    node.reads.delete(key);
    if (index < read.acknowledged) {
      const told = `${read.acknowledged} was acknowledged before`;
      throw new Violation("stale-read", `node ${node.id} reads at ${index}, ${told}`);
    }
    world.marks.readServed++;
    if (!node.leads) world.marks.readForwarded++;
  }
  world.layer.readState(node, token, index);
}

export function readKey(term: number, sequence: number): string {
  return `${term}.${sequence}`;
}

function compact(world: World, node: SimulatedNode, core: RaftNode): void {
  const { compactEvery } = world.knobs;
  if (compactEvery === 0 || node.applied - node.disk.snapshot.index < compactEvery || node.job !== null) return;
  // The layer may have ended the process.
  if (node.core !== core) return;
  // A snapshot from the leader is on its way to the disk: what is applied here is history already.
  world.refresh(node);
  if (node.seen.firstIndex > node.applied + 1) return;
  const snapshot = core.compact(node.applied, world.layer.encodeSnapshot(node));
  world.marks.compacted++;
  node.job = { kind: "compaction" };
  startWrite(world, node, { entries: [], snapshot, mustSync: true, compaction: true });
}
