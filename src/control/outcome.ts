/** How a command ends when it is applied: accepted with a line of history, or refused without any change. */
import type { LogIndex, NodeId, Term } from "../raft/types.js";
import { nodeName, showToken } from "./membership.js";
import type { Command, ControlState, HistoryEntry, Outcome, Token } from "./types.js";

const historyKept = 200;

/** Where in the log the command stands. */
export interface Place {
  readonly term: Term;
  readonly index: LogIndex;
}

export interface Applied {
  readonly state: ControlState;
  readonly outcome: Outcome;
}

export type CommandOf<K extends Command["type"]> = Extract<Command, { type: K }>;
export type Refusal = Extract<Outcome, { ok: false }>;

export function note(
  state: ControlState,
  command: Command,
  place: Place,
  token: Token | null,
  node: string | null,
  text: string,
): ControlState {
  const entry: HistoryEntry = { index: place.index, atMs: command.atMs, kind: command.type, token, node, text };
  return { ...state, history: [...state.history, entry].slice(-historyKept) };
}

export function accept(state: ControlState, outcome: Outcome = { ok: true }): Applied {
  return { state, outcome };
}

export function refusal(code: string, message: string): Refusal {
  return { ok: false, code, message };
}

export function refuse(state: ControlState, code: string, message: string): Applied {
  return { state, outcome: refusal(code, message) };
}

export function refuseToken(state: ControlState, what: string, token: Token | null): Applied {
  return { state, outcome: staleToken(state, what, token) };
}

export function staleToken(state: ControlState, what: string, token: Token | null): Refusal {
  const message = `${what} names token ${showToken(token)}, but the current token is ${showToken(state.current)}`;
  return refusal("stale-token", message);
}

export function refusePhase(state: ControlState, what: Command["type"]): Applied {
  return { state, outcome: wrongPhase(state, what) };
}

export function wrongPhase(state: ControlState, what: Command["type"]): Refusal {
  const needs: Partial<Record<Command["type"], string>> = {
    promote: "recruit",
    grant: "promoted",
    marked: "granted",
    opened: "granted",
    amendRecruit: "recruit",
    beginSetChange: "granted or steady",
    settleSetChange: "granted or steady",
    handover: "steady",
  };
  return refusal("wrong-phase", `${what} needs phase ${needs[what]}, but the phase is ${state.phase.kind}`);
}

export function refuseUnknown(state: ControlState, id: NodeId): Applied {
  return refuse(state, "unknown-member", `no member has id ${id}`);
}

export function refuseTarget(state: ControlState, id: NodeId): Applied {
  return refuse(
    state,
    "not-electable",
    `${nodeName(state, id)} can not be promoted: it is no member, holds no data, is tagged nofailover or is the primary`,
  );
}

export function refuseLease(state: ControlState, leaseMs: number, minimumLeaseMs: number): Applied {
  return refuse(state, "bad-lease", `a lease of ${leaseMs} ms is too short; the minimum is ${minimumLeaseMs} ms`);
}
