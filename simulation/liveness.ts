/**
 * After the faults: what a healed cluster must show, and by when. The schedule ends as soon as all of it is there; the
 * deadlines count from when the last effect of a fault arrived.
 */
import type { NodeId } from "../src/raft/types.js";
import { EventKind } from "./event-kind.js";
import { start } from "./lifecycle.js";
import { leaveJointByHand } from "./operations.js";
import { haltedMembers, replaceHalted } from "./replacement.js";
import type { SimulatedNode } from "./simulated-node.js";
import { Violation } from "./violation.js";
import type { World } from "./world.js";

const electionTimeoutsToElect = 10;
const electionTimeoutsToServe = 30;
const probesPerElectionTimeout = 4;

export class Liveness {
  readonly #world: World;
  #leaderByMs = 0;
  #livelyByMs = 0;
  #led = false;
  /** A voter that the faults leave deaf; 0: none. */
  #deaf = 0;
  #readsAtHeal = 0;
  /** The first write that was acknowledged after the faults; 0: none yet. */
  #wroteAt = 0;

  constructor(world: World) {
    this.#world = world;
  }

  heal(): void {
    const world = this.#world;
    world.healed = true;
    this.#deaf = this.#whoStaysDeaf();
    world.network.heal(this.#deaf);
    for (const node of world.nodes) if (node !== undefined && node.core === null) start(world, node);
    const fromMs = Math.max(world.nowMs, world.latestEffectMs);
    const { electionTimeoutMs, clockRateBound } = world.knobs;
    // Local timeouts run slower on a slow clock.
    const timeoutMs = electionTimeoutMs * (1 + 2 * clockRateBound);
    this.#leaderByMs = fromMs + electionTimeoutsToElect * timeoutMs;
    this.#livelyByMs = fromMs + Math.max(electionTimeoutsToServe * timeoutMs, world.layer.livelyWithinMs ?? 0);
    this.#readsAtHeal = world.marks.readServed;
    world.layer.heal();
    this.#probeAgain();
  }

  /** Often the leader: then the others have to get rid of it although they hear it. One voter, of three or more. */
  #whoStaysDeaf(): NodeId {
    const { knobs, layer, nodes, operationsRandom: random } = this.#world;
    const changes = Number.isFinite(Math.min(knobs.membershipEveryMs, knobs.jointSplitEveryMs));
    const fixedMembers = !changes && !layer.ownsMembership;
    if (!knobs.deafAfterFaults || !fixedMembers || knobs.initialVoters < 3) return 0;
    // One that is deaf and one whose disk is gone could be a majority.
    if (nodes.some((node) => node !== undefined && (node.halted || node.rolledBack !== null))) return 0;
    this.#world.marks.deafAfterFaults++;
    const leader = this.#world.leader();
    return leader !== null && random.chance(0.5) ? leader.id : random.integer(1, knobs.initialVoters);
  }

  acknowledged(index: number): void {
    if (this.#world.healed && this.#wroteAt === 0) this.#wroteAt = index;
  }

  /** Looks whether all is well; true when it is. Throws what is missing at its deadline. */
  probe(): boolean {
    const world = this.#world;
    const missing = this.#missing();
    if (missing === null) return true;
    if (!this.#led && world.nowMs >= this.#leaderByMs) {
      const withinMs = `${electionTimeoutsToElect} election timeouts after the faults`;
      throw new Violation("no-leader", `no leader that commits within ${withinMs}`);
    }
    if (world.nowMs >= this.#livelyByMs) throw new Violation(...missing);
    leaveJointByHand(world);
    replaceHalted(world);
    const leader = world.leader();
    if (leader?.status?.termCommitted === true) world.layer.serve(leader);
    this.#probeAgain();
    return false;
  }

  #probeAgain(): void {
    const world = this.#world;
    const afterMs = world.knobs.electionTimeoutMs / probesPerElectionTimeout;
    world.queue.push(world.nowMs + afterMs, EventKind.probe, 0, 0, undefined);
  }

  /** The code of what is missing, and a sentence; no Violation yet, which would cost a stack trace at every probe. */
  #missing(): readonly [code: string, text: string] | null {
    const world = this.#world;
    const status = world.leader()?.status ?? null;
    if (status?.termCommitted !== true) return ["no-leader", "no leader after the faults"];
    this.#led = true;
    if (this.#wroteAt === 0) return ["no-write", "no proposal was acknowledged after the faults"];
    if (world.marks.readServed === this.#readsAtHeal) return ["no-read", "no read was served after the faults"];
    const { voters, votersOutgoing, learners } = status.config;
    if (votersOutgoing.length > 0) return ["joint-for-ever", "the configuration is still joint"];
    if (!voters.includes(status.id)) return ["leader-removed", `node ${status.id} leads without a vote`];
    const halted = haltedMembers(world, [...voters, ...learners]);
    if (halted.length > 0 && !world.layer.ownsMembership)
      return ["not-replaced", `members ${halted.join(", ")} halted and are members still`];
    for (const id of [...voters, ...learners]) {
      if (id === this.#deaf) continue;
      const behind = this.#behind(world.nodes[id]);
      if (behind !== null) return ["member-behind", behind];
    }
    const missing = world.layer.lively();
    return missing === null ? null : ["not-lively", missing];
  }

  #behind(node: SimulatedNode | undefined): string | null {
    if (node === undefined || node.halted || (node.core !== null && node.applied >= this.#wroteAt)) return null;
    return `member ${node.id} has applied ${node.applied}, a write after the faults is at ${this.#wroteAt}`;
  }
}
