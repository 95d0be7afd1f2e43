/** Bugs of what is read back from a disk, and of a disk that fails, is lost or goes back in time (R46 to R51). */
import { type DiskFaults, soundDisk } from "../faults.js";
import { soundLease } from "../lease-agent.js";
import { type Mutant, raft } from "./mutant.js";

function stored(name: string, rule: string, text: string, file: string, find: string, replace: string): Mutant {
  return { name, rule, text, patches: [{ file: `src/storage/${file}.js`, find, replace }] };
}

/** A bug of the process around core and storage, which the simulator plays. */
function process(name: string, rule: string, text: string, broken: Partial<DiskFaults>): Mutant {
  return { name, rule, text, patches: [], faults: { lease: soundLease, disk: { ...soundDisk, ...broken } } };
}

export const storage: readonly Mutant[] = [
  process("fsync-retry", "R46", "A failed sync is tried again, and the second one is believed.", {
    ignoreSyncError: true,
  }),
  process("amnesia", "R51", "A node whose disk was lost starts empty under its old id.", { keepLostIdentity: true }),
  stored(
    "truncate-any-bad-crc",
    "R47",
    "The log is cut off at the first batch that is not intact, wherever it is.",
    "log-scan",
    `checkTorn(path, file, end, last); return`,
    `return`,
  ),
  stored(
    "seal-ignored",
    "R47",
    "A damaged last batch is cut off also when the seal behind it says that it was synced.",
    "log-scan",
    `if (header === null) continue;`,
    `if (header === null || (header.flags & sealFlag) !== 0) continue;`,
  ),
  stored(
    "cut-file-unnoticed",
    "R47",
    "A log file that has become shorter is read as far as it goes.",
    "log-scan",
    `checkLength(path, file, batch);`,
    `;`,
  ),
  stored(
    "batch-crc-unchecked",
    "R47",
    "The checksum over a batch is not looked at.",
    "batch-codec",
    `if (batchCrc(bytes) !== crc) return null;`,
    `;`,
  ),
  stored(
    "snapshot-crc-unchecked",
    "R45",
    "The checksum over a snapshot file is not looked at.",
    "snapshot-file",
    `if (snapshotCrc(bytes) !== bytes.readUInt32LE(36))`,
    `if (bytes.length === 0)`,
  ),
  stored(
    "stored-log-dropped",
    "R42",
    "The log behind a snapshot is dropped at a restart.",
    "log-state",
    `const keep = this.termAt(base.index) === base.term;`,
    `const keep = false;`,
  ),
  stored(
    "snapshot-not-joined",
    "R42",
    "A crash between the new snapshot and the new log leaves a log that starts before the snapshot.",
    "recovery",
    `if (snapshot.index > 0) state.startAt(snapshot);`,
    `;`,
  ),
  raft(
    "rollback-unnoticed",
    "R51",
    "Nobody minds a disk that has gone back in time.",
    "node",
    `checkOwnDisk(s, m);`,
    `;`,
  ),
];
