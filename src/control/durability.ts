/**
 * Quorum mode: which nodes a commit must have reached before it is acknowledged, and how many positions an election must
 * read to be sure of it. With S the set (the primary is always in it), N its size and k the acknowledgements beside the
 * primary's own flush, every acknowledged commit is on k + 1 of S, so that any N - k of S contain one of them.
 */
import type { NodeId } from "../raft/types.js";
import { currentHolder, majorityOf, memberById, nodeName } from "./membership.js";
import {
  type Applied,
  accept,
  type CommandOf,
  note,
  type Place,
  type Refusal,
  refusal,
  staleToken,
  wrongPhase,
} from "./outcome.js";
import { tokensEqual } from "./token.js";
import type { ControlState, Durability, Member, SyncList, SyncSet } from "./types.js";

export const noDurability: Durability = {
  mode: "async",
  version: 0,
  members: [],
  acks: 0,
  target: null,
  inForce: null,
};

/** Elections go by the set from the moment that one is committed, whether its promise has begun or not. */
export function hasSet(durability: Durability): boolean {
  return durability.members.length > 0;
}

/**
 * k for a set: as many as leave a majority of the voters sufficient for an election, at least 1, and never more than
 * there are standbys. Safety does not depend on it, only on N - k positions being read.
 */
export function acksFor(voters: readonly NodeId[], members: readonly NodeId[]): number {
  if (members.length <= 1) return 0;
  const without = voters.filter((id) => !members.includes(id)).length;
  const readable = majorityOf(voters.length) - without;
  return Math.min(members.length - 1, Math.max(1, members.length - readable));
}

/** How many positions of the set an election needs. */
export function neededPositions({ members, acks }: SyncSet): number {
  return members.length - acks;
}

/** May be in the set without being the primary: a node that is never promoted must not be the only one with a commit. */
export function canSync(member: Member | undefined): member is Member {
  return member !== undefined && member.kind === "data" && !member.tags.nosync && !member.tags.nofailover;
}

/** The list that the primary has to have in force. While a change is under way that is the target's already. */
export function wantedList(durability: Durability, primary: NodeId): SyncList {
  const { members, acks } = durability.target ?? durability;
  return { members: members.filter((id) => id !== primary), acks };
}

export function sameSet(a: SyncSet, b: SyncSet): boolean {
  return (
    a.acks === b.acks && a.members.length === b.members.length && a.members.every((id, at) => id === b.members[at])
  );
}

/**
 * Without an open primary a member of the set stays: it may be the only one that can still be chosen, since others may
 * have lost what they had in a rejoin. Removing it helps nobody, since N does not change.
 */
export function isNeeded({ durability, members, phase }: ControlState, id: NodeId): boolean {
  if (phase.kind === "steady" || !durability.members.includes(id)) return false;
  const name = members.find((member) => member.id === id)?.name;
  // A newer disk under the same name: the old one can not come back, removed or not.
  return !members.some((other) => other.name === name && other.id > id);
}

/** The set after `node` was chosen; null: it is outside, and nobody accepted a loss. */
export function promotedIn(durability: Durability, node: NodeId, allowDataLoss: boolean): Durability | null {
  if (!hasSet(durability)) return durability;
  const isMember = durability.members.includes(node);
  if (!isMember && !allowDataLoss) return null;
  // The primary is always in its set. A change that leads to a set without it is off; the union stays.
  const target = durability.target?.members.includes(node) === true ? durability.target : null;
  const inForce = allowDataLoss ? null : durability.inForce;
  const isSame = isMember && target === durability.target && inForce === durability.inForce;
  if (isSame) return durability;
  const members = isMember ? durability.members : union(durability.members, [node]);
  return { ...durability, version: durability.version + 1, members, target, inForce };
}

export function durabilityMode(state: ControlState, command: CommandOf<"durabilityMode">, place: Place): Applied {
  const { mode } = command;
  const { durability } = state;
  if (durability.mode === mode) return accept(state);
  const version = durability.version + 1;
  const next: ControlState = {
    ...state,
    durability: mode === "async" ? { ...noDurability, version } : { ...durability, mode, version },
  };
  const text =
    mode === "async"
      ? `Asynchronous mode was asked for by ${command.by}: commits acknowledged from here on may be lost in a failover.`
      : `Quorum mode was asked for by ${command.by}: it is in force when a set of nodes has been proven.`;
  return accept(note(next, command, place, null, null, text));
}

export function beginSetChange(state: ControlState, command: CommandOf<"beginSetChange">, place: Place): Applied {
  const wrong = unfitMoment(state, command) ?? unfitSet(state, command);
  if (wrong !== null) return { state, outcome: wrong };
  const { durability } = state;
  const target: SyncSet = { members: command.members, acks: command.acks };
  const isFirst = !hasSet(durability);
  const next: ControlState = {
    ...state,
    durability: {
      ...durability,
      version: durability.version + 1,
      members: isFirst ? target.members : union(durability.members, target.members),
      acks: isFirst ? target.acks : Math.min(durability.acks, target.acks),
      target,
    },
  };
  return accept(note(next, command, place, command.token, null, command.text), { ok: true, token: command.token });
}

export function settleSetChange(state: ControlState, command: CommandOf<"settleSetChange">, place: Place): Applied {
  const { token, lsn } = command;
  const wrong = unfitMoment(state, command);
  if (wrong !== null) return { state, outcome: wrong };
  const { durability } = state;
  const { target } = durability;
  if (target === null) {
    return {
      state,
      outcome: refusal("no-set-change", "settleSetChange: no change of the durability set is under way"),
    };
  }
  const { members, acks } = target;
  const inForce = durability.inForce ?? { token, lsn };
  const next: ControlState = {
    ...state,
    durability: { ...durability, version: durability.version + 1, members, acks, target: null, inForce },
  };
  const begins = durability.inForce === null ? ` Quorum mode is in force from ${lsn} on.` : "";
  const text = `Commits wait for ${describeSet(state, target)}.${begins}`;
  return accept(note(next, command, place, token, null, text), { ok: true, token });
}

function unfitMoment(
  state: ControlState,
  command: CommandOf<"beginSetChange"> | CommandOf<"settleSetChange">,
): Refusal | null {
  const { durability } = state;
  const { token, version, type } = command;
  if (!tokensEqual(token, state.current)) return staleToken(state, type, token);
  if (state.phase.kind !== "granted" && state.phase.kind !== "steady") return wrongPhase(state, type);
  if (durability.mode !== "quorum") return refusal("wrong-mode", `${type}: the cluster is in asynchronous mode`);
  if (durability.version !== version) {
    const message = `${type} is for version ${version} of the durability set, which is at ${durability.version}`;
    return refusal("stale-version", message);
  }
  return null;
}

function unfitSet(state: ControlState, { members, acks }: CommandOf<"beginSetChange">): Refusal | null {
  const holder = currentHolder(state);
  if (holder === null || !members.includes(holder)) {
    return refusal("bad-set", "the primary must be in the durability set");
  }
  if (members.some((id, at) => at > 0 && id <= (members[at - 1] as number))) {
    return refusal("bad-set", `the ids of the durability set must grow: ${members.join(", ")}`);
  }
  const unfit = members.find((id) => id !== holder && !canSync(memberById(state, id)));
  if (unfit !== undefined) {
    const message = `${nodeName(state, unfit)} can not be in the durability set: it is no member, holds no data, or is tagged nosync or nofailover`;
    return refusal("bad-set", message);
  }
  const isFit = members.length === 1 ? acks === 0 : acks >= 1 && acks < members.length;
  return isFit ? null : refusal("bad-set", `${acks} acknowledgements do not fit a set of ${members.length}`);
}

/** "1 of b, c besides the primary a". */
export function describeSet(state: ControlState, { members, acks }: SyncSet): string {
  const holder = currentHolder(state);
  const others = members.filter((id) => id !== holder).map((id) => nodeName(state, id));
  const primary = holder === null ? "the primary" : `the primary ${nodeName(state, holder)}`;
  if (acks === 0) return `${primary} alone`;
  return `${acks} of ${others.join(", ")} besides ${primary}`;
}

function union(a: readonly NodeId[], b: readonly NodeId[]): readonly NodeId[] {
  return [...new Set([...a, ...b])].sort((x, y) => x - y);
}
