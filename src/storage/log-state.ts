/** What the durable log says, kept beside the file: the same rules for the file, for memory and for reading back. */
import type { Entry, HardState } from "../raft/types.js";
import type { LogBase } from "./batch-codec.js";
import { misuse } from "./errors.js";
import type { Batch } from "./types.js";

export class LogState {
  hardState: HardState = { term: 0, vote: 0, commit: 0 };
  base: LogBase = { index: 0, term: 0 };
  #entries: Entry[] = [];
  #entryBytes = 0;
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  /** About what the live entries take in the file. */
  get entryBytes(): number {
    return this.#entryBytes;
  }

  get lastIndex(): number {
    return this.base.index + this.#entries.length;
  }

  termAt(index: number): number | null {
    if (index === this.base.index) return this.base.term;
    return this.#entries[index - this.base.index - 1]?.term ?? null;
  }

  /** Checked before a batch is written and again when it is read back. */
  check(batch: Pick<Batch, "hardState" | "entries">): void {
    this.#checkHardState(batch.hardState);
    const first = batch.entries[0];
    if (first === undefined) return;
    if (!Number.isSafeInteger(first.index) || first.index <= this.base.index || first.index > this.lastIndex + 1) {
      throw misuse(
        this.#path,
        `entries from index ${first.index} do not join the log (${this.base.index}, ${this.lastIndex}]`,
      );
    }
    let { index, term } = { index: first.index - 1, term: this.termAt(first.index - 1) ?? 0 };
    const currentTerm = (batch.hardState ?? this.hardState).term;
    for (const entry of batch.entries) {
      if (entry.term > currentTerm) {
        throw misuse(this.#path, `entry ${entry.index} has term ${entry.term}, the node is in term ${currentTerm}`);
      }
      if (entry.index !== index + 1) throw misuse(this.#path, `entry ${entry.index} follows entry ${index}`);
      if (!Number.isSafeInteger(entry.term) || entry.term < term) {
        throw misuse(this.#path, `entry ${entry.index} has term ${entry.term} after term ${term}`);
      }
      ({ index, term } = entry);
    }
  }

  #checkHardState(next: HardState | undefined): void {
    if (next === undefined) return;
    for (const value of [next.term, next.vote, next.commit]) {
      if (!Number.isSafeInteger(value) || value < 0) throw misuse(this.#path, `hard state holds ${value}`);
    }
    if (next.term < this.hardState.term) {
      throw misuse(this.#path, `the term goes back from ${this.hardState.term} to ${next.term}`);
    }
    if (next.term === this.hardState.term && this.hardState.vote !== 0 && next.vote !== this.hardState.vote) {
      throw misuse(
        this.#path,
        `the vote of term ${next.term} changes from ${this.hardState.vote} to ${next.vote}: a second vote in one term`,
      );
    }
  }

  apply(batch: Pick<Batch, "hardState" | "entries">): void {
    if (batch.hardState !== undefined) this.hardState = { ...batch.hardState };
    const first = batch.entries[0];
    if (first === undefined) return;
    for (const gone of this.#entries.splice(first.index - this.base.index - 1)) this.#entryBytes -= sizeOf(gone);
    for (const entry of batch.entries) {
      this.#entries.push(entry);
      this.#entryBytes += sizeOf(entry);
    }
  }

  /**
   * The snapshot covers the log up to (index, term). Entries behind it stay only if the log holds exactly that entry
   * (rule 41); otherwise the whole log is of another history and goes.
   */
  startAt(base: LogBase): void {
    const keep = this.termAt(base.index) === base.term;
    this.#entries = keep ? this.#entries.slice(base.index - this.base.index) : [];
    this.#entryBytes = this.#entries.reduce((bytes, entry) => bytes + sizeOf(entry), 0);
    this.base = { index: base.index, term: base.term };
    if (this.hardState.commit < base.index) this.hardState = { ...this.hardState, commit: base.index };
  }

  /** An installed snapshot replaces the whole log. */
  replaceBy(base: LogBase): void {
    this.#entries = [];
    this.startAt(base);
  }
}

function sizeOf(entry: Entry): number {
  return 32 + (entry.type === "data" ? entry.data.length : 0);
}

/** Whether the only news is a commit index, which a restarted node learns again from its leader. */
export function onlyCommitChanged(before: HardState, batch: Batch): boolean {
  const { hardState, entries, snapshot } = batch;
  if (entries.length > 0 || snapshot !== undefined) return false;
  return hardState === undefined || (hardState.term === before.term && hardState.vote === before.vote);
}
