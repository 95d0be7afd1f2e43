/** What the replicated log is applied to. The agent has one, the control state; the Raft bench brings a smaller one. */
import {
  applyCommand,
  decodeCommand,
  decodeState,
  emptyControlState,
  encodeCommand,
  encodeState,
} from "../control/index.js";
import type { Command, ControlState, Outcome } from "../control/types.js";
import type { LogIndex, Term } from "../raft/types.js";

/** Pure: the same entries in the same order give the same state on every node. */
export interface StateMachine<State, Input> {
  readonly empty: State;
  /** @throws ControlError when `input` is nothing that could be applied later. */
  encode(input: Input): Uint8Array;
  apply(
    state: State,
    data: Uint8Array,
    place: { readonly term: Term; readonly index: LogIndex },
  ): { readonly state: State; readonly outcome: Outcome };
  /** For the snapshot, and back. */
  save(state: State): Uint8Array;
  load(data: Uint8Array): State;
}

export const controlMachine: StateMachine<ControlState, Command> = {
  empty: emptyControlState(),
  encode: encodeCommand,
  apply: (state, data, place) => applyCommand(state, decodeCommand(data), place),
  save: encodeState,
  load: decodeState,
};
