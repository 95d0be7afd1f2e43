/** Random calls on one node's surface, with valid messages of a modelled cluster and in every legal order. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MalformedMessageError, validateMessage } from "../../../src/raft/index.js";
import { LoneNode } from "./lone-node.js";

/** The checks are the node's own record; nothing else is modelled beside it. */
type Model = Record<string, never>;

class Call implements fc.Command<Model, LoneNode> {
  readonly #text: string;
  readonly #call: (real: LoneNode) => void;

  constructor(text: string, call: (real: LoneNode) => void) {
    this.#text = text;
    this.#call = call;
  }

  check(): boolean {
    return true;
  }

  run(_model: Model, real: LoneNode): void {
    this.#call(real);
    real.check();
  }

  toString(): string {
    return this.#text;
  }
}

type Arguments = ReadonlyArray<number | boolean>;

function call(
  name: string,
  args: ReadonlyArray<fc.Arbitrary<number | boolean>>,
  run: (r: LoneNode, a: Arguments) => void,
) {
  return fc.tuple(...args).map((values) => new Call(`${name}(${values.join(", ")})`, (real) => run(real, values)));
}

const index = fc.nat(14);
const peer = fc.integer({ min: 2, max: 3 });
const anyPeer = fc.integer({ min: 1, max: 5 });
const bool = fc.boolean();
const n = (value: number | boolean | undefined): number => Number(value);
const b = (value: number | boolean | undefined): boolean => Boolean(value);

const confChange = fc
  .tuple(
    fc.array(
      fc.record({
        type: fc.constantFrom("addVoter" as const, "addLearner" as const, "remove" as const),
        // Never the voters 1 and 2: without another voter nothing that the model knows must be acknowledged.
        id: fc.integer({ min: 3, max: 5 }),
      }),
      { minLength: 1, maxLength: 2 },
    ),
    bool,
  )
  .map(
    ([ops, joint]) => new Call(`conf(${JSON.stringify(ops)}, ${joint})`, (real) => real.proposeConfChange(ops, joint)),
  );

const ready = call("ready", [], (real) => real.takeReady());
const advance = call("advance", [], (real) => real.complete());
const pump = call("pump", [], (real) => {
  real.takeReady();
  real.complete();
});
const become = call("become leader", [peer], (real, [from]) => {
  real.node.campaign(real.nowMs);
  for (let i = 0; i < 4; i += 1) {
    real.answerVote(n(from), true);
    real.takeReady();
    real.complete();
    real.check();
  }
});

const calls = [
  ready,
  advance,
  pump,
  pump,
  become,
  confChange,
  call("tick", [fc.nat(1200)], (real, [ms]) => real.tick(n(ms))),
  call("propose", [fc.nat(40)], (real, [size]) => real.propose(n(size))),
  call("readIndex", [], (real) => void real.node.readIndex(real.nowMs)),
  call("transfer", [anyPeer], (real, [to]) => real.node.transferLeadership(n(to), real.nowMs)),
  call("campaign", [], (real) => real.node.campaign(real.nowMs)),
  call("unreachable", [anyPeer], (real, [id]) => real.node.reportUnreachable(n(id))),
  call("reportSnapshot", [anyPeer, bool], (real, [id, ok]) =>
    real.node.reportSnapshot(n(id), b(ok) ? "installed" : "failed"),
  ),
  call("compact", [], (real) => real.compact()),
  call("restart", [bool], (real, [written]) => real.restart(b(written))),
  call("elect other", [peer, index], (real, [id, keep]) => real.elect(n(id), n(keep))),
  call("append", [index, fc.nat(4), index, bool], (real, [prev, count, committed, grow]) =>
    real.append(n(prev), n(count), n(committed), b(grow)),
  ),
  call("append", [index, fc.nat(14), index, bool], (real, [prev, count, committed, grow]) =>
    real.append(n(prev), n(count), n(committed), b(grow)),
  ),
  call("heartbeat", [fc.nat(3)], (real, [round]) => real.heartbeat(n(round))),
  call("snapshot", [index], (real, [at]) => real.snapshot(n(at))),
  call("requestVote", [anyPeer.filter((id) => id > 1), fc.integer({ min: -1, max: 2 }), bool, bool], (real, a) =>
    real.requestVote(n(a[0]), n(a[1]), b(a[2]), b(a[3])),
  ),
  call("answerVote", [peer, bool], (real, [from, granted]) => real.answerVote(n(from), b(granted))),
  call("acknowledge", [peer, index], (real, [from, upTo]) => real.acknowledge(n(from), n(upTo))),
  call("reject", [anyPeer.filter((id) => id > 1), index, index, fc.nat(4)], (real, a) =>
    real.reject(n(a[0]), n(a[1]), n(a[2]), n(a[3])),
  ),
  call("repeat", [fc.nat(200)], (real, [at]) => real.repeat(n(at))),
];

test("R1 to R8, R12, R29: whatever is called in whatever order, the node keeps the rules and never throws", () => {
  const numRuns = Number(process.env.RAFT_MODEL_RUNS ?? 400);
  fc.assert(
    fc.property(fc.nat(), fc.commands(calls, { maxCommands: 120, size: "max" }), (seed, commands) => {
      fc.modelRun(() => ({ model: {}, real: new LoneNode(seed) }), commands);
    }),
    { numRuns, seed: Number(process.env.RAFT_MODEL_SEED ?? 1) },
  );
});

const malformed = fc.oneof(
  fc.anything(),
  fc.record(
    {
      type: fc.oneof(
        fc.constantFrom("RequestVote", "AppendEntries", "Heartbeat", "InstallSnapshot", "TimeoutNow", "ReadIndex"),
        fc.string(),
      ),
      from: fc.oneof(fc.integer(), fc.double(), fc.string()),
      to: fc.oneof(fc.integer(), fc.constant(null)),
      term: fc.oneof(fc.integer(), fc.double(), fc.bigInt()),
      prevIndex: fc.oneof(fc.integer(), fc.string()),
      prevTerm: fc.integer(),
      entries: fc.oneof(fc.array(fc.anything()), fc.anything()),
      commit: fc.oneof(fc.integer(), fc.double()),
      round: fc.integer(),
      holdings: fc.anything(),
      heldIndex: fc.anything(),
      snapshot: fc.anything(),
      lastIndex: fc.integer(),
      lastTerm: fc.integer(),
      transfer: fc.anything(),
    },
    { requiredKeys: [] },
  ),
);

test("R53, R61: whatever is no message is refused as malformed, and what is taken comes back unchanged from its copy", () => {
  fc.assert(
    fc.property(malformed, (value) => {
      let message: unknown;
      try {
        message = validateMessage(value);
      } catch (error) {
        assert.ok(error instanceof MalformedMessageError, String(error));
        return;
      }
      assert.deepEqual(validateMessage(message), message);
    }),
    { numRuns: 2000, seed: 1 },
  );
});
