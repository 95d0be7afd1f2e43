/** Entries are immutable once they exist: they are shared between the log, messages and whoever applies them. */
import { freezeConfiguration } from "./configuration.js";
import type { Entry, Snapshot } from "./types.js";

/** What one entry costs on the wire beside its payload, roughly. */
const entryOverheadBytes = 16;
const bytesPerMember = 8;

/** A frozen entry: the same object when it is frozen already, else a copy (the bytes are never written to by the core). */
export function freezeEntry(entry: Entry): Entry {
  if (Object.isFrozen(entry)) return entry;
  const { term, index } = entry;
  if (entry.type === "noop") return Object.freeze({ term, index, type: "noop" });
  if (entry.type === "data") return Object.freeze({ term, index, type: "data", data: entry.data });
  return Object.freeze({ term, index, type: "config", config: freezeConfiguration(entry.config) });
}

export function freezeSnapshot(snapshot: Snapshot): Snapshot {
  if (Object.isFrozen(snapshot)) return snapshot;
  const { index, term, data } = snapshot;
  return Object.freeze({ index, term, config: freezeConfiguration(snapshot.config), data });
}

/** Size for the limit of one append message. */
export function entryBytes(entry: Entry): number {
  if (entry.type === "data") return entryOverheadBytes + entry.data.length;
  if (entry.type === "noop") return entryOverheadBytes;
  const { voters, votersOutgoing, learners, learnersNext } = entry.config;
  const members = voters.length + votersOutgoing.length + learners.length + learnersNext.length;
  return entryOverheadBytes + bytesPerMember * members;
}

/** Size for the limit of uncommitted proposals; no-ops and configurations are free, so that they are never refused. */
export function payloadBytes(entry: Entry): number {
  return entry.type === "data" ? entry.data.length : 0;
}
