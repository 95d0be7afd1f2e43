/**
 * Disks that come back older than they were, under the same id and incarnation (R51, docs/raft-rules.md says what is
 * covered). Injected where the product promises to notice: a leader lives that had counted on what is forgotten, and all
 * are reachable. For some election timeouts no other fault begins; by their end the node must have stopped.
 */
import type { PersistentState } from "../src/raft/types.js";
import type { Disk } from "./disk.js";
import { EventKind } from "./event-kind.js";
import { tellPeers } from "./lifecycle.js";
import { halt, mayLose } from "./replacement.js";
import type { SimulatedNode } from "./simulated-node.js";
import { Violation } from "./violation.js";
import type { World } from "./world.js";

/** A rolled-back node gives no vote for so long (`restartGraceMs`), and no other fault begins. */
export const calmElectionTimeouts = 3;

/** Whether the disk that is about to be read is an older one. */
export function rolledBack(world: World, node: SimulatedNode): boolean {
  const { knobs, diskRandom } = world;
  if (world.calm || !diskRandom.chance(knobs.rollbackChance)) return false;
  const { older } = node.disk;
  const leader = world.leader();
  if (older === null || leader === null || !mayBeNoticed(world, node, leader)) return false;
  if (!mayLose(world, node) || !world.injects("rollback", node.id)) return false;
  world.marks.diskRolledBack++;
  world.note(`the disk of node ${node.id} is rolled back`);
  world.checker.rolledBack(node.id);
  const forgotten = node.disk.read();
  node.disk.rollBack(older);
  node.rolledBack = { leaderTerm: leader.term, forgotten };
  world.network.unite();
  world.calmUntilMs = world.nowMs + calmElectionTimeouts * knobs.electionTimeoutMs;
  world.queue.push(world.calmUntilMs, EventKind.calmOver, 0, 0, node);
  return true;
}

/** The leader of the term in which this node last acknowledged anything lives, as do all others. */
function mayBeNoticed(world: World, node: SimulatedNode, leader: SimulatedNode): boolean {
  const { disk } = node;
  const progress = leader.status?.progress.find(({ id }) => id === node.id);
  const older = disk.older;
  if (progress === undefined || older === null || leader.term !== disk.hardState.term) return false;
  if (progress.match <= older.snapshot.index + older.entries.length) return false;
  return world.nodes.every(
    (other) =>
      other === undefined || other === node || other.halted || (other.running && other.pausedUntilMs <= world.nowMs),
  );
}

/** Its peers have told it: it ends, and its id with it. */
export function stopRolledBack(world: World, node: SimulatedNode): void {
  world.marks.rolledBackStopped++;
  end(world, node);
}

function end(world: World, node: SimulatedNode): void {
  node.die();
  world.layer.nodeCrashed(node, "agent");
  halt(world, node, "its disk was rolled back");
  tellPeers(world, node.id);
}

/**
 * The leader that knows better is gone, or the node acts before it was told (its vote waits for the disk, so that nothing
 * of it has left yet): from here on the rule promises nothing, and nothing more is tried.
 */
export function endIfUnproven(world: World, node: SimulatedNode): boolean {
  if (node.rolledBack === null) return false;
  const { leaderTerm } = node.rolledBack;
  const { role, term, vote } = node.seen;
  const { hardState } = node.disk;
  const votes = term === hardState.term && vote !== hardState.vote;
  const waits = role === "follower" && term <= leaderTerm && !votes;
  if (waits && world.leader()?.term === leaderTerm) return false;
  world.marks.rolledBackUnproven++;
  end(world, node);
  return true;
}

export function checkRollback(world: World, node: SimulatedNode): void {
  if (node.halted || node.rolledBack === null) return;
  if (endIfUnproven(world, node)) return;
  // Paused all the time, or what was on its way has filled the gap before anybody could tell, and with the log complete there is nothing to tell;
  // a forgotten vote alone is not covered.
  if (node.pausedUntilMs > world.nowMs || holdsAgain(node.disk, node.rolledBack.forgotten)) {
    world.marks.rolledBackUnproven++;
    end(world, node);
    return;
  }
  throw new Violation("rollback-unnoticed", `node ${node.id} still runs on a disk that was rolled back`);
}

function holdsAgain(disk: Disk, { hardState, snapshot, entries }: PersistentState): boolean {
  const last = entries.at(-1) ?? snapshot;
  return (
    disk.hardState.term >= hardState.term &&
    (disk.snapshot.index >= last.index || disk.termAt(last.index) === last.term)
  );
}
