/**
 * The replicated state of a simulated cluster: a digest over everything applied, and the part of the control state
 * that the lease protocol rests on (token, holder, phase, release). Each command is a compare-and-set at apply, as in
 * the product's control machine; begin -> grant is its path from one holder to the next.
 */
import { emptyControlState } from "../src/control/state.js";
import type { ControlState } from "../src/control/types.js";
import type { Entry, NodeId } from "../src/raft/types.js";
import { entryDigest } from "./digest.js";
import { mix } from "./random.js";

const Kind = { write: 1, begin: 2, grant: 3, release: 4 } as const;
type Kind = (typeof Kind)[keyof typeof Kind];

export interface FencingToken {
  readonly term: number;
  readonly index: number;
}

export const noToken: FencingToken = { term: 0, index: 0 };

export function sameToken(a: FencingToken, b: FencingToken): boolean {
  return a.index === b.index && a.term === b.term;
}

const commandBytes = 25;

function encode(kind: Kind, a: number, b: number, c: number): Uint8Array {
  const data = new Uint8Array(commandBytes);
  const view = new DataView(data.buffer);
  view.setUint8(0, kind);
  view.setFloat64(1, a);
  view.setFloat64(9, b);
  view.setFloat64(17, c);
  return data;
}

export const encodeWrite = (operation: number): Uint8Array => encode(Kind.write, operation, 0, 0);
/** Starts to replace `from`; the entry's own position is the new token. */
export const encodeBegin = (from: FencingToken): Uint8Array => encode(Kind.begin, from.term, from.index, 0);
export const encodeGrant = (token: FencingToken, holder: NodeId): Uint8Array =>
  encode(Kind.grant, token.term, token.index, holder);
export const encodeRelease = (token: FencingToken): Uint8Array => encode(Kind.release, token.term, token.index, 0);

export class StateMachine {
  #control: ControlState | null = null;
  applied = 0;
  digest = 0;
  writes = 0;
  /** The token in force or, while recruiting, the one to come. */
  token: FencingToken = noToken;
  phase: "empty" | "recruit" | "granted" = "empty";
  /** The newest granted token and its holder: the only one whose renewals may be accepted. */
  granted: FencingToken = noToken;
  holder: NodeId = 0;
  released: FencingToken = noToken;

  /** The state of a cluster that has had its first grant, at index 1. */
  begunBy(holder: NodeId): void {
    this.token = { term: 1, index: 1 };
    this.granted = this.token;
    this.phase = "granted";
    this.holder = holder;
  }

  apply(entry: Entry): void {
    this.applied = entry.index;
    this.digest = mix(this.digest, entryDigest(entry));
    if (entry.type !== "data") return;
    if (entry.data[0] !== Kind.write) this.#control = null;
    const view = new DataView(entry.data.buffer, entry.data.byteOffset, entry.data.byteLength);
    const kind = view.getUint8(0) as Kind;
    const named: FencingToken = { term: view.getFloat64(1), index: view.getFloat64(9) };
    switch (kind) {
      case Kind.write:
        this.writes++;
        return;
      case Kind.begin:
        if (this.phase === "recruit" || !sameToken(named, this.token)) return;
        this.token = { term: entry.term, index: entry.index };
        this.phase = "recruit";
        return;
      case Kind.grant:
        if (this.phase !== "recruit" || !sameToken(named, this.token)) return;
        this.phase = "granted";
        this.granted = this.token;
        this.holder = view.getFloat64(17);
        return;
      case Kind.release:
        if (sameToken(named, this.granted)) this.released = named;
        return;
    }
  }

  /** The same facts in the product's words, for its LeaseGrantor. */
  control(leaseMs: number): ControlState {
    this.#control ??= {
      ...emptyControlState(),
      leaseMs,
      leaseCeilingMs: leaseMs,
      current: this.token.index === 0 ? null : this.token,
      lastGranted: this.granted.index === 0 ? null : { token: this.granted, holder: this.holder },
      released: this.released.index === 0 ? null : { token: this.released, shutdownLsn: null },
    };
    return this.#control;
  }

  encode(): Uint8Array {
    const phases = ["empty", "recruit", "granted"];
    const numbers = [
      this.applied,
      this.digest,
      this.writes,
      this.token.term,
      this.token.index,
      phases.indexOf(this.phase),
      this.granted.term,
      this.granted.index,
      this.holder,
      this.released.term,
      this.released.index,
    ];
    return new Uint8Array(Float64Array.from(numbers).buffer);
  }

  static decode(data: Uint8Array): StateMachine {
    const state = new StateMachine();
    if (data.length === 0) return state;
    const numbers = new Float64Array(data.slice().buffer);
    const at = (i: number): number => numbers[i] as number;
    state.applied = at(0);
    state.digest = at(1);
    state.writes = at(2);
    state.token = { term: at(3), index: at(4) };
    state.phase = (["empty", "recruit", "granted"] as const)[at(5)] as StateMachine["phase"];
    state.granted = { term: at(6), index: at(7) };
    state.holder = at(8);
    state.released = { term: at(9), index: at(10) };
    return state;
  }
}
