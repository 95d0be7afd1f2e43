/**
 * The failover machine: what the Raft leader does next, as a table (docs/protocol.md shows it). Rows are tried from top
 * to bottom; the first whose condition holds is taken. Every proposal is a compare-and-set, so that doing the same twice
 * is harmless. Nothing is decided before the leader's own no-op is committed and applied.
 */
import type { Millis, NodeId } from "../raft/types.js";
import { membershipChange } from "./configuration.js";
import type { LeaderAction, LeaderInput } from "./decisions.js";
import { describeSet, hasSet, neededPositions } from "./durability.js";
import { elect, plannedLimitMs } from "./election.js";
import { leaseTimings } from "./lease.js";
import { currentHolder, isElectable, isReleased, memberById, nodeName, promotionOf } from "./membership.js";
import { electors, isActive } from "./positions.js";
import { setChange } from "./set-change.js";
import type { FailoverReason, Member, Phase } from "./types.js";

export interface FailoverRow {
  readonly name: string;
  readonly phases: ReadonlyArray<Phase["kind"]>;
  /** The row in words, for the table in docs/protocol.md. */
  readonly when: string;
  /** The action when the row's condition holds, else null. */
  readonly act: (input: LeaderInput) => LeaderAction | null;
}

const everyPhase: ReadonlyArray<Phase["kind"]> = ["empty", "steady", "recruit", "promoted", "granted"];

export const failoverTable: readonly FailoverRow[] = [
  {
    name: "bootstrap",
    phases: ["empty"],
    when: "a data node is registered",
    act: (input) =>
      input.state.members.some(isElectable) ? begin(input, "bootstrap", "The cluster gets its first primary.") : null,
  },
  {
    name: "switchover",
    phases: ["steady"],
    when: "the holder has shut down for the handover and released its lease",
    act: (input) => (isReleased(input.state) && input.state.handover !== null ? beginSwitchover(input) : null),
  },
  {
    name: "restarted while paused",
    phases: ["steady"],
    when: "paused, the holder has released its lease, and its server is heard of as a standby again",
    act: (input) =>
      input.state.paused && isReleased(input.state) && isHolderBack(input)
        ? begin(
            input,
            "released",
            `Node ${holderName(input)} was restarted while automatic failover is paused: it becomes primary again.`,
            currentHolder(input.state),
          )
        : null,
  },
  {
    name: "released",
    phases: ["steady"],
    when: "the holder has released its lease",
    act: (input) =>
      isReleased(input.state)
        ? automatic(input, "released", `Node ${holderName(input)} gave its lease back; a new primary is chosen.`)
        : null,
  },
  {
    name: "lease expired",
    phases: ["steady"],
    when: "no renewal for 0.9 D, somebody else can be promoted, and no handover explains the silence",
    act: (input) =>
      input.now >= input.suspectAtMs && hasAlternative(input) && !isHandingOver(input)
        ? automatic(
            input,
            "lease-expired",
            `Node ${holderName(input)} has not renewed its lease; a new primary is chosen.`,
          )
        : null,
  },
  {
    name: "handover stuck",
    phases: ["steady"],
    when: "the handover takes longer than max(2 D, 10 s) and the holder still renews",
    act: (input) => {
      const { handover } = input.state;
      if (handover === null || !isHandoverLate(input) || input.now >= input.suspectAtMs) return null;
      const text = `The switchover was given up: ${holderName(input)} has not shut down in time and goes on as primary.`;
      return propose({ type: "cancelHandover", from: handover.from, text });
    },
  },
  {
    name: "promote",
    phases: ["recruit"],
    when: "the reports are sufficient and somebody qualifies",
    act: promoteBest,
  },
  {
    name: "promoted is gone",
    phases: ["promoted", "granted"],
    when: "the promoted node was not heard of for W + 3 D",
    act: (input) =>
      silentMs(input, currentHolder(input.state)) > unreachableAfterMs(input)
        ? automatic(
            input,
            "not-renewed",
            `Node ${holderName(input)} was promoted but can not be reached; choosing again.`,
          )
        : null,
  },
  {
    name: "released unopened",
    phases: ["granted"],
    when: "the promoted node gave its lease back before it opened, one D after the grant",
    act: (input) =>
      isReleased(input.state) && input.now - input.phaseSinceMs >= input.state.leaseMs
        ? automatic(
            input,
            "released",
            `Node ${holderName(input)} gave its lease back before it opened; choosing again.`,
          )
        : null,
  },
  {
    name: "not open in time",
    phases: ["promoted", "granted"],
    when: "not open within max(4 D, 10 s), doubled for each attempt",
    act: (input) =>
      input.now - input.phaseSinceMs > openTimeoutMs(input)
        ? automatic(
            input,
            "open-timeout",
            `Node ${holderName(input)} was promoted but did not open in time; choosing again.`,
          )
        : null,
  },
  {
    name: "grant",
    phases: ["promoted"],
    when: "no earlier lease can be running (hold and W are over, or the last one was released)",
    act: (input) =>
      input.mayGrant.ok && input.state.current !== null ? propose({ type: "grant", token: input.state.current }) : null,
  },
  {
    name: "set change",
    phases: ["steady", "granted"],
    when: "quorum mode, and the durability set is not what it should be or its promise is not in force (section 3a)",
    act: setChange,
  },
  {
    name: "membership",
    phases: everyPhase,
    when: "the Raft configuration differs from the members, or a learner has caught up",
    act: membershipChange,
  },
  {
    name: "transfer",
    phases: ["steady"],
    when: "the holder renews, is a caught-up voter and not the leader",
    act: transfer,
  },
  {
    name: "wait for reports",
    phases: ["recruit"],
    when: "otherwise",
    act: ({ state, ...rest }) => {
      if (state.phase.kind !== "recruit") return null;
      const election = elect({ state, ...rest }, state.phase);
      return election.ready ? null : wait(`no new primary yet: ${election.why}`);
    },
  },
  {
    name: "wait for the grant",
    phases: ["promoted"],
    when: "otherwise",
    act: (input) => wait(`${holderName(input)} is promoted as soon as it is safe: ${input.mayGrant.why}`),
  },
  {
    name: "wait for the opening",
    phases: ["granted"],
    when: "otherwise",
    act: (input) => wait(`waiting for ${holderName(input)} to open as the new primary${acknowledgers(input)}`),
  },
  {
    name: "wait for the primary",
    phases: ["steady"],
    when: "no renewal for 0.9 D, and too few of the set are alive to choose another primary",
    act: (input) => {
      const isSilent = input.now >= input.suspectAtMs && hasSet(input.state.durability);
      return isSilent
        ? wait(`${holderName(input)} does not renew its lease; waiting for it: ${tooFewAlive(input)}`)
        : null;
    },
  },
];

export function decideLeader(input: LeaderInput): LeaderAction {
  if (!input.raft.termCommitted) return wait("waiting until this leader's first entry is committed and applied");
  if (input.state.clusterId === "") return wait("waiting for the cluster to be bootstrapped");
  for (const row of failoverTable) {
    if (!row.phases.includes(input.state.phase.kind)) continue;
    const action = row.act(input);
    if (action !== null) return action;
  }
  return wait("");
}

function promoteBest(input: LeaderInput): LeaderAction | null {
  const { phase, current } = input.state;
  if (phase.kind !== "recruit" || current === null) return null;
  const election = elect(input, phase);
  if (!election.ready) return null;
  const { member, report } = election.best;
  const { token: parent, lsn } = report;
  const command = { type: "promote", token: current, node: member.id, parent, lsn, text: election.text } as const;
  // Whether an earlier lease can be running does not depend on who is promoted: no commit need lie between the two.
  return input.mayGrant.ok ? { type: "propose", command, next: { type: "grant", token: current } } : propose(command);
}

/** The one thing that `pause` stops: a failover that nobody asked for. */
function automatic(input: LeaderInput, reason: FailoverReason, text: string): LeaderAction | null {
  return input.state.paused ? null : begin(input, reason, text);
}

function begin(input: LeaderInput, reason: FailoverReason, text: string, target: NodeId | null = null): LeaderAction {
  const from = input.state.current;
  return propose({ type: "begin", from, reason, target, waitLsn: null, allowDataLoss: false, text });
}

/** A restart for maintenance: nobody else is promoted, so it is no failover that `pause` should stop. */
function isHolderBack(input: LeaderInput): boolean {
  const holder = currentHolder(input.state);
  if (holder === null || !heardWithin(input, holder, input.state.leaseMs)) return false;
  return input.gossip.get(holder)?.gossip.role === "standby";
}

function beginSwitchover(input: LeaderInput): LeaderAction {
  const { state } = input;
  const asked = state.handover?.target ?? null;
  // The target may have been removed or tagged nofailover since; the switchover then goes to the best node.
  const target = asked !== null && isElectable(memberById(state, asked)) ? asked : null;
  const waitLsn = state.released?.shutdownLsn ?? null;
  const to = target === null ? "the most advanced node" : nodeName(state, target);
  const text = `Node ${holderName(input)} has shut down for the switchover to ${to}.`;
  return propose({
    type: "begin",
    from: state.current,
    reason: "switchover",
    target,
    waitLsn,
    allowDataLoss: false,
    text,
  });
}

function transfer(input: LeaderInput): LeaderAction | null {
  const holder = currentHolder(input.state);
  if (holder === null || holder === input.selfId || input.state.handover !== null) return null;
  if (input.now >= input.suspectAtMs) return null;
  if (!input.raft.voters.includes(holder) || input.raft.votersOutgoing.length > 0) return null;
  const progress = input.raft.progress.find(({ id }) => id === holder);
  if (progress === undefined || !progress.recentActive) return null;
  if (input.raft.lastIndex - progress.match > transferSlack || isReleased(input.state)) return null;
  return { type: "transfer", to: holder, text: `handing Raft leadership to ${holderName(input)}, the primary` };
}

/** Entries that the core's own transfer brings over in one append. */
const transferSlack = 16;

/** Somebody else can be promoted: beginning a failover that nobody can end would only stop the old primary for good. */
function hasAlternative(input: LeaderInput): boolean {
  const alive = aliveElectors(input);
  if (!alive.some(isElectable)) return false;
  const { durability } = input.state;
  return !hasSet(durability) || alive.length >= neededPositions(durability);
}

function aliveElectors(input: LeaderInput): readonly Member[] {
  const holder = currentHolder(input.state);
  return electors(input).filter(({ id }) => id !== holder && isActive(input, id));
}

function tooFewAlive(input: LeaderInput): string {
  const needed = neededPositions(input.state.durability);
  const alive = aliveElectors(input);
  return `${alive.length} other nodes of the durability set are alive, a new primary needs ${needed}`;
}

function acknowledgers({ state }: LeaderInput): string {
  const { durability, current } = state;
  if (!hasSet(durability) || promotionOf(state, current)?.forkLsn === null) return "";
  return `: its marker has to reach ${describeSet(state, durability.target ?? durability)}`;
}

/** While it hands over in time and is heard of, the holder's silence about its lease is what was asked for. */
function isHandingOver(input: LeaderInput): boolean {
  if (input.state.handover === null || isHandoverLate(input)) return false;
  const holder = currentHolder(input.state);
  return holder === input.selfId || heardWithin(input, holder, input.state.leaseMs);
}

function heardWithin(input: LeaderInput, id: NodeId | null, limitMs: Millis): boolean {
  const heard = id === null ? undefined : input.gossip.get(id);
  return heard !== undefined && input.now - heard.receivedAtMs <= limitMs;
}

function isHandoverLate(input: LeaderInput): boolean {
  if (input.handoverSinceMs === null) return false;
  return input.now - input.handoverSinceMs > plannedLimitMs(input.state.leaseMs);
}

function silentMs(input: LeaderInput, id: NodeId | null): Millis {
  if (id === null || isActive(input, id)) return 0;
  return input.now - Math.max(input.phaseSinceMs, input.gossip.get(id)?.receivedAtMs ?? input.phaseSinceMs);
}

function unreachableAfterMs({ state }: LeaderInput): Millis {
  return leaseTimings(Math.max(state.leaseMs, state.leaseCeilingMs)).waitOutMs + 3 * state.leaseMs;
}

function openTimeoutMs({ state, openAttempts }: LeaderInput): Millis {
  return Math.max(4 * state.leaseMs, 10_000) * 2 ** Math.min(openAttempts, 10);
}

function holderName({ state }: LeaderInput): string {
  const holder = currentHolder(state);
  if (holder !== null) return nodeName(state, holder);
  const last = promotionOf(state, state.current);
  return last === undefined ? "the primary" : nodeName(state, last.holder);
}

function propose(command: Extract<LeaderAction, { type: "propose" }>["command"]): LeaderAction {
  return { type: "propose", command };
}

function wait(text: string): LeaderAction {
  return { type: "wait", text };
}
