/**
 * The replicated state after each log entry, computed once for all nodes by the product's own machine: equal entries on
 * equal states give equal states, and Raft's checker proves that the entries are equal.
 */
import { decodeCommand, decodeState, encodeState } from "../../src/control/command.js";
import { applyCommand, emptyControlState } from "../../src/control/state.js";
import type { Command, ControlState, Outcome } from "../../src/control/types.js";
import type { Entry } from "../../src/raft/types.js";
import { entryDigest } from "../digest.js";
import { mix } from "../random.js";
import { Violation } from "../violation.js";
import type { ClusterFaults } from "./faults.js";

export interface Slot {
  readonly index: number;
  readonly term: number;
  readonly state: ControlState;
  readonly digest: number;
  readonly command: Command | null;
  readonly outcome: Outcome | null;
  encoded: Uint8Array | null;
  /** What was read back from it has been compared once. */
  isRestored: boolean;
}

const blank: Slot = {
  index: 0,
  term: 0,
  state: emptyControlState(),
  digest: 0,
  command: null,
  outcome: null,
  encoded: null,
  isRestored: false,
};

export class States {
  readonly #slots: Slot[] = [blank];
  readonly #faults: ClusterFaults;
  /** Called once for each entry, by whoever applies it first. */
  readonly #onNew: (slot: Slot, before: ControlState) => void;

  constructor(faults: ClusterFaults, onNew: (slot: Slot, before: ControlState) => void) {
    this.#faults = faults;
    this.#onNew = onNew;
  }

  begin(state: ControlState): Uint8Array {
    const encoded = encodeState(state);
    this.#slots[1] = { index: 1, term: 1, state, digest: 1, command: null, outcome: null, encoded, isRestored: false };
    return encoded;
  }

  at(index: number): Slot {
    const slot = this.#slots[index];
    if (slot === undefined) throw new Error(`nobody has applied entry ${index}`);
    return slot;
  }

  apply(entry: Entry, before: Slot): Slot {
    const known = this.#slots[entry.index];
    if (known !== undefined && known.term === entry.term && this.#slots[before.index] === before) return known;
    const slot = this.#compute(entry, before);
    this.#slots[entry.index] = slot;
    this.#onNew(slot, before.state);
    return slot;
  }

  #compute(entry: Entry, before: Slot): Slot {
    const { index, term } = entry;
    const digest = mix(before.digest, entryDigest(entry));
    if (entry.type !== "data") {
      return {
        index,
        term,
        state: before.state,
        digest,
        command: null,
        outcome: null,
        encoded: null,
        isRestored: false,
      };
    }
    const command = decodeCommand(entry.data);
    const applied = applyCommand(before.state, command, { term, index });
    const state = this.#spoil(before.state, command, applied.state);
    return { index, term, state, digest, command, outcome: applied.outcome, encoded: null, isRestored: false };
  }

  #spoil(before: ControlState, command: Command, after: ControlState): ControlState {
    const { targetKept } = this.#faults;
    if (targetKept && command.type === "promote" && after !== before && after.durability.target === null) {
      return { ...after, durability: { ...after.durability, target: before.durability.target } };
    }
    return after;
  }

  encode(slot: Slot): Uint8Array {
    slot.encoded ??= encodeState(slot.state);
    return slot.encoded;
  }

  /** What a node reads back from a snapshot must be what was written into it. */
  restore(index: number, snapshot: Uint8Array): Slot {
    if (snapshot.length === 0) return blank;
    const slot = this.at(index);
    if (!slot.isRestored && slot.encoded !== snapshot) {
      slot.isRestored = true;
      const again = encodeState(decodeState(snapshot));
      const expected = this.encode(slot);
      if (again.length !== expected.length || again.some((byte, at) => byte !== expected[at])) {
        throw new Violation("codec", `the snapshot at ${index} does not give back the state it was made of`);
      }
    }
    return slot;
  }
}
