/**
 * The log in memory: what follows the snapshot, how much of it is durable, committed and applied, and the configurations
 * in it.
 *
 *     snapshot.index <= applied <= commit <= lastIndex,   applied <= stable <= lastIndex
 *
 * `stable` is the index up to which storage is known to hold exactly this log. With one write batch in flight, the batch
 * is recognised at its completion by (index, term) of its last entry: equal to ours means equal prefixes (log matching).
 */
import { emptyConfiguration } from "./configuration.js";
import { entryBytes, freezeEntry, freezeSnapshot } from "./entry.js";
import { invariant, RaftInvariantError } from "./errors.js";
import type { Configuration, Entry, LogIndex, PersistentState, Snapshot, Term } from "./types.js";

interface ConfigAt {
  readonly index: LogIndex;
  readonly config: Configuration;
}

/** What storage holds before anything was written: `config` as of index 0 (default: none, a node that will be told). */
export function emptyState(config: Configuration = emptyConfiguration): PersistentState {
  return {
    hardState: { term: 0, vote: 0, commit: 0 },
    snapshot: freezeSnapshot({ index: 0, term: 0, config, data: new Uint8Array(0) }),
    entries: [],
  };
}

export class RaftLog {
  #snapshot: Snapshot;
  /** Entry of index i is at i - snapshot.index - 1. */
  readonly #entries: Entry[] = [];
  /** Ascending; the first is the snapshot's, the last one is in force, committed or not (append-time, R33). */
  #configs: ConfigAt[];
  #commit: LogIndex;
  #applied: LogIndex;
  #stable: LogIndex;
  /** A snapshot from the leader that storage does not hold yet. */
  #unstableSnapshot: Snapshot | null = null;

  constructor(initial: PersistentState) {
    this.#snapshot = freezeSnapshot(initial.snapshot);
    const { index, term, config } = this.#snapshot;
    invariant(term <= initial.hardState.term, `the stored snapshot is of term ${term}, which was never durable`);
    this.#configs = [{ index, config }];
    for (const entry of initial.entries) {
      invariant(
        entry.term <= initial.hardState.term,
        `stored entry ${entry.index} is of a term that was never durable`,
      );
      this.#push(freezeEntry(entry));
    }
    this.#stable = this.lastIndex;
    this.#applied = index;
    this.#commit = Math.max(initial.hardState.commit, index);
    invariant(this.#commit <= this.lastIndex, `stored commit index ${this.#commit} is past the log's end`);
  }

  get snapshot(): Snapshot {
    return this.#snapshot;
  }
  get unstableSnapshot(): Snapshot | null {
    return this.#unstableSnapshot;
  }
  get firstIndex(): LogIndex {
    return this.#snapshot.index + 1;
  }
  get lastIndex(): LogIndex {
    return this.#snapshot.index + this.#entries.length;
  }
  /** Of the last entry, or of the snapshot when there is none (R18). */
  get lastTerm(): Term {
    return this.#entries.length === 0 ? this.#snapshot.term : (this.#entries[this.#entries.length - 1] as Entry).term;
  }
  get commit(): LogIndex {
    return this.#commit;
  }
  get applied(): LogIndex {
    return this.#applied;
  }
  get stable(): LogIndex {
    return this.#stable;
  }
  /** The configuration in force: the latest in the log, committed or not. */
  get config(): Configuration {
    return (this.#configs[this.#configs.length - 1] as ConfigAt).config;
  }
  get configIndex(): LogIndex {
    return (this.#configs[this.#configs.length - 1] as ConfigAt).index;
  }
  get committedConfig(): Configuration {
    return this.configAt(this.#commit).config;
  }

  /** The configuration as of `index`, which must not be below the snapshot, and since when it is in force at least. */
  configAt(index: LogIndex): ConfigAt {
    for (let i = this.#configs.length - 1; i >= 0; i -= 1) {
      const at = this.#configs[i] as ConfigAt;
      if (at.index <= index) return at;
    }
    throw new RaftInvariantError(
      `no configuration is known as of ${index}, below the snapshot ${this.#snapshot.index}`,
    );
  }

  /** The term of the entry at `index`; undefined when it is compacted or past the end. */
  term(index: LogIndex): Term | undefined {
    const offset = index - this.#snapshot.index;
    if (offset === 0) return this.#snapshot.term;
    return this.#entries[offset - 1]?.term;
  }

  /** Whether a log that ends so may lead this one: term first, then index (R18, paper 5.4.1). */
  isUpToDate(lastIndex: LogIndex, lastTerm: Term): boolean {
    const ours = this.lastTerm;
    return lastTerm > ours || (lastTerm === ours && lastIndex >= this.lastIndex);
  }

  /** The highest index <= `index` whose term is not above `term`: where two logs can agree at best (R15). */
  conflictByTerm(index: LogIndex, term: Term): LogIndex {
    let candidate = Math.min(index, this.lastIndex);
    while (candidate > this.#snapshot.index && (this.term(candidate) as Term) > term) candidate -= 1;
    if (candidate === this.#snapshot.index && this.#snapshot.term > term) return candidate - 1;
    return candidate;
  }

  /** Entries from `from` on, at least one (when there is one) and else no more than `maxBytes`. */
  slice(from: LogIndex, maxBytes: number): Entry[] {
    const start = from - this.firstIndex;
    const taken: Entry[] = [];
    let bytes = 0;
    for (let i = start; i < this.#entries.length; i += 1) {
      const entry = this.#entries[i] as Entry;
      bytes += entryBytes(entry);
      if (taken.length > 0 && bytes > maxBytes) break;
      taken.push(entry);
    }
    return taken;
  }

  /** The entries of (after, upTo]. */
  range(after: LogIndex, upTo: LogIndex): Entry[] {
    const base = this.#snapshot.index;
    return this.#entries.slice(after - base, upTo - base);
  }

  /** A leader's own entry: leaders only append (paper, Leader Append-Only). */
  append(entry: Entry): void {
    this.#push(entry);
  }

  /**
   * A follower's append after the entry before the first one matched. Entries that are there already are left alone, and
   * the log is cut only at the first conflict (R11).
   */
  appendMatching(entries: readonly Entry[]): void {
    let fresh = 0;
    while (fresh < entries.length) {
      const { index, term } = entries[fresh] as Entry;
      if (this.term(index) !== term) break;
      fresh += 1;
    }
    if (fresh === entries.length) return;
    const from = (entries[fresh] as Entry).index;
    if (from <= this.lastIndex) this.#truncateFrom(from);
    for (let i = fresh; i < entries.length; i += 1) this.#push(freezeEntry(entries[i] as Entry));
  }

  commitTo(index: LogIndex): boolean {
    if (index <= this.#commit) return false;
    invariant(
      index <= this.lastIndex,
      `commit index ${index} is past the log's end ${this.lastIndex}: was the log lost?`,
    );
    this.#commit = index;
    return true;
  }

  /** Replaces the whole log (R41): the configuration is the snapshot's, whatever stood in the log (R34). */
  restore(snapshot: Snapshot): void {
    invariant(snapshot.index > this.#commit, `snapshot ${snapshot.index} is not past the commit index ${this.#commit}`);
    const frozen = freezeSnapshot(snapshot);
    this.#snapshot = frozen;
    this.#unstableSnapshot = frozen;
    this.#entries.length = 0;
    this.#configs = [{ index: frozen.index, config: frozen.config }];
    this.#commit = frozen.index;
    this.#stable = frozen.index;
  }

  /** Storage holds the log up to the entry (index, term), unless that was cut from ours in the meantime (R7). */
  markStable(index: LogIndex, term: Term): void {
    if (index > this.#stable && this.term(index) === term) this.#stable = index;
  }

  markSnapshotStable(snapshot: Snapshot): void {
    if (this.#unstableSnapshot === snapshot) this.#unstableSnapshot = null;
    this.markApplied(snapshot.index);
  }

  /** What was applied came out of a completed batch: storage holds it, whatever became of the batch's tail meanwhile. */
  markApplied(index: LogIndex): void {
    if (index > this.#applied) this.#applied = index;
    if (index > this.#stable) this.#stable = index;
  }

  /** Drops everything up to `upTo`, an applied index, in favour of a snapshot with the term and configuration of then. */
  compact(upTo: LogIndex, data: Uint8Array): Snapshot {
    invariant(upTo <= this.#applied, `compaction up to ${upTo} is past the applied index ${this.#applied}`);
    invariant(upTo >= this.#snapshot.index, `compaction up to ${upTo} is below the snapshot ${this.#snapshot.index}`);
    invariant(this.#unstableSnapshot === null, "compaction while a snapshot is being installed");
    const term = this.term(upTo) as Term;
    const { config } = this.configAt(upTo);
    const dropped = upTo - this.#snapshot.index;
    this.#snapshot = freezeSnapshot({ index: upTo, term, config, data });
    this.#entries.splice(0, dropped);
    this.#configs = [{ index: upTo, config }, ...this.#configs.filter((at) => at.index > upTo)];
    return this.#snapshot;
  }

  #push(entry: Entry): void {
    invariant(entry.index === this.lastIndex + 1, `entry ${entry.index} does not follow ${this.lastIndex}`);
    invariant(
      entry.term >= this.lastTerm,
      `entry ${entry.index} goes back from term ${this.lastTerm} to ${entry.term}`,
    );
    this.#entries.push(entry);
    if (entry.type === "config") this.#configs.push({ index: entry.index, config: entry.config });
  }

  #truncateFrom(index: LogIndex): void {
    invariant(index > this.#commit, `a conflict at ${index} is below the commit index ${this.#commit} (R12)`);
    this.#entries.length = index - this.firstIndex;
    while (this.configIndex >= index) this.#configs.pop();
    if (this.#stable >= index) this.#stable = index - 1;
  }
}
