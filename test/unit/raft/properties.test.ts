/** Properties of the pure parts, against brute force and small models. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  type Configuration,
  ConfigurationChangeError,
  type ConfOp,
  committedIndex,
  configurationProblem,
  createRaftNode,
  type Entry,
  emptyConfiguration,
  emptyState,
  enterJoint,
  isJoint,
  leaveJoint,
  membersOf,
  simpleChange,
  tallyVotes,
} from "../../../src/raft/index.js";
import { RaftLog } from "../../../src/raft/log.js";
import { optionsFor, votersOf } from "./network.js";

const id = fc.integer({ min: 1, max: 12 });
const ids = fc.uniqueArray(id, { maxLength: 7 });
const anyConfiguration = fc
  .record({ voters: ids, votersOutgoing: ids })
  .map((sets): Configuration => ({ ...emptyConfiguration, ...sets }));

function subsets(items: readonly number[]): number[][] {
  const all: number[][] = [[]];
  for (const item of items) for (const set of [...all]) all.push([...set, item]);
  return all;
}

/** By definition: the highest index for which some majority of the set has all acknowledged at least that much. */
function bruteForce(voters: readonly number[], acked: ReadonlyMap<number, number>): number {
  const majorities = subsets(voters).filter((set) => 2 * set.length > voters.length);
  return Math.max(0, ...majorities.map((set) => Math.min(...set.map((voter) => acked.get(voter) ?? 0))));
}

const acknowledgements = fc
  .array(fc.tuple(id, fc.integer({ min: 0, max: 1_000_000 })), { maxLength: 12 })
  .map((pairs) => new Map(pairs));

test("R9, R32: the committed index is what a majority of each half has acknowledged", () => {
  fc.assert(
    fc.property(anyConfiguration, acknowledgements, (config, acked) => {
      const halves = [config.voters, ...(config.votersOutgoing.length > 0 ? [config.votersOutgoing] : [])];
      const expected = Math.min(...halves.map((half) => bruteForce(half, acked)));
      assert.equal(committedIndex(config, acked), expected);
    }),
  );
});

test("R32: an election is won by a majority of each half, and lost when some half can no longer give one", () => {
  const votes = fc.array(fc.tuple(id, fc.boolean()), { maxLength: 12 }).map((pairs) => new Map(pairs));
  fc.assert(
    fc.property(anyConfiguration, votes, (config, given) => {
      const halves = [config.voters, ...(config.votersOutgoing.length > 0 ? [config.votersOutgoing] : [])];
      const count = (half: readonly number[], vote: boolean) =>
        half.filter((voter) => given.get(voter) === vote).length;
      const won = halves.every((half) => 2 * count(half, true) > half.length);
      const lost = halves.some((half) => 2 * (half.length - count(half, false)) <= half.length);
      assert.equal(tallyVotes(config, given), won ? "won" : lost ? "lost" : "pending");
    }),
  );
});

test("R32: two majorities of one configuration, joint or not, always meet", () => {
  const small = fc.uniqueArray(fc.integer({ min: 1, max: 5 }), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(small, small, (voters, votersOutgoing) => {
      const config = { ...emptyConfiguration, voters, votersOutgoing };
      const winning = subsets([1, 2, 3, 4, 5]).filter(
        (set) => tallyVotes(config, new Map(set.map((voter) => [voter, true]))) === "won",
      );
      for (const a of winning) for (const b of winning) assert.ok(a.some((voter) => b.includes(voter)));
    }),
    { numRuns: 60 },
  );
});

const settled = fc
  .record({ voters: fc.uniqueArray(id, { minLength: 1, maxLength: 6 }), learners: ids })
  .map(({ voters, learners }): Configuration => {
    const sorted = (list: readonly number[]) => [...list].sort((a, b) => a - b);
    return {
      ...emptyConfiguration,
      voters: sorted(voters),
      learners: sorted(learners.filter((learner) => !voters.includes(learner))),
    };
  });
const operations = fc.array(
  fc.record({ type: fc.constantFrom("addVoter" as const, "addLearner" as const, "remove" as const), id }),
  { maxLength: 4 },
);

/** What the operations come to, one after the other; null when they leave no voter or do nothing. */
function afterwards(config: Configuration, ops: readonly ConfOp[]): { voters: number[]; learners: number[] } | null {
  let { voters, learners } = { voters: [...config.voters], learners: [...config.learners] };
  for (const op of ops) {
    voters = voters.filter((voter) => voter !== op.id);
    learners = learners.filter((learner) => learner !== op.id);
    if (op.type === "addVoter") voters.push(op.id);
    if (op.type === "addLearner") learners.push(op.id);
  }
  const sorted = (list: number[]) => list.sort((a, b) => a - b);
  return voters.length === 0 || ops.length === 0 ? null : { voters: sorted(voters), learners: sorted(learners) };
}

function refusesChange(change: () => unknown): void {
  assert.throws(change, ConfigurationChangeError);
}

test("R32: a single-server change moves at most one voter, and its majorities meet the old ones", () => {
  fc.assert(
    fc.property(settled, operations, (config, ops) => {
      const expected = afterwards(config, ops);
      const apart = expected?.voters.filter((voter) => !config.voters.includes(voter)).length ?? 0;
      const gone = config.voters.filter((voter) => !(expected?.voters ?? []).includes(voter)).length;
      if (expected === null || apart + gone > 1) {
        refusesChange(() => simpleChange(config, ops));
        return;
      }
      const next = simpleChange(config, ops);
      assert.deepEqual(next, { ...emptyConfiguration, ...expected });
      assert.equal(configurationProblem(next), null);
      const majorities = (voters: readonly number[]) => subsets(voters).filter((set) => 2 * set.length > voters.length);
      for (const a of majorities(config.voters)) {
        for (const b of majorities(next.voters)) assert.ok(a.some((voter) => b.includes(voter)));
      }
    }),
    { numRuns: 60 },
  );
});

test("R32: entering and leaving a joint configuration comes to what the operations say; demoted voters wait", () => {
  fc.assert(
    fc.property(settled, operations, fc.boolean(), (config, ops, autoLeave) => {
      const expected = afterwards(config, ops);
      if (expected === null) {
        refusesChange(() => enterJoint(config, ops, autoLeave));
        return;
      }
      const joint = enterJoint(config, ops, autoLeave);
      assert.ok(isJoint(joint) && joint.autoLeave === autoLeave);
      assert.equal(configurationProblem(joint), null);
      assert.deepEqual([joint.voters, joint.votersOutgoing], [expected.voters, config.voters]);
      const demoted = expected.learners.filter((learner) => config.voters.includes(learner));
      assert.deepEqual(joint.learnersNext, demoted);
      for (const member of membersOf(config)) {
        if (config.voters.includes(member)) assert.ok(membersOf(joint).includes(member), "nobody is lost on the way");
      }
      assert.deepEqual(leaveJoint(joint), { ...emptyConfiguration, ...expected });
      refusesChange(() => enterJoint(joint, ops, autoLeave));
      refusesChange(() => simpleChange(joint, ops));
      refusesChange(() => leaveJoint(config));
    }),
  );
});

const terms = fc.array(fc.integer({ min: 1, max: 4 }), { maxLength: 8 }).map((list) => list.sort((a, b) => a - b));
const entriesOf = (list: readonly number[], from = 1): Entry[] =>
  list.map((term, i) => ({ type: "noop", term, index: from + i }));

test("R11, R18: the log does as an array does: it cuts only at the first conflict and is compared by its end", () => {
  fc.assert(
    fc.property(terms, terms, fc.nat(8), (own, theirs, at) => {
      const log = new RaftLog({
        ...emptyState(votersOf(1)),
        hardState: { term: 9, vote: 0, commit: 0 },
        entries: entriesOf(own),
      });
      const prev = Math.min(at, own.length, theirs.length);
      // The two logs agree up to prev, as an accepted append proves; nothing behind it may fall below that term.
      const sent = theirs.slice(prev).map((term) => Math.max(term, own[prev - 1] ?? 0));
      const conflict = sent.findIndex((term, i) => own[prev + i] !== term);
      const model = conflict < 0 ? own : [...own.slice(0, prev + conflict), ...sent.slice(conflict)];
      log.appendMatching(entriesOf(sent, prev + 1));
      assert.deepEqual(
        model.map((_, i) => log.term(i + 1)),
        model,
      );
      assert.equal(log.lastIndex, model.length);
      assert.equal(log.lastTerm, model.at(-1) ?? 0);
      assert.ok(log.stable <= log.lastIndex);
      for (const other of [own, theirs]) {
        const last = [other.at(-1) ?? 0, other.length] as const;
        const newer = last[0] > log.lastTerm || (last[0] === log.lastTerm && last[1] >= log.lastIndex);
        assert.equal(log.isUpToDate(last[1], last[0]), newer);
      }
    }),
  );
});

test("R33: the configuration in force is the last one of the log, whatever is appended, cut off or compacted", () => {
  const batches = fc.array(fc.record({ keep: fc.nat(6), config: fc.boolean() }), { maxLength: 8 });
  fc.assert(
    fc.property(batches, (steps) => {
      const node = createRaftNode(optionsFor(1, emptyState(votersOf(1, 2, 3)), () => 0));
      let model: Array<{ term: number; config: Configuration | null }> = [];
      for (const [i, { keep, config }] of steps.entries()) {
        const prevIndex = Math.min(keep, model.length);
        const prevTerm = model[prevIndex - 1]?.term ?? 0;
        const term = i + 1;
        const next = config ? { ...votersOf(1, 2, 3), learners: [10 + i] } : null;
        const entry: Entry =
          next === null
            ? { type: "noop", term, index: prevIndex + 1 }
            : { type: "config", term, index: prevIndex + 1, config: next };
        node.step({ type: "AppendEntries", from: 2, to: 1, term, prevIndex, prevTerm, entries: [entry], commit: 0 }, i);
        model = [...model.slice(0, prevIndex), { term, config: next }];
        const inForce = model.findLast((at) => at.config !== null)?.config ?? votersOf(1, 2, 3);
        assert.deepEqual(node.status().config, inForce);
        assert.equal(node.status().lastIndex, model.length);
      }
    }),
  );
});
