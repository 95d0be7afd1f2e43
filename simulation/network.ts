/**
 * The faulty network: says for each message whether and when it arrives (once, twice, long after, never) and which
 * links are cut. Cuts act at the moment of sending; what is already under way still arrives.
 */
import type { Injector } from "./injector.js";
import type { Knobs, PartitionStyle } from "./knobs.js";
import type { Marks } from "./marks.js";
import type { Random } from "./random.js";

export class Network {
  readonly #knobs: Knobs;
  readonly #random: Random;
  readonly #marks: Marks;
  readonly #injector: Injector;
  readonly #size: number;
  readonly #cut: Uint8Array;
  /** Arrival time of the newest message of each link, for links that keep their order. */
  readonly #lastArrivalMs: Float64Array;
  #healed = false;
  /** Hears nobody even in a healed network; 0: there is none. */
  #deaf = 0;

  /** Set by `route`: up to two arrival times; negative: lost. */
  arrivalMs = -1;
  duplicateArrivalMs = -1;

  constructor(knobs: Knobs, random: Random, marks: Marks, injector: Injector, maxNodes: number) {
    this.#knobs = knobs;
    this.#random = random;
    this.#marks = marks;
    this.#injector = injector;
    this.#size = maxNodes + 1;
    this.#cut = new Uint8Array(this.#size * this.#size);
    this.#lastArrivalMs = new Float64Array(this.#size * this.#size);
  }

  route(from: number, to: number, nowMs: number, calm = false): void {
    const knobs = this.#knobs;
    const random = this.#random;
    this.arrivalMs = -1;
    this.duplicateArrivalMs = -1;
    if (this.#healed || calm) {
      if (this.#healed && to === this.#deaf) return;
      this.arrivalMs = nowMs + 0.1 + random.uniform();
      return;
    }
    const link = from * this.#size + to;
    if (this.#cut[link] !== 0 || (random.chance(knobs.lossChance) && this.#injector.allows("loss", from, to))) {
      this.#marks.messageLost++;
      return;
    }
    let at = nowMs + 0.05 + random.exponential(knobs.delayMeanMs);
    if (random.chance(knobs.tailChance)) {
      const more = random.exponential(knobs.tailMeanMs);
      if (this.#injector.allows("tail", from, to)) {
        at += more;
        this.#marks.messageInTail++;
      }
    }
    if (knobs.ordered) {
      at = Math.max(at, this.#lastArrivalMs[link] as number);
      this.#lastArrivalMs[link] = at;
    }
    this.arrivalMs = at;
    if (random.chance(knobs.duplicateChance)) {
      const later = random.exponential(knobs.duplicateDelayMs);
      if (this.#injector.allows("duplicate", from, to)) {
        this.duplicateArrivalMs = at + later;
        this.#marks.messageDuplicated++;
      }
    }
  }

  linked(from: number, to: number): boolean {
    return from === to || this.#cut[from * this.#size + to] === 0;
  }

  /**
   * Cuts some links in the style of this schedule among the nodes 1..count. Who is cut off alone is often `leader`: it
   * is the one that has something to lose.
   */
  partition(count: number, leader: number): void {
    this.#cut.fill(0);
    const random = this.#random;
    const { partition } = this.#knobs;
    this.#count(partition);
    if (partition === "partial") {
      // Any set of one-way links: bridges, rings, a node that hears but is not heard.
      const density = random.between(0.1, 0.6);
      for (let from = 1; from <= count; from++) {
        for (let to = 1; to <= count; to++) if (from !== to && random.chance(density)) this.#cutLink(from, to);
      }
      return;
    }
    if (partition === "bridge") {
      this.#bridge(count);
      return;
    }
    const side = new Uint8Array(count + 1);
    if (partition === "isolate" || random.chance(0.3))
      side[leader !== 0 && random.chance(0.5) ? leader : random.integer(1, count)] = 1;
    else for (let node = 1; node <= count; node++) side[node] = random.chance(0.5) ? 1 : 0;
    this.#cutBetween(side, partition === "one-way");
  }

  /** Cuts these nodes off from all others. */
  split(count: number, together: readonly number[]): void {
    this.#cut.fill(0);
    this.#marks.partitionJoint++;
    const side = new Uint8Array(count + 1);
    for (const node of together) side[node] = 1;
    this.#cutBetween(side, false);
  }

  #cutBetween(side: Uint8Array, oneWay: boolean): void {
    for (let from = 1; from < side.length; from++) {
      for (let to = 1; to < side.length; to++) {
        if (side[from] === 1 && side[to] === 0) {
          this.#cutLink(from, to);
          if (!oneWay) this.#cutLink(to, from);
        }
      }
    }
  }

  #count(partition: PartitionStyle): void {
    const marks = this.#marks;
    if (partition === "symmetric") marks.partitionSymmetric++;
    else if (partition === "one-way") marks.partitionOneWay++;
    else if (partition === "partial") marks.partitionPartial++;
    else if (partition === "bridge") marks.partitionBridge++;
    else if (partition === "isolate") marks.partitionIsolate++;
  }

  /** Two sides that hear each other only through one node in the middle. */
  #bridge(count: number): void {
    const middle = this.#random.integer(1, count);
    const side = Array.from({ length: count + 1 }, () => this.#random.chance(0.5));
    for (let from = 1; from <= count; from++) {
      for (let to = 1; to <= count; to++) {
        if (from !== middle && to !== middle && side[from] !== side[to]) this.#cutLink(from, to);
      }
    }
  }

  unite(): void {
    this.#cut.fill(0);
  }

  /** From here on: no loss, no cuts but of what goes to `deaf`, short delays, order as sent or nearly so. */
  heal(deaf: number): void {
    this.unite();
    this.#healed = true;
    this.#deaf = deaf;
  }

  #cutLink(from: number, to: number): void {
    this.#cut[from * this.#size + to] = 1;
  }
}
