import assert from "node:assert/strict";
import { test } from "node:test";
import { type CommandContext, handleCommand } from "../../../src/agent/commands.js";
import type { CommandError } from "../../../src/agent/errors.js";
import { noDurability } from "../../../src/control/durability.js";
import type { CommandBody, ControlState, Member, NodeView, Outcome, Phase } from "../../../src/control/types.js";

const token = { term: 2, index: 7 };

function member(id: number, name: string, changes: Partial<Member> = {}): Member {
  return {
    id,
    name,
    incarnation: `i${id}`,
    address: `127.0.0.1:${7400 + id}`,
    dsn: `host=127.0.0.1 port=${5432 + id}`,
    httpAddress: null,
    kind: "data",
    tags: { nofailover: false, failoverPriority: 100, nosync: false, noloadbalance: false },
    ...changes,
  };
}

function state(changes: Partial<ControlState> = {}): ControlState {
  return {
    format: 1,
    clusterId: "c",
    systemIdentifier: "1",
    serverMajor: 15,
    leaseMs: 3000,
    leaseCeilingMs: 3000,
    nextNodeId: 4,
    members: [member(1, "a"), member(2, "b"), member(3, "c")],
    phase: { kind: "steady" },
    current: token,
    promotions: [],
    lastGranted: { token, holder: 1 },
    released: null,
    handover: null,
    paused: false,
    durability: noDurability,
    history: [],
    ...changes,
  };
}

function context(options: { state?: ControlState; healthy?: boolean; outcome?: Outcome }): {
  context: CommandContext;
  submitted: CommandBody[];
} {
  const submitted: CommandBody[] = [];
  return {
    submitted,
    context: {
      view: () => assert.fail("the view is not needed here") as unknown as NodeView,
      state: () => options.state ?? state(),
      primaryHealthy: () => options.healthy ?? true,
      submit: async (command) => {
        submitted.push(command);
        return options.outcome ?? { ok: true };
      },
    },
  };
}

test("failover() with a healthy primary is a switchover", async () => {
  const { context: ctx, submitted } = context({});
  assert.match(String(await handleCommand(ctx, "failover", { target: "b" })), /switchover from a to b started/);
  assert.deepEqual(submitted, [{ type: "handover", from: token, target: 2 }]);
});

test("failover() without a healthy primary begins a failover by the operator's word", async () => {
  const { context: ctx, submitted } = context({ healthy: false });
  await handleCommand(ctx, "failover", { target: "c" });
  assert.equal(submitted[0]?.type, "begin");
  const { reason, target, allowDataLoss } = submitted[0] as Extract<CommandBody, { type: "begin" }>;
  assert.deepEqual({ reason, target, allowDataLoss }, { reason: "operator", target: 3, allowDataLoss: false });
});

const refusals: ReadonlyArray<
  readonly [what: string, code: string, args: Record<string, unknown>, changes: Partial<ControlState>]
> = [
  ["a node that does not exist", "unknown-node", { target: "x" }, {}],
  ["the primary itself", "is-primary", { target: "a" }, {}],
  [
    "a node that may not become primary",
    "not-electable",
    { target: "b" },
    {
      members: [
        member(1, "a"),
        member(2, "b", { tags: { nofailover: true, failoverPriority: 100, nosync: false, noloadbalance: false } }),
        member(3, "c"),
      ],
    },
  ],
  ["a cluster of one", "no-candidate", {}, { members: [member(1, "a")] }],
  ["a cluster without a primary so far", "no-primary", {}, { current: null, phase: { kind: "empty" } }],
  ["a switchover in progress", "in-progress", {}, { handover: { from: token, target: null, atIndex: 9 } }],
  ["a failover in progress", "in-progress", {}, { phase: { kind: "promoted", holder: 2 } satisfies Phase as Phase }],
];

for (const [what, code, args, changes] of refusals) {
  test(`failover() is refused with ${code} for ${what}, and nothing is submitted`, async () => {
    const { context: ctx, submitted } = context({ state: state(changes) });
    await assert.rejects(handleCommand(ctx, "failover", args), (error: CommandError) => error.code === code);
    assert.deepEqual(submitted, []);
  });
}

test("failover() while a recruit is under way changes its target or accepts the loss, and without either is refused", async () => {
  const phase: Phase = {
    kind: "recruit",
    from: token,
    reason: "lease-expired",
    target: null,
    waitLsn: null,
    allowDataLoss: false,
  };
  const { context: ctx, submitted } = context({ state: state({ phase }) });
  const isInProgress = (error: CommandError) => error.code === "in-progress";
  await assert.rejects(handleCommand(ctx, "failover", {}), isInProgress);
  assert.equal(
    await handleCommand(ctx, "failover", { target: "b", allow_data_loss: true }),
    "the failover under way goes to b, accepting the loss of data",
  );
  const [amended] = submitted;
  assert.ok(amended?.type === "amendRecruit" && submitted.length === 1);
  assert.deepEqual([amended.token, amended.target, amended.allowDataLoss], [token, 2, true]);
});

test("a command that the cluster refuses is an error, not a success", async () => {
  const { context: ctx } = context({ outcome: { ok: false, code: "stale", message: "the primary changed meanwhile" } });
  await assert.rejects(handleCommand(ctx, "pause", {}), /the primary changed meanwhile/);
});

test("the newest member of a name is meant when a wiped node has come back", async () => {
  const { context: ctx, submitted } = context({
    state: state({ members: [member(1, "a"), member(2, "b"), member(3, "c"), member(5, "b")] }),
  });
  await handleCommand(ctx, "failover", { target: "b" });
  assert.deepEqual(submitted, [{ type: "handover", from: token, target: 5 }]);
});

test("an unknown command is refused", async () => {
  await assert.rejects(handleCommand(context({}).context, "drop", {}), /unknown command "drop"/);
});
