/**
 * Whatever was acknowledged is in the chosen node: random sets, set changes, writes and elections over a small model of
 * a primary and its standbys, decided by the product's functions alone.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { NodeAction } from "../../../src/control/decisions.js";
import { acksFor, neededPositions } from "../../../src/control/durability.js";
import { decideLeader } from "../../../src/control/failover.js";
import { decideNode } from "../../../src/control/follow.js";
import { formatLsn } from "../../../src/control/lsn.js";
import { formatToken, ZERO_TOKEN } from "../../../src/control/token.js";
import type { Report, SyncList, Token } from "../../../src/control/types.js";
import { leaderInput, nodeInput, position, steadyCluster } from "./fixtures.js";

const lsnOf = (number: number) => formatLsn(BigInt(number));

/** Every way to choose `count` of `ids`. */
function subsets(ids: readonly number[], count: number): number[][] {
  if (count === 0) return [[]];
  return ids.flatMap((id, at) => subsets(ids.slice(at + 1), count - 1).map((rest) => [id, ...rest]));
}

const shape = fc.record({ data: fc.integer({ min: 1, max: 7 }), witnesses: fc.integer({ min: 0, max: 3 }) });
const ids = (count: number) => Array.from({ length: count }, (_, at) => at + 1);

test("any N - k of a set contain the primary or one of the k that acknowledged, and N - k - 1 do not", () => {
  fc.assert(
    fc.property(shape, fc.nat(), ({ data, witnesses }, pick) => {
      const members = ids(data);
      const acks = acksFor(ids(data + witnesses), members);
      const needed = neededPositions({ members, acks });
      assert.ok(needed >= 1 && acks <= Math.max(0, data - 1));
      const holders = subsets(members.slice(1), acks).map((standbys) => [1, ...standbys]);
      const holding = holders[pick % holders.length] as number[];
      assert.ok(subsets(members, needed).every((read) => read.some((id) => holding.includes(id))));
      if (needed > 1) assert.ok(subsets(members, needed - 1).some((read) => !read.some((id) => holding.includes(id))));
    }),
  );
});

test("with the formula's k a majority of the voters is enough for an election, wherever k is not bounded by 1 or N - 1", () => {
  fc.assert(
    fc.property(shape, ({ data, witnesses }) => {
      const voters = ids(data + witnesses);
      const acks = acksFor(voters, ids(data));
      const readable = Math.floor(voters.length / 2) + 1 - witnesses;
      if (readable >= 1 && data - readable >= 1) assert.equal(data - acks, readable);
    }),
  );
});

const kinds = ["write", "flush", "act", "change", "fail", "mode"] as const;
/** How often each kind comes: calm runs get through whole changes, hasty ones leave much unfinished. */
const moods = [
  [30, 80, 120, 20, 10, 2],
  [40, 40, 80, 20, 20, 2],
] as const;
const stepIn = (weights: readonly number[]) =>
  fc.record({
    kind: fc.oneof(...kinds.map((kind, at) => ({ weight: weights[at] as number, arbitrary: fc.constant(kind) }))),
    node: fc.integer({ min: 1, max: 5 }),
    members: fc.subarray([1, 2, 3, 4, 5]),
    amount: fc.integer({ min: 1, max: 3 }),
    holder: fc.boolean(),
  });
const steps = fc
  .constantFrom(...moods)
  .chain((mood) => fc.array(stepIn(mood), { minLength: 100, maxLength: 400, size: "max" }));
type Step = typeof steps extends fc.Arbitrary<(infer T)[]> ? T : never;

/** One primary at a time, five data nodes. WAL is a list of numbered records; some are markers. */
class Model {
  readonly cluster = steadyCluster(["a", "b", "c", "d", "e"]);
  readonly tokens = new Map<number, Token>([[1, this.cluster.first]]);
  readonly wal = new Map<number, number[]>(ids(5).map((id) => [id, [1]]));
  /** WAL was destroyed, and the present primary's marker is not there yet. */
  readonly rejoining = new Set<number>();
  records = 1;
  primary = 1;
  token: Token = this.cluster.first;
  isPromoted = true;
  isOpen = true;
  list: SyncList | null = null;
  /** How much WAL has to be flushed so that the list is proven; null: nothing was written for it yet. */
  proof: number | null = null;
  /** What was acknowledged since the promise is in force, with everything before it. */
  promised: readonly number[] = [];
  readonly reached = { settles: 0, elections: 0, promises: 0, rewinds: 0, cancelled: 0 };

  step(s: Step): void {
    if (s.kind === "write" && this.isOpen) for (let at = 0; at < s.amount; at += 1) this.append();
    if (s.kind === "flush") this.flush(s.node, s.amount);
    if (s.kind === "act") this.act();
    if (s.kind === "change") this.change(s);
    if (s.kind === "fail") this.fail(s);
    if (s.kind === "mode") this.mode(s.holder || s.amount > 1 ? "quorum" : "async");
    this.acknowledge();
  }

  of(id: number): number[] {
    return this.wal.get(id) as number[];
  }

  append(): void {
    this.records += 1;
    this.of(this.primary).push(this.records);
  }

  marker(id: number): Token | null {
    const at = this.of(id).findLast((record) => this.tokens.has(record));
    return at === undefined ? null : (this.tokens.get(at) ?? null);
  }

  hasMarker(id: number): boolean {
    return formatToken(this.marker(id) ?? ZERO_TOKEN) === formatToken(this.token);
  }

  /** A standby that the marker lets follow: it takes more, or is rewound first. */
  flush(id: number, amount: number): void {
    if (id === this.primary || this.cluster.state.promotions.at(-1)?.forkLsn === null) return;
    const [own, source] = [this.of(id), this.of(this.primary)];
    const shared = own.findIndex((record, at) => source[at] !== record);
    if (shared >= 0) {
      this.reached.rewinds += 1;
      this.rejoining.add(id);
      // A rewind goes back further than the fork, and destroys what it copies anew.
      own.length = Math.max(1, shared - amount);
    } else own.push(...source.slice(own.length, own.length + amount));
    if (this.hasMarker(id)) this.rejoining.delete(id);
  }

  /** How much of the primary's WAL the list lets through. */
  flushedBy({ members, acks }: SyncList): number {
    const own = this.of(this.primary);
    if (acks === 0) return own.length;
    const has = members.map((id) => (this.hasMarker(id) ? this.of(id).length : 0)).sort((a, b) => b - a);
    return has[acks - 1] ?? 0;
  }

  acknowledge(): void {
    if (!this.isOpen || this.cluster.state.durability.inForce === null) return;
    const count = this.flushedBy(this.list ?? { members: [], acks: 0 });
    if (count <= this.promised.length) return;
    this.promised = this.of(this.primary).slice(0, count);
    this.reached.promises += 1;
  }

  act(): void {
    const isProven = this.proof !== null && this.list !== null && this.flushedBy(this.list) >= this.proof;
    const action = decideNode(
      nodeInput(this.cluster.state, {
        selfId: this.primary,
        promotedUnder: this.isPromoted ? this.token : null,
        lease: { token: this.isPromoted ? this.token : null, live: true, open: this.isOpen },
        server: { inRecovery: !this.isPromoted, markerToken: this.marker(this.primary) },
        sync: { list: this.list, provenLsn: isProven ? lsnOf(this.proof as number) : null },
      }),
    );
    this.perform(action);
  }

  perform(action: NodeAction): void {
    const { cluster } = this;
    switch (action.type) {
      case "promote":
        this.isPromoted = true;
        this.list = action.list;
        if (action.list === null) this.openAtOnce();
        return;
      case "setSyncList":
        this.list = action.list;
        this.proof = null;
        return;
      case "mark":
        this.writeMarker();
        cluster.apply({ type: "marked", token: this.token, timeline: cluster.index, forkLsn: "0/1" });
        return;
      case "proveSyncList":
        if (this.proof === null) this.append();
        this.proof ??= this.of(this.primary).length;
        return;
      case "open":
        this.isOpen = true;
        cluster.opened(action.timeline, action.forkLsn);
        return;
      case "settle":
        cluster.apply({ type: "settleSetChange", token: action.token, version: action.version, lsn: action.lsn });
        this.reached.settles += 1;
        return;
      default:
        assert.equal(action.type, "none", action.text);
    }
  }

  writeMarker(): void {
    if (this.hasMarker(this.primary)) return;
    this.append();
    this.tokens.set(this.records, this.token);
  }

  openAtOnce(): void {
    this.writeMarker();
    this.isOpen = true;
    if (this.cluster.state.phase.kind === "granted") this.cluster.opened(this.cluster.index, "0/1");
  }

  mode(mode: "async" | "quorum"): void {
    this.cluster.apply({ type: "durabilityMode", mode });
    if (mode === "async") this.promised = [];
  }

  /** Any set that applies; what the leader would choose is among them. */
  change({ members, node }: Step): void {
    const acks = members.length === 1 ? 0 : Math.min(node, members.length - 1);
    const { version } = this.cluster.state.durability;
    this.cluster.try({ type: "beginSetChange", token: this.token, version, members, acks, text: "" });
  }

  /** The primary fails; `members` report, the primary too when `holder` says that it is back. */
  fail({ members, holder }: Step): void {
    const { cluster } = this;
    this.isOpen = false;
    this.isPromoted = false;
    this.list = null;
    this.proof = null;
    cluster.begin();
    this.token = cluster.state.current as Token;
    const others = members.filter((id) => id !== this.primary);
    const heard = holder ? [this.primary, ...others] : others;
    if (!this.elect(heard)) assert.ok(this.elect(ids(5)), "with all reports somebody is promoted");
  }

  elect(heard: readonly number[]): boolean {
    const { cluster } = this;
    const reports = heard.map((id): [number, Report] => {
      if (this.rejoining.has(id)) return [id, { kind: "rejoining" }];
      return [id, position({ token: this.marker(id), lsn: lsnOf(this.of(id).length) })];
    });
    const progress = heard.map((id) => ({ id, match: 50, recentActive: true }));
    const since = { phaseSinceMs: 0, firstReportMs: 0 };
    const input = leaderInput(cluster.state, { selfId: 99, reports: new Map(reports), ...since, raft: { progress } });
    const action = decideLeader(input);
    if (action.type !== "propose") return false;
    assert.ok(action.command.type === "promote");
    const had = cluster.state.durability.target;
    cluster.apply(action.command);
    if (had !== null && cluster.state.durability.target === null) this.reached.cancelled += 1;
    cluster.grant();
    this.primary = action.command.node;
    this.reached.elections += Number(this.promised.length > 0);
    assert.deepEqual(
      this.of(this.primary).slice(0, this.promised.length),
      this.promised,
      "acknowledged, but not there",
    );
    return true;
  }
}

test("random set changes, proofs, rewinds and failovers: the chosen node has everything that was acknowledged", () => {
  const reached = { settles: 0, elections: 0, promises: 0, rewinds: 0, cancelled: 0 };
  fc.assert(
    fc.property(steps, (run) => {
      const model = new Model();
      model.mode("quorum");
      for (const s of run) model.step(s);
      for (const key of Object.keys(reached) as (keyof typeof reached)[]) reached[key] += model.reached[key];
    }),
    { numRuns: 300, seed: 7 },
  );
  for (const [what, count] of Object.entries(reached))
    assert.ok(count > 20, `only ${count} ${what}: this proves little`);
});
