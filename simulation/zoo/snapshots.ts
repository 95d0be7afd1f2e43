/** Bugs of snapshots and compaction (R41 to R45). */
import { alsoRaft, type Mutant, raft } from "./mutant.js";

export const snapshots: readonly Mutant[] = [
  raft(
    "old-snapshot-installed",
    "R41",
    "A snapshot is installed although more than it holds is committed already.",
    "snapshot",
    `if (snapshot.index > log.commit) {`,
    `if (snapshot.index > log.firstIndex) {`,
    alsoRaft("snapshot", `if (log.term(snapshot.index) === snapshot.term)`, `if (s.now < 0)`),
    alsoRaft("log", `invariant(snapshot.index > this.#commit,`, `invariant(true,`),
  ),
  raft(
    "snapshot-keeps-tail",
    "R41",
    "A snapshot replaces only what it covers, and the rest of another history stays behind it.",
    "log",
    `this.#entries.length = 0; this.#configs = [{ index: frozen.index, config: frozen.config }];`,
    `const tail = this.#entries.filter((entry) => entry.index > frozen.index);
     this.#entries.length = 0;
     for (const entry of tail) this.#entries.push(entry);
     this.#configs = [{ index: frozen.index, config: frozen.config }];`,
  ),
  raft(
    "snapshot-matches-any-term",
    "R41",
    "An entry at the snapshot's index counts as the snapshot's, whatever its term.",
    "snapshot",
    `if (log.term(snapshot.index) === snapshot.term)`,
    `if (snapshot.index <= log.lastIndex)`,
  ),
  raft(
    "snapshot-never-repeated",
    "R44",
    "A snapshot that got lost is waited for without end.",
    "replication",
    `peer.snapshotFailed();`,
    `;`,
  ),
  raft(
    "snapshot-has-last-term",
    "R45",
    "A snapshot carries the term of the log's end and not of its own.",
    "log",
    `const term = this.term(upTo);`,
    `const term = this.lastTerm;`,
  ),
  raft(
    "snapshot-acknowledged-early",
    "R1",
    "A snapshot is acknowledged before it is durable.",
    "snapshot",
    `s.sendAfterPersist({ type: "InstallSnapshotResponse",`,
    `s.send({ type: "InstallSnapshotResponse",`,
  ),
];
