/**
 * The replicated state and how each committed command changes it. Every command is a compare-and-set: a late or
 * repeated one is refused at apply, the same way on every node. Refusals change nothing.
 */
import { beginSetChange, durabilityMode, isNeeded, noDurability, promotedIn, settleSetChange } from "./durability.js";
import { currentHolder, isElectable, memberById, nodeName, showToken } from "./membership.js";
import {
  type Applied,
  accept,
  type CommandOf,
  note,
  type Place,
  type Refusal,
  refusal,
  refuse,
  refuseLease,
  refusePhase,
  refuseTarget,
  refuseToken,
  refuseUnknown,
} from "./outcome.js";
import { formatToken, tokensEqual } from "./token.js";
import type { Command, ControlState, Member, Promotion, Token } from "./types.js";

export type { Applied } from "./outcome.js";

const promotionsKept = 64;
/** Shortest lease that may be committed (docs/DECISIONS.md D6). */
const minimumLeaseMs = 500;

export function emptyControlState(): ControlState {
  return {
    format: 1,
    clusterId: "",
    systemIdentifier: "",
    serverMajor: 0,
    leaseMs: 3000,
    leaseCeilingMs: 3000,
    nextNodeId: 1,
    members: [],
    phase: { kind: "empty" },
    current: null,
    promotions: [],
    lastGranted: null,
    released: null,
    handover: null,
    paused: false,
    durability: noDurability,
    history: [],
  };
}

/** Applies one committed command. Pure and total: the same inputs give the same result on every node. */
export function applyCommand(state: ControlState, command: Command, place: Place): Applied {
  if (command.type !== "bootstrap" && state.clusterId === "") {
    return refuse(state, "not-bootstrapped", `${command.type}: this cluster has not been bootstrapped`);
  }
  switch (command.type) {
    case "bootstrap":
      return bootstrap(state, command, place);
    case "addMember":
      return addMember(state, command, place);
    case "updateMember":
      return updateMember(state, command, place);
    case "removeMember":
      return removeMember(state, command, place);
    case "begin":
      return begin(state, command, place);
    case "promote":
      return promote(state, command, place);
    case "grant":
      return grant(state, command, place);
    case "opened":
      return opened(state, command, place);
    case "marked":
      return marked(state, command, place);
    case "release":
      return release(state, command, place);
    case "handover":
      return handover(state, command, place);
    case "cancelHandover":
      return cancelHandover(state, command, place);
    case "pause":
      return pause(state, command, place);
    case "settings":
      return settings(state, command, place);
    case "amendRecruit":
      return amendRecruit(state, command, place);
    case "durabilityMode":
      return durabilityMode(state, command, place);
    case "beginSetChange":
      return beginSetChange(state, command, place);
    case "settleSetChange":
      return settleSetChange(state, command, place);
  }
}

function bootstrap(state: ControlState, command: CommandOf<"bootstrap">, place: Place): Applied {
  if (state.clusterId !== "") {
    return refuse(state, "already-bootstrapped", `this cluster exists already, its id is ${state.clusterId}`);
  }
  if (command.leaseMs < minimumLeaseMs) return refuseLease(state, command.leaseMs, minimumLeaseMs);
  const id = state.nextNodeId;
  const next: ControlState = {
    ...state,
    clusterId: command.clusterId,
    systemIdentifier: command.systemIdentifier,
    serverMajor: command.serverMajor,
    leaseMs: command.leaseMs,
    leaseCeilingMs: command.leaseMs,
    nextNodeId: id + 1,
    members: [{ id, ...command.member }],
  };
  const text = `Node ${command.member.name} founded the cluster ${command.clusterId}.`;
  return accept(note(next, command, place, null, command.member.name, text), { ok: true, nodeId: id });
}

function addMember(state: ControlState, command: CommandOf<"addMember">, place: Place): Applied {
  const { member } = command;
  const known = state.members.find(
    ({ name, incarnation }) => name === member.name && incarnation === member.incarnation,
  );
  const wrong = unfitServer(state, command);
  if (wrong !== null) return { state, outcome: wrong };
  if (known !== undefined) return accept(state, { ok: true, nodeId: known.id });
  const id = state.nextNodeId;
  const earlier = state.members.filter(({ name }) => name === member.name).map((old) => old.id);
  const next: ControlState = { ...state, nextNodeId: id + 1, members: [...state.members, { id, ...member }] };
  const text =
    earlier.length === 0
      ? `Node ${member.name} joined as a ${member.kind === "data" ? "data node" : "witness"} with id ${id}.`
      : `Node ${member.name} came back with a new disk: it gets id ${id} and replaces id ${earlier.join(", ")}.`;
  return accept(note(next, command, place, null, member.name, text), { ok: true, nodeId: id });
}

function unfitServer(state: ControlState, command: CommandOf<"addMember">): Refusal | null {
  if (command.member.kind === "witness") return null;
  const { name } = command.member;
  if (command.systemIdentifier !== state.systemIdentifier) {
    return refusal(
      "wrong-system-identifier",
      `node ${name} has system identifier ${command.systemIdentifier ?? "none"}, the cluster has ` +
        `${state.systemIdentifier}: it is no copy of this database; clone it with "pg_replica join"`,
    );
  }
  const major = command.serverMajor ?? null;
  if (major !== null && major !== state.serverMajor) {
    return refusal("wrong-major", `node ${name} runs PostgreSQL ${major}, the cluster runs ${state.serverMajor}`);
  }
  return null;
}

function updateMember(state: ControlState, command: CommandOf<"updateMember">, place: Place): Applied {
  const { member } = command;
  const known = memberById(state, member.id);
  if (known === undefined) return refuseUnknown(state, member.id);
  if (known.name !== member.name || known.incarnation !== member.incarnation || known.kind !== member.kind) {
    return refuse(
      state,
      "identity",
      `id ${member.id} is ${known.kind} node ${known.name}: name, disk incarnation and kind of an id never change`,
    );
  }
  if (sameMember(known, member)) return accept(state, { ok: true, nodeId: member.id });
  const next = { ...state, members: state.members.map((one) => (one.id === member.id ? member : one)) };
  const text = `Node ${member.name} announced a new address, connection string or tags.`;
  return accept(note(next, command, place, null, member.name, text), { ok: true, nodeId: member.id });
}

function sameMember(a: Member, b: Member): boolean {
  return (
    a.address === b.address &&
    a.dsn === b.dsn &&
    a.httpAddress === b.httpAddress &&
    a.tags.nofailover === b.tags.nofailover &&
    a.tags.failoverPriority === b.tags.failoverPriority &&
    a.tags.nosync === b.tags.nosync &&
    a.tags.noloadbalance === b.tags.noloadbalance
  );
}

function removeMember(state: ControlState, command: CommandOf<"removeMember">, place: Place): Applied {
  const member = memberById(state, command.id);
  if (member === undefined) return refuseUnknown(state, command.id);
  if (currentHolder(state) === command.id) {
    return refuse(state, "is-primary", `node ${member.name} is the primary: switch over to another node first`);
  }
  if (isNeeded(state, command.id)) {
    const message = `node ${member.name} may be the only one with acknowledged commits: remove it when the cluster has a primary again`;
    return refuse(state, "needed-for-failover", message);
  }
  const members = state.members.filter(({ id }) => id !== command.id);
  if (!members.some(({ kind }) => kind === "data")) {
    return refuse(state, "last-data-node", `node ${member.name} is the last node that holds data`);
  }
  const next: ControlState = {
    ...state,
    members,
    handover: state.handover?.target === command.id ? null : state.handover,
  };
  return accept(note(next, command, place, null, member.name, `Node ${member.name} (id ${command.id}) was removed.`));
}

function begin(state: ControlState, command: CommandOf<"begin">, place: Place): Applied {
  if (!tokensEqual(command.from, state.current)) return refuseToken(state, "begin", command.from);
  if (state.phase.kind === "recruit") {
    return refuse(state, "wrong-phase", `a failover is already under way under token ${showToken(state.current)}`);
  }
  if (command.target !== null && !isElectable(memberById(state, command.target))) {
    return refuseTarget(state, command.target);
  }
  if (!state.members.some(({ kind }) => kind === "data")) {
    return refuse(state, "no-data-node", "there is no data node to promote");
  }
  const token: Token = { term: place.term, index: place.index };
  const { from, reason, target, waitLsn, allowDataLoss } = command;
  const next: ControlState = {
    ...state,
    current: token,
    phase: { kind: "recruit", from, reason, target, waitLsn, allowDataLoss },
    handover: null,
  };
  const old = currentHolder(state);
  return accept(note(next, command, place, token, old === null ? null : nodeName(state, old), command.text), {
    ok: true,
    token,
  });
}

function promote(state: ControlState, command: CommandOf<"promote">, place: Place): Applied {
  const { token, node } = command;
  if (!tokensEqual(token, state.current)) return refuseToken(state, "promote", token);
  if (state.phase.kind !== "recruit") return refusePhase(state, "promote");
  if (!isElectable(memberById(state, node))) return refuseTarget(state, node);
  const durability = promotedIn(state.durability, node, state.phase.allowDataLoss);
  if (durability === null) {
    const message = `${nodeName(state, node)} is not in the durability set: it may lack acknowledged commits`;
    return refuse(state, "not-in-set", message);
  }
  const promotion = { token, parent: command.parent, holder: node, timeline: null, forkLsn: null };
  const next: ControlState = {
    ...state,
    phase: { kind: "promoted", holder: node },
    durability,
    promotions: [...state.promotions, promotion].slice(-promotionsKept),
  };
  return accept(note(next, command, place, token, nodeName(state, node), command.text), { ok: true, token });
}

function grant(state: ControlState, command: CommandOf<"grant">, place: Place): Applied {
  const { token } = command;
  if (!tokensEqual(token, state.current)) return refuseToken(state, "grant", token);
  if (state.phase.kind !== "promoted") return refusePhase(state, "grant");
  const { holder } = state.phase;
  const next: ControlState = {
    ...state,
    phase: { kind: "granted", holder },
    lastGranted: { token, holder },
    // The new holder applies this entry, and with it every setting before it, before it can renew.
    leaseCeilingMs: state.leaseMs,
  };
  const text = `Node ${nodeName(state, holder)} may hold the lease of ${formatToken(token)}: no earlier lease is running.`;
  return accept(note(next, command, place, token, nodeName(state, holder), text), { ok: true, token });
}

function marked(state: ControlState, command: CommandOf<"marked">, place: Place): Applied {
  const { token, timeline, forkLsn } = command;
  if (!tokensEqual(token, state.current)) return refuseToken(state, "marked", token);
  // It came later than `opened`, or an agent that was restarted in between says it again.
  if (state.phase.kind === "steady") return accept(state, { ok: true, token });
  if (state.phase.kind !== "granted") return refusePhase(state, "marked");
  const promotions = forked(state, command);
  if (promotions === state.promotions) return accept(state, { ok: true, token });
  const name = nodeName(state, state.phase.holder);
  const text = `Node ${name} was promoted under token ${formatToken(token)}, on timeline ${timeline} from ${forkLsn}.`;
  return accept(note({ ...state, promotions }, command, place, token, name, text), { ok: true, token });
}

function opened(state: ControlState, command: CommandOf<"opened">, place: Place): Applied {
  const { token, timeline, forkLsn } = command;
  if (!tokensEqual(token, state.current)) return refuseToken(state, "opened", token);
  // An agent that was restarted in between says it again.
  if (state.phase.kind === "steady") return accept(state, { ok: true, token });
  if (state.phase.kind !== "granted") return refusePhase(state, "opened");
  const name = nodeName(state, state.phase.holder);
  const next: ControlState = { ...state, phase: { kind: "steady" }, promotions: forked(state, command) };
  const text = `Node ${name} is the primary under token ${formatToken(token)}, on timeline ${timeline} from ${forkLsn}.`;
  return accept(note(next, command, place, token, name, text), { ok: true, token });
}

/** A promotion forks once: what was said first stays. */
function forked(state: ControlState, command: CommandOf<"marked" | "opened">): readonly Promotion[] {
  const { token, timeline, forkLsn } = command;
  const isNew = (promotion: Promotion) => tokensEqual(promotion.token, token) && promotion.forkLsn === null;
  if (!state.promotions.some(isNew)) return state.promotions;
  return state.promotions.map((promotion) => (isNew(promotion) ? { ...promotion, timeline, forkLsn } : promotion));
}

function release(state: ControlState, command: CommandOf<"release">, place: Place): Applied {
  const { token, shutdownLsn } = command;
  if (state.lastGranted === null || !tokensEqual(state.lastGranted.token, token)) {
    return refuse(
      state,
      "stale-token",
      `release of ${formatToken(token)}: the newest granted token is ${showToken(state.lastGranted?.token ?? null)}`,
    );
  }
  if (tokensEqual(state.released?.token ?? null, token)) return accept(state, { ok: true, token });
  const next: ControlState = { ...state, released: { token, shutdownLsn } };
  return accept(note(next, command, place, token, nodeName(state, state.lastGranted.holder), command.text), {
    ok: true,
    token,
  });
}

function handover(state: ControlState, command: CommandOf<"handover">, place: Place): Applied {
  const { from, target } = command;
  if (!tokensEqual(from, state.current)) return refuseToken(state, "handover", from);
  if (state.phase.kind !== "steady") return refusePhase(state, "handover");
  if (state.handover !== null) {
    if (state.handover.target === target) return accept(state, { ok: true, token: from });
    return refuse(state, "handover-in-progress", "another switchover is in progress");
  }
  const holder = currentHolder(state);
  if (target !== null && (target === holder || !isElectable(memberById(state, target))))
    return refuseTarget(state, target);
  if (!state.members.some((member) => member.id !== holder && isElectable(member))) {
    return refuse(state, "no-candidate", "there is no other data node that may be promoted");
  }
  const next: ControlState = { ...state, handover: { from, target, atIndex: place.index } };
  const name = holder === null ? null : nodeName(state, holder);
  const to = target === null ? "the most advanced node" : nodeName(state, target);
  return accept(note(next, command, place, from, name, `Switchover from ${name} to ${to} was asked for.`), {
    ok: true,
    token: from,
  });
}

function cancelHandover(state: ControlState, command: CommandOf<"cancelHandover">, place: Place): Applied {
  if (state.handover === null || !tokensEqual(state.handover.from, command.from)) {
    return refuse(state, "stale-token", `no switchover from ${formatToken(command.from)} is in progress`);
  }
  if (isGivenBack(state))
    return refuse(state, "wrong-phase", "the primary has shut down already; the switchover goes on");
  return accept(note({ ...state, handover: null }, command, place, command.from, null, command.text));
}

function isGivenBack(state: ControlState): boolean {
  return state.released !== null && tokensEqual(state.released.token, state.current);
}

function pause(state: ControlState, command: CommandOf<"pause">, place: Place): Applied {
  if (state.paused === command.paused) return accept(state);
  const text = command.paused
    ? `Automatic failover was paused by ${command.by}.`
    : `Automatic failover was resumed by ${command.by}.`;
  return accept(note({ ...state, paused: command.paused }, command, place, null, null, text));
}

function settings(state: ControlState, command: CommandOf<"settings">, place: Place): Applied {
  const { leaseMs } = command;
  if (leaseMs < minimumLeaseMs) return refuseLease(state, leaseMs, minimumLeaseMs);
  if (leaseMs === state.leaseMs) return accept(state);
  const next = { ...state, leaseMs, leaseCeilingMs: Math.max(state.leaseCeilingMs, leaseMs) };
  return accept(
    note(next, command, place, null, null, `The lease was changed from ${state.leaseMs} ms to ${leaseMs} ms.`),
  );
}

function amendRecruit(state: ControlState, command: CommandOf<"amendRecruit">, place: Place): Applied {
  const { token, target, allowDataLoss } = command;
  if (!tokensEqual(token, state.current)) return refuseToken(state, "amendRecruit", token);
  if (state.phase.kind !== "recruit") return refusePhase(state, "amendRecruit");
  if (target !== null && !isElectable(memberById(state, target))) return refuseTarget(state, target);
  const { phase } = state;
  if (phase.target === target && phase.allowDataLoss === allowDataLoss) return accept(state, { ok: true, token });
  const next: ControlState = { ...state, phase: { ...phase, target, allowDataLoss } };
  const name = target === null ? null : nodeName(state, target);
  return accept(note(next, command, place, token, name, command.text), { ok: true, token });
}
