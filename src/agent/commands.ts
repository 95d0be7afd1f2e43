/** The commands of SQL, CLI and guests, answered from the node's view or carried to the leader. */
import { formatToken } from "../control/index.js";
import type { CommandBody, ControlState, NodeView, Outcome, Token } from "../control/types.js";
import type { NodeId } from "../raft/types.js";
import { wallClockMs } from "./clock.js";
import { CommandError } from "./errors.js";

export interface CommandContext {
  readonly view: () => NodeView;
  readonly state: () => ControlState;
  /** The holder of the current token is known to renew its lease. */
  readonly primaryHealthy: () => boolean;
  readonly submit: (command: CommandBody) => Promise<Outcome>;
}

type Args = Readonly<Record<string, unknown>>;

/** Commands that change the cluster. */
export const changingCommands: ReadonlySet<string> = new Set(["failover", "pause", "resume"]);

/** @throws CommandError with an SQLSTATE and a hint. */
export async function handleCommand(context: CommandContext, command: string, args: Args): Promise<unknown> {
  switch (command) {
    case "status":
      return statusRow(context.view());
    case "members":
      return memberRows(context.view());
    case "view":
      return context.view();
    case "history":
      return historyRows(context.view());
    case "failover":
      return failover(context, args);
    case "pause":
      return pause(context, true);
    case "resume":
      return pause(context, false);
    default:
      throw new CommandError("unknown-command", `unknown command "${command.slice(0, 60)}"`, "", "22023");
  }
}

function statusRow(view: NodeView): Record<string, unknown> {
  const { self } = view;
  return {
    node_id: self.name,
    role: self.role,
    raft_role: self.raftRole,
    term: self.term,
    leader: view.leader,
    primary: view.primary,
    token: view.token === null ? null : formatToken(view.token),
    timeline: self.timeline,
    receive_lsn: self.receiveLsn,
    replay_lsn: self.replayLsn,
    flush_lsn: self.flushLsn,
    lag_bytes: self.lagBytes,
    lag_seconds: self.lagSeconds,
    lease_remaining_ms: self.leaseRemainingMs,
    synchronous: view.synchronous,
    paused: view.paused,
    version: view.version,
  };
}

function memberRows(view: NodeView): Array<Record<string, unknown>> {
  return view.members.map((member) => ({
    node_id: member.name,
    host: member.host,
    port: member.port,
    role: member.role,
    raft_role: member.raftRole,
    state: member.state,
    timeline: member.timeline,
    lsn: member.lsn,
    lag_bytes: member.lagBytes,
    sync_state: member.syncState,
    tags: member.tags,
    last_seen: member.lastSeenMs === null ? null : new Date(wallClockMs() - member.lastSeenMs).toISOString(),
  }));
}

function historyRows(view: NodeView): Array<Record<string, unknown>> {
  return view.history.map((entry) => ({
    index: entry.index,
    at: new Date(entry.atMs).toISOString(),
    kind: entry.kind,
    token: entry.token === null ? null : formatToken(entry.token),
    node: entry.node,
    description: entry.text,
  }));
}

async function failover(context: CommandContext, args: Args): Promise<string> {
  const state = context.state();
  const { current } = state;
  const target = resolveTarget(state, args.target);
  const allowDataLoss = args.allow_data_loss === true;
  if (current === null || state.phase.kind === "empty") {
    throw new CommandError("no-primary", "the cluster has not had a primary yet", "Wait until the first node is up.");
  }
  if (state.handover !== null) {
    throw new CommandError("in-progress", "a switchover is in progress already", "See pg_replica.history().");
  }
  if (state.phase.kind === "recruit" && (target !== null || allowDataLoss)) {
    return amendRecruit(context, { current, target, allowDataLoss });
  }
  if (state.phase.kind === "recruit" || state.phase.kind === "promoted") {
    throw new CommandError("in-progress", "a failover is in progress already", "See pg_replica.history().");
  }
  const holder = state.members.find((member) => member.id === state.lastGranted?.holder);
  if (target !== null && target === holder?.id) {
    throw new CommandError("is-primary", `${holder.name} is the primary already`, "Name another node.", "22023");
  }
  if (context.primaryHealthy() && !allowDataLoss) {
    checkSwitchoverPossible(state, target);
    accepted(await context.submit({ type: "handover", from: current, target }));
    return `switchover from ${holder?.name ?? "?"} to ${targetName(state, target)} started`;
  }
  accepted(
    await context.submit({
      type: "begin",
      from: current,
      reason: "operator",
      target,
      waitLsn: null,
      allowDataLoss,
      text: `An operator asked for a failover from ${holder?.name ?? "?"} to ${targetName(state, target)}${allowDataLoss ? ", accepting the loss of data" : ""}.`,
    }),
  );
  return `failover from ${holder?.name ?? "?"} to ${targetName(state, target)} started`;
}

/** A failover that waits for nodes that do not come back: the operator says what it is to do instead. */
async function amendRecruit(
  context: CommandContext,
  { current, target, allowDataLoss }: { current: Token; target: NodeId | null; allowDataLoss: boolean },
): Promise<string> {
  const wish = `to ${targetName(context.state(), target)}${allowDataLoss ? ", accepting the loss of data" : ""}`;
  const text = `An operator asked for the failover under way to go ${wish}.`;
  accepted(await context.submit({ type: "amendRecruit", token: current, target, allowDataLoss, text }));
  return `the failover under way goes ${wish}`;
}

function checkSwitchoverPossible(state: ControlState, target: NodeId | null): void {
  const candidates = state.members.filter(
    (member) => member.kind === "data" && !member.tags.nofailover && member.id !== state.lastGranted?.holder,
  );
  if (candidates.length === 0) {
    throw new CommandError("no-candidate", "there is no other node that may become primary", "Join one first.");
  }
  if (target !== null && !candidates.some((member) => member.id === target)) {
    throw new CommandError(
      "not-electable",
      `${targetName(state, target)} may not become primary (witness or tag nofailover)`,
      "",
      "22023",
    );
  }
}

function resolveTarget(state: ControlState, target: unknown): NodeId | null {
  if (target === undefined || target === null || target === "") return null;
  const named = state.members.filter((member) => member.name === target).sort((a, b) => b.id - a.id);
  const [newest] = named;
  if (newest !== undefined) return newest.id;
  const names = state.members.map((member) => member.name).join(", ");
  throw new CommandError("unknown-node", `there is no node "${String(target)}"`, `The nodes are: ${names}.`, "22023");
}

function targetName(state: ControlState, target: NodeId | null): string {
  if (target === null) return "the most advanced standby";
  return state.members.find((member) => member.id === target)?.name ?? `member ${target}`;
}

async function pause(context: CommandContext, paused: boolean): Promise<string> {
  accepted(await context.submit({ type: "pause", paused }));
  return paused ? "automatic failover is paused" : "automatic failover is on";
}

function accepted(outcome: Outcome): void {
  if (!outcome.ok) throw new CommandError(outcome.code, outcome.message, "See pg_replica.status() and history().");
}
