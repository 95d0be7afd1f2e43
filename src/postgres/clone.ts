/**
 * `pg_replica join` on an empty directory: a copy of the primary that is complete or recognisably not.
 *
 * The copy is made in `PGDATA/pg_replica/staging` and moved into place when it is whole, `PG_VERSION` last: PostgreSQL
 * refuses to start before. `pg_replica/clone.phase` says that the directory is ours and how far it is.
 */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { clearPrimaryConninfo } from "./configuration.js";
import { type ControlFileDetails, readControlFile } from "./control-file.js";
import { fsyncDirectory, readFileIfThere, removeFileDurably, replaceFileDurably } from "./durable-file.js";
import { emptyDirectory, isThere, moveIn, ownEntries } from "./prepare/entries.js";
import { acquireToolLock, type ToolLock } from "./prepare/lock.js";
import { type Bytes, runBaseBackup } from "./tools.js";

export class CloneError extends Error {
  override readonly name = "CloneError";
  constructor(
    readonly code: "CLONE_DIRECTORY_NOT_EMPTY" | "CLONE_DAMAGED_PHASE",
    message: string,
  ) {
    super(message);
  }
}

export interface CloneOptions {
  /** Empty, missing, or holding a clone that was interrupted. A `pg_replica/` of its own may be there and is kept. */
  readonly pgdata: string;
  readonly bindir: string;
  /** The primary (or a standby); the user needs the REPLICATION attribute. */
  readonly sourceDsn: string;
  readonly onProgress?: (progress: Bytes) => void;
  readonly log?: (message: string) => void;
  /** Where pg_wal goes when it is to be a link; must be empty. */
  readonly walDirectory?: string;
  /** Tablespace directories: the source's to this node's. */
  readonly tablespaces?: ReadonlyMap<string, string>;
  readonly signal?: AbortSignal;
  /** Called after each durable step, by name; tests end the process here. */
  readonly onStep?: (name: string) => void;
}

/** What a clone does not take over from its source: another node's identity, logs and running state. */
const left: ReadonlySet<string> = new Set([
  "pg_replica",
  "pg_replica.conf",
  "log",
  "pg_log",
  "current_logfiles",
  "postmaster.pid",
  "postmaster.opts",
  "standby.signal",
  "recovery.signal",
]);

/**
 * Leaves a standby that is ready to start, with the source's configuration (except `pg_replica.conf`) and no
 * primary_conninfo. Can be called again after a kill at any point.
 * @throws CloneError, ToolError (what pg_basebackup said), PrepareError `PREPARE_LOCKED`
 */
export async function clone(options: CloneOptions): Promise<ControlFileDetails> {
  const pgdata = resolve(options.pgdata);
  checkDirectory(pgdata);
  const state = join(pgdata, "pg_replica");
  mkdirSync(state, { recursive: true, mode: 0o700 });
  const lock = await acquireToolLock(state, options.log ?? (() => {}));
  try {
    checkDirectory(pgdata);
    const step = options.onStep ?? (() => {});
    if (readClonePhase(pgdata) !== "move-in") {
      await copy(options, pgdata, lock, step);
      writeClonePhase(pgdata, "move-in");
      step("phase:move-in");
    }
    takeOver(pgdata, step);
    return readControlFile(pgdata);
  } finally {
    lock.release();
  }
}

/** Removes what an interrupted clone has left, so that the directory is as it was before. */
export function discardHalfClone(pgdata: string): void {
  if (readClonePhase(pgdata) === null) return;
  for (const name of readdirSync(pgdata)) {
    if (name !== "pg_replica" && name !== "lost+found") rmSync(join(pgdata, name), { recursive: true, force: true });
  }
  rmSync(join(pgdata, "pg_replica", "staging"), { recursive: true, force: true });
  removeFileDurably(phasePath(pgdata));
}

/** Whether the directory holds a clone that was not finished. */
export function isHalfClone(pgdata: string): boolean {
  return readClonePhase(pgdata) !== null;
}

function checkDirectory(pgdata: string): void {
  if (!existsSync(pgdata)) mkdirSync(pgdata, { recursive: true, mode: 0o700 });
  if (readClonePhase(pgdata) !== null) return;
  const foreign = readdirSync(pgdata).filter((name) => name !== "pg_replica" && name !== "lost+found");
  if (foreign.length === 0) return;
  const what = foreign.includes("PG_VERSION") ? "a PostgreSQL data directory" : `"${foreign.slice(0, 3).join('", "')}"`;
  const message = `${pgdata} is not empty: it holds ${what}. Nothing was changed; name an empty directory or empty this one`;
  throw new CloneError("CLONE_DIRECTORY_NOT_EMPTY", message);
}

const phasePath = (pgdata: string) => join(pgdata, "pg_replica", "clone.phase");

function readClonePhase(pgdata: string): "copy" | "move-in" | null {
  const text = readFileIfThere(phasePath(pgdata))?.trim();
  if (text === undefined) return null;
  if (text === "copy" || text === "move-in") return text;
  throw new CloneError("CLONE_DAMAGED_PHASE", `${phasePath(pgdata)} is damaged: empty the directory and join again`);
}

function writeClonePhase(pgdata: string, phase: "copy" | "move-in"): void {
  replaceFileDurably(phasePath(pgdata), `${phase}\n`);
}

async function copy(options: CloneOptions, pgdata: string, lock: ToolLock, step: (name: string) => void) {
  const staging = join(pgdata, "pg_replica", "staging");
  const again = readClonePhase(pgdata) === "copy";
  writeClonePhase(pgdata, "copy");
  step("phase:copy");
  rmSync(staging, { recursive: true, force: true });
  // Only what the interrupted run itself has put there; a first run leaves it to pg_basebackup to insist on emptiness.
  if (again) {
    if (options.walDirectory !== undefined) emptyDirectory(options.walDirectory);
    for (const ours of options.tablespaces?.values() ?? []) emptyDirectory(ours);
  }
  await runBaseBackup({
    bindir: options.bindir,
    lockFd: lock.fd,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    ...(options.onProgress === undefined ? {} : { onProgress: options.onProgress }),
    sourceDsn: options.sourceDsn,
    target: staging,
    walDirectory: options.walDirectory,
    ...(options.tablespaces === undefined ? {} : { tablespaces: options.tablespaces }),
  });
  readControlFile(staging);
}

function takeOver(pgdata: string, step: (name: string) => void): void {
  const staging = join(pgdata, "pg_replica", "staging");
  // Forced by the extension as well, but a start without it must not make a second primary either.
  replaceFileDurably(join(pgdata, "standby.signal"), "");
  const others = (existsSync(staging) ? readdirSync(staging) : []).filter(
    (name) => !left.has(name) && !ownEntries.includes(name),
  );
  if (isThere(join(staging, "PG_VERSION"))) {
    for (const name of others) {
      renameSync(join(staging, name), join(pgdata, name));
      step(`move-in:${name}`);
    }
    clearPrimaryConninfo(pgdata);
    fsyncDirectory(pgdata);
  }
  const own = ownEntries.filter((name) => !left.has(name));
  moveIn(staging, pgdata, own, (name) => step(`move-in:${name}`));
  rmSync(staging, { recursive: true, force: true });
  step("staging-removed");
  removeFileDurably(phasePath(pgdata));
  step("done");
}
