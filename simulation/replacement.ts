/**
 * Disks that are lost or damaged. The node halts and never comes back under its id; the operator adds an empty machine
 * in its place, like the product's join. Only as many as leave a majority of intact disks in every configuration that
 * may come into force: what is demanded after the faults must be possible.
 */
import type { ConfOp } from "../src/raft/types.js";
import { configurationDigest } from "./digest.js";
import { type Damage, damages } from "./disk-image.js";
import { rolledBack } from "./rollback.js";
import type { SimulatedNode } from "./simulated-node.js";
import type { World } from "./world.js";

/** @returns false when the node must not start. */
export function readDisk(world: World, node: SimulatedNode): boolean {
  const { knobs, diskRandom: random, marks, faults } = world;
  if (rolledBack(world, node)) return true;
  const exposed = !world.healed && (knobs.diskLossChance > 0 || knobs.damageChance > 0) && mayLose(world, node);
  if (exposed && random.chance(knobs.diskLossChance) && world.injects("diskLoss", node.id)) {
    marks.diskLost++;
    if (faults.disk.keepLostIdentity) node.disk.wipe();
    else halt(world, node, "its disk is lost");
    return !node.halted;
  }
  const damage =
    exposed && random.chance(knobs.damageChance) && world.injects("damage", node.id)
      ? random.pick<Damage | "snapshot">([...damages, "snapshot"])
      : null;
  if (node.disk.recover(damage, random)) {
    if (damage !== null) marks.damageHarmless++;
    return true;
  }
  if (damage === "snapshot") marks.snapshotDamageRefused++;
  else marks.damageRefused++;
  halt(world, node, `its disk is damaged (${damage})`);
  return false;
}

export function halt(world: World, node: SimulatedNode, why: string): void {
  world.note(`node ${node.id} halts: ${why}`);
  node.halted = true;
  world.layer.nodeHalted?.(node);
}

/** Whether the others can go on for ever without this node's disk, whatever configuration any of them knows of. */
export function mayLose(world: World, node: SimulatedNode): boolean {
  const { layer, checker, nodes } = world;
  if (layer.ownsMembership && layer.nodeHalted === undefined) return false;
  const committed = checker.configurations.at(-1);
  if (committed === undefined || committed.config.votersOutgoing.length > 0) return false;
  for (const other of nodes) {
    if (other === undefined || other.halted || other.disk.snapshot.index === 0) continue;
    if (other.disk.mayHoldConfigurationAfter(committed.index)) return false;
    if (other.running && other.seen.configurationAfter(committed.index)) return false;
    if (
      other.running &&
      other.seen.commit >= committed.index &&
      configurationDigest(other.seen.config) !== committed.digest
    )
      return false;
  }
  const { voters } = committed.config;
  const lost = voters.filter((id) => id === node.id || nodes[id]?.halted === true).length;
  return 2 * lost < voters.length;
}

/** The voters and learners that never come back. */
export function haltedMembers(world: World, members: readonly number[]): number[] {
  return members.filter((id) => world.nodes[id]?.halted === true);
}

/** One step of replacing a member that halted; true when there was one to take. */
export function replaceHalted(world: World): boolean {
  const leader = world.leader();
  const config = leader?.status?.config;
  if (leader === null || config === undefined || world.layer.ownsMembership) return false;
  const halted = haltedMembers(world, [...config.voters, ...config.learners])[0];
  if (halted === undefined) return false;
  if (config.votersOutgoing.length > 0) return true;
  const substitute = config.learners.find((id) => world.nodes[id]?.halted === false);
  const ops: ConfOp[] = [{ type: "remove", id: halted }];
  if (config.voters.includes(halted)) {
    if (substitute !== undefined) ops.unshift({ type: "addVoter", id: substitute });
    else {
      const id = world.addMachine();
      if (id !== 0) {
        world.changeConfiguration(leader, { transition: "auto", ops: [{ type: "addLearner", id }] });
        return true;
      }
    }
  }
  const { ok } = world.changeConfiguration(leader, { transition: "auto", ops });
  if (ok && substitute !== undefined) world.marks.memberReplaced++;
  return true;
}
