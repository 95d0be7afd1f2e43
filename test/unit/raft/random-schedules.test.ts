/** Random schedules against the core with the safety properties of the paper (figure 3) checked throughout. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { ConfChange, Entry, Message } from "../../../src/raft/index.js";
import { Network, seeded } from "./network.js";

class Schedule {
  readonly net: Network;
  readonly random: () => number;
  readonly committed = new Map<number, Entry>();
  readonly leaderOfTerm = new Map<number, number>();
  readonly flight: Message[] = [];

  constructor(seed: number) {
    this.random = seeded(seed);
    this.net = new Network([1, 2, 3], undefined, seed + 1);
    for (const id of [4, 5]) this.net.add(id);
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.random() * items.length)] as T;
  }

  /** One machine handles its Ready, perhaps losing its power before or after the disk was written. */
  pump(id: number): void {
    const machine = this.net.get(id);
    if (!machine.up || !machine.node.hasReady()) return;
    if (this.random() < 0.01) {
      const lost = machine.node.ready();
      this.flight.push(...lost.messages);
      this.net.restart(id);
      return;
    }
    this.net.process(id);
    this.flight.push(...this.net.queue.splice(0));
    for (const entry of machine.applied.splice(0)) this.checkCommitted(entry);
    const { role, term, commit } = machine.status();
    if (role !== "leader") return;
    const known = this.leaderOfTerm.get(term);
    assert.ok(known === undefined || known === id, `election safety: ${known} and ${id} lead in term ${term}`);
    this.leaderOfTerm.set(term, id);
    assert.ok(commit <= machine.status().lastIndex);
  }

  checkCommitted(entry: Entry): void {
    const known = this.committed.get(entry.index);
    if (known === undefined) this.committed.set(entry.index, entry);
    else assert.deepEqual(entry, known, `state machine safety at ${entry.index}`);
  }

  deliverOne(): void {
    if (this.flight.length === 0) return;
    const at = Math.floor(this.random() * Math.min(this.flight.length, 6));
    const message = this.flight[at] as Message;
    const fate = this.random();
    if (fate > 0.05) this.flight.splice(at, 1);
    if (fate < 0.92) this.net.deliver(message);
  }

  change(): ConfChange {
    const type = this.pick(["addVoter", "addLearner", "remove"] as const);
    const ops = [{ type, id: this.pick([1, 2, 3, 4, 5]) }];
    if (this.random() < 0.4) ops.push({ type: "addVoter", id: this.pick([1, 2, 3, 4, 5]) });
    return { transition: "auto", ops };
  }

  operate(): void {
    const { net } = this;
    const id = this.pick([1, 2, 3, 4, 5]);
    const node = net.node(id);
    const kind = this.random();
    if (kind < 0.5) node.propose(new Uint8Array([Math.floor(this.random() * 256)]), net.now);
    else if (kind < 0.6) node.proposeConfChange(this.change(), net.now);
    else if (kind < 0.65) node.transferLeadership(this.pick([1, 2, 3, 4, 5]), net.now);
    else if (kind < 0.7) node.reportUnreachable(this.pick([1, 2, 3, 4, 5]));
    else if (kind < 0.75) net.restart(id);
    else if (kind < 0.8)
      net.partition(
        [id],
        [1, 2, 3, 4, 5].filter((other) => other !== id),
      );
    else if (kind < 0.88) net.heal();
    else if (kind < 0.92) node.campaign(net.now);
    else if (kind < 0.96) node.readIndex(net.now);
    else this.compact(id);
  }

  compact(id: number): void {
    const machine = this.net.get(id);
    const { applied, firstIndex } = machine.status();
    if (applied < firstIndex || machine.disk.hardState.commit < applied) return;
    const snapshot = machine.node.compact(applied);
    const entries = machine.disk.entries.filter((entry) => entry.index > applied);
    machine.disk = { ...machine.disk, snapshot, entries };
  }

  run(steps: number): void {
    for (let i = 0; i < steps; i += 1) {
      const kind = this.random();
      if (kind < 0.55) this.deliverOne();
      else if (kind < 0.9) this.pump(this.pick([1, 2, 3, 4, 5]));
      else if (kind < 0.97) this.tick();
      else this.operate();
    }
  }

  tick(): void {
    this.net.now += 30;
    for (const machine of this.net.machines.values()) if (this.random() < 0.9) machine.node.tick(this.net.now);
  }

  /** Everything heals: there must be a leader that commits. */
  converge(): void {
    const { net } = this;
    net.heal();
    net.queue.push(...this.flight.splice(0));
    net.run(20_000, 100);
    const leaders = net.leaders();
    assert.equal(leaders.length, 1, `after healing, leaders: ${leaders}`);
    const leader = leaders[0] as number;
    const index = net.propose(leader, "last");
    net.run(1000, 100);
    assert.ok(net.status(leader).commit >= index, "after healing, a proposal is committed");
    assert.deepEqual(net.status(leader).config.votersOutgoing, [], "a joint configuration is left");
    for (const machine of net.machines.values()) for (const entry of machine.applied) this.checkCommitted(entry);
  }
}

test("paper figure 3: election safety and state machine safety hold in random schedules, and healed clusters serve", () => {
  const seeds = Number(process.env.RAFT_SCHEDULES ?? 150);
  const first = Number(process.env.RAFT_FIRST_SEED ?? 1);
  for (let seed = first; seed < first + seeds; seed += 1) {
    const schedule = new Schedule(seed);
    try {
      schedule.run(3000);
      schedule.converge();
    } catch (error) {
      throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
  }
});
