/**
 * `pg_replica prepare`: run before every start of the server. Does nothing unless the agent has asked for a rejoin or one
 * was interrupted; then brings the data directory back onto the primary's history, however often it is killed.
 *
 * The phases, and what a run that finds one does:
 *   recover   crash recovery in place: goes on
 *   move-out  PostgreSQL's own entries go to pg_replica/staging: goes on
 *   ready     all staged, untouched: goes on
 *   rewind    pg_rewind was at work: rebuilds (half a rewind is no database)
 *   rebuild   a full copy goes to pg_replica/staging.new: begins it again
 *   move-in   a complete directory moves back: goes on
 * From move-out to move-in PGDATA has no PG_VERSION, so that no PostgreSQL starts in it.
 */
import { accessSync, constants, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseLsn } from "../../control/lsn.js";
import { clearPrimaryConninfo, lastConfigFile } from "../configuration.js";
import { type ControlFileDetails, ControlFileError, readControlFile } from "../control-file.js";
import { fsyncDirectory, readFileIfThere, removeFileDurably, replaceFileDurably } from "../durable-file.js";
import { type Bytes, runBaseBackup, runRewind, runSingleUserRecovery, ToolError, type ToolOptions } from "../tools.js";
import type { RejoinIntent } from "../types.js";
import { deleteEntries, emptyDirectory, isThere, moveIn, moveOut, ownEntries } from "./entries.js";
import { PrepareError } from "./errors.js";
import { acquireToolLock, type ToolLock } from "./lock.js";
import { serversIn } from "./processes.js";
import { findSource, readSourceWal, type Source } from "./source.js";
import {
  clearState,
  hasRelativeWalLink,
  type Layout,
  type Phase,
  type PhaseName,
  readIntent,
  readLayout,
  readPhase,
  surveyLayout,
  writeLayout,
  writePhase,
} from "./state.js";
import { findMissingSegment, startOfBackupLabel } from "./wal-chain.js";
import { fetchWal } from "./wal-fetch.js";

export interface PrepareOptions {
  readonly pgdata: string;
  /** Directory of PostgreSQL's programs. */
  readonly bindir: string;
  /** Where rejoin.json is; default PGDATA/pg_replica. */
  readonly stateDir?: string;
  /** postgresql.conf when it is outside PGDATA; default: what the server was last started with. */
  readonly configFile?: string;
  readonly log: (level: "info" | "warning", message: string) => void;
  readonly onProgress?: (step: "rewind" | "rebuild", progress: Bytes) => void;
  /** How long to wait for a usable source before giving up for this run. Default 60 000. */
  readonly sourceDeadlineMs?: number;
  /** How long to wait for processes of the stopped server to end. Default 10 000. */
  readonly serverDeadlineMs?: number;
  readonly signal?: AbortSignal;
  /** Called after each durable step, by name; tests end the process here. */
  readonly onStep?: (name: string) => void;
}

export interface PrepareOutcome {
  /**
   * `none`: nothing was asked for. `rewound`, `rebuilt`: as it says. `unchanged`: pg_rewind found no divergence.
   * `finished`: an earlier run had done the work, this one only moved the entries back.
   */
  readonly action: "none" | "rewound" | "unchanged" | "rebuilt" | "finished";
  /** Why the rejoin was asked for, and why it became a rebuild if it did. */
  readonly why: string;
  readonly sourceNode: string | null;
}

/**
 * @throws PrepareError, ToolError or an I/O error; whatever it is, the next run goes on from the recorded phase
 */
export async function prepare(options: PrepareOptions): Promise<PrepareOutcome> {
  const pgdata = resolve(options.pgdata);
  const stateDir = resolve(options.stateDir ?? join(pgdata, "pg_replica"));
  checkOwner(pgdata);
  checkStateDirectory(stateDir);
  if (readPhase(stateDir) === null && readIntent(stateDir) === null) {
    checkDataDirectory(pgdata);
    return { action: "none", why: "no rejoin is pending", sourceNode: null };
  }
  const lock = await acquireToolLock(stateDir, (message) => options.log("warning", message));
  try {
    return await new Rejoin(options, pgdata, stateDir, lock).run();
  } finally {
    lock.release();
  }
}

function checkOwner(pgdata: string): void {
  const stat = statSync(pgdata, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isDirectory()) {
    throw new PrepareError("PREPARE_NOT_A_DATA_DIRECTORY", `${pgdata} is not a directory`);
  }
  const user = process.geteuid?.();
  if (user !== undefined && user !== stat.uid) {
    const message = `${pgdata} belongs to user id ${stat.uid}, but this runs as ${user}: run it as the owner`;
    throw new PrepareError("PREPARE_WRONG_USER", message);
  }
}

/** It may be missing: the agent makes it. */
function checkStateDirectory(stateDir: string): void {
  const place = `${stateDir} (pg_replica.state_dir)`;
  const found = statSync(stateDir, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isDirectory()) {
    throw new PrepareError(
      "PREPARE_NO_STATE_DIRECTORY",
      `${place} is no directory: move it away, or correct the setting`,
    );
  }
  try {
    accessSync(stateDir, constants.R_OK | constants.X_OK);
  } catch (error) {
    const message = `${place} can not be read: make it and its files owned by the server's user, with mode 0700`;
    throw new PrepareError("PREPARE_NO_STATE_DIRECTORY", message, { cause: error });
  }
}

function checkDataDirectory(pgdata: string): void {
  if (existsSync(join(pgdata, "PG_VERSION"))) return;
  if (existsSync(join(pgdata, "pg_replica", "clone.phase"))) {
    const message = `${pgdata} holds a clone that was not finished: run "pg_replica join" again`;
    throw new PrepareError("PREPARE_CLONE_PENDING", message);
  }
  const message = `${pgdata} is no PostgreSQL data directory (it has no PG_VERSION) and no rejoin is pending in it`;
  throw new PrepareError("PREPARE_NOT_A_DATA_DIRECTORY", message);
}

class Rejoin {
  readonly #staging: string;
  readonly #stagingNew: string;
  readonly #tool: ToolOptions;
  #phase: Phase;
  #why = "";

  constructor(
    readonly options: PrepareOptions,
    readonly pgdata: string,
    readonly stateDir: string,
    lock: ToolLock,
  ) {
    this.#staging = join(pgdata, "pg_replica", "staging");
    this.#stagingNew = join(pgdata, "pg_replica", "staging.new");
    this.#tool = {
      bindir: options.bindir,
      lockFd: lock.fd,
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    };
    this.#phase = { format: 1, phase: "recover", from: null, recovered: false };
  }

  async run(): Promise<PrepareOutcome> {
    // Read again: the run that had the lock before us may have finished.
    const found = readPhase(this.stateDir);
    const intent = readIntent(this.stateDir);
    if (found?.phase === "move-in") {
      this.#phase = found;
      await this.#waitForServerToEnd();
      this.#moveIn();
      return { action: "finished", why: "the directory was complete", sourceNode: null };
    }
    if (intent === null) {
      if (found === null) return { action: "none", why: "no rejoin is pending", sourceNode: null };
      const message = `a rejoin was interrupted in phase "${found.phase}", but rejoin.json is gone from ${this.stateDir}: write it again, or remove the data directory and join anew`;
      throw new PrepareError("PREPARE_BAD_INTENT", message);
    }
    await this.#waitForServerToEnd();
    this.#why = intent.why;
    if (found === null) {
      checkDataDirectory(this.pgdata);
      this.#info(`rejoin: ${intent.method} (${intent.why})`);
    } else {
      this.#phase = found;
      this.#info(`rejoin: continuing in phase "${found.phase}" (${intent.why})`);
    }
    return this.#converge(intent, found?.phase ?? null);
  }

  async #converge(intent: RejoinIntent, found: PhaseName | null): Promise<PrepareOutcome> {
    if (found === "rewind") return this.#rebuild(intent, "a rewind was interrupted");
    if (found === "rebuild") return this.#rebuild(intent, "a rebuild was interrupted");
    // Before the first change: is there a server to rejoin from at all?
    const source = await this.#findSource(intent);
    if (intent.method === "rebuild") return this.#rebuild(intent, "asked for");
    if (source.onlyRebuild !== null) return this.#rebuild(intent, source.onlyRebuild);
    if (found !== "ready") {
      const problem = await this.#recoverAndMoveOut();
      if (problem !== null) return this.#rebuild(intent, problem);
    }
    const result = await this.#rewind(intent);
    if (typeof result !== "string") return result;
    return this.#rebuild(intent, result);
  }

  /** Null when everything is staged; otherwise why a rewind is impossible. */
  async #recoverAndMoveOut(): Promise<string | null> {
    if (isThere(join(this.pgdata, "PG_VERSION"))) {
      if (hasRelativeWalLink(this.pgdata)) return "pg_wal is a relative link";
      if (this.#phase.phase !== "recover") this.#phase = { ...this.#phase, phase: "recover" };
      this.#enter("recover");
      const problem = await this.#recover();
      if (problem !== null) return problem;
      writeLayout(this.stateDir, surveyLayout(this.pgdata, this.#major()));
      this.#enter("move-out");
    }
    this.#makeDirectory(this.#staging);
    moveOut(this.pgdata, this.#staging, (name) => this.#step(`move-out:${name}`));
    this.#enter("ready");
    return null;
  }

  async #recover(): Promise<string | null> {
    const before = this.#readControl(this.pgdata);
    if (typeof before === "string") return before;
    const clean = before.state === "shut down" || before.state === "shut down in recovery";
    if (clean && !isThere(join(this.pgdata, "postmaster.pid"))) return null;
    if (before.state === "in archive recovery") {
      // Single-user recovery would write a checkpoint at the end of the received WAL. When that end is before the fork,
      // pg_rewind takes it for a checkpoint that both sides have, and replay would begin where the primary has none.
      return "this standby did not stop cleanly, and crash recovery would write WAL that pg_rewind takes for the primary's";
    }
    // Durable before the server writes: see `Phase.recovered`.
    this.#phase = { ...this.#phase, recovered: true };
    this.#enter("recover");
    this.#info(`crash recovery (the server was ${before.state})`);
    // --single refuses standby mode.
    rmSync(join(this.pgdata, "standby.signal"), { force: true });
    rmSync(join(this.pgdata, "recovery.signal"), { force: true });
    const problem = await this.#recoverWhenUnused();
    if (problem !== null) return problem;
    const after = this.#readControl(this.pgdata);
    if (typeof after === "string") return after;
    return after.state === "shut down" ? null : `after crash recovery the server is "${after.state}"`;
  }

  async #recoverWhenUnused(): Promise<string | null> {
    const deadline = performance.now() + (this.options.serverDeadlineMs ?? 10_000);
    for (;;) {
      try {
        await runSingleUserRecovery({ ...this.#tool, pgdata: this.pgdata, configFile: this.#configFile() });
        return null;
      } catch (error) {
        if (!(error instanceof ToolError) || error.code === "TOOL_NOT_FOUND") throw error;
        const inUse = /lock file|still in use|being used by/.test(error.message);
        if (!inUse) return `crash recovery failed: ${error.message}`;
        if (performance.now() > deadline) {
          const message = `a PostgreSQL server still uses ${this.pgdata}: ${error.message}`;
          throw new PrepareError("PREPARE_SERVER_RUNNING", message, { cause: error });
        }
        await this.#sleep(250);
      }
    }
  }

  /** The outcome, or why the directory has to be rebuilt. */
  async #rewind(intent: RejoinIntent): Promise<PrepareOutcome | string> {
    const source = await this.#findSource(intent);
    if (source.onlyRebuild !== null) return source.onlyRebuild;
    const problem = this.#refuseRewind(source);
    if (problem !== null) return problem;
    const recovered = this.#phase.recovered;
    this.#enter("rewind");
    this.#info(`rewinding to the history of ${source.node}, timeline ${source.timeline}`);
    const { currentLsn: fromLsn } = await readSourceWal(source);
    let changed: boolean;
    try {
      changed = await runRewind({
        ...this.#tool,
        sourceDsn: source.dsn,
        target: this.#staging,
        onProgress: this.#progress("rewind"),
      });
    } catch (error) {
      if (!(error instanceof ToolError) || error.code === "TOOL_NOT_FOUND") throw error;
      return `the rewind failed: ${error.message}`;
    }
    this.#step("rewound");
    // Single-user recovery wrote a checkpoint that no other node has; if pg_rewind did not see it as a divergence (a
    // standby that ended before the fork), the WAL of the primary does not fit behind it.
    if (!changed && recovered) return "pg_rewind saw no divergence although crash recovery wrote WAL here";
    const missing = await this.#missingWal(source, changed);
    if (missing !== null) return missing;
    if (changed) {
      const control = this.#readControl(this.#staging);
      if (typeof control === "string") return control;
      const lost = await fetchWal({
        source,
        directory: join(this.#staging, "pg_wal"),
        fromLsn,
        toLsn: parseLsn(control.minRecoveryPoint),
        segmentBytes: control.walSegmentBytes,
      });
      if (lost !== null) return `the WAL segment ${lost} went from ${source.node} during the rewind`;
    }
    this.#enter("move-in", "staging");
    this.#moveIn();
    return { action: changed ? "rewound" : "unchanged", why: this.#why, sourceNode: source.node };
  }

  #refuseRewind(source: Source): string | null {
    const control = this.#readControl(this.#staging);
    if (typeof control === "string") return control;
    if (Math.max(control.timeline, control.minRecoveryPointTimeline) >= source.timeline) {
      // Two promotions can take the same number; pg_rewind would compare nothing.
      return `this node is on timeline ${control.timeline} as the primary is on ${source.timeline}`;
    }
    if (!control.dataChecksums && !control.walLogHints) return "neither data checksums nor wal_log_hints are on";
    const own = this.#layout().tablespaces;
    const unknown = [...source.tablespaces.keys()].filter((oid) => own[oid] === undefined);
    // pg_rewind would make a link to the source's path, which on one machine is the source's own directory.
    return unknown.length === 0 ? null : `the primary has tablespaces that this node has not (${unknown.join(", ")})`;
  }

  async #missingWal(source: Source, changed: boolean): Promise<string | null> {
    const control = this.#readControl(this.#staging);
    if (typeof control === "string") return control;
    const label = readFileIfThere(join(this.#staging, "backup_label"));
    const start = label === null ? null : startOfBackupLabel(label);
    if (changed && start === null) return "the rewind left no backup_label";
    const wal = await readSourceWal(source);
    const missing = findMissingSegment({
      startLsn: start ?? parseLsn(control.redoLsn),
      endLsn: wal.currentLsn,
      timeline: source.timeline,
      history: wal.history,
      segmentBytes: control.walSegmentBytes,
      localFiles: new Set(readdirSync(join(this.#staging, "pg_wal"))),
      localEndLsn: changed ? null : parseLsn(control.checkpointLsn),
      sourceFiles: wal.files,
    });
    return missing === null ? null : `the WAL segment ${missing} is neither here nor on ${source.node}`;
  }

  async #rebuild(intent: RejoinIntent, reason: string): Promise<PrepareOutcome> {
    this.options.log("warning", `full copy: ${reason}`);
    const source = await this.#findSource(intent);
    if (this.#phase.phase !== "rebuild") {
      // Before the first rename nothing was written down yet; later the links may be the source's already.
      const untouched = this.#phase.phase === "recover" || readLayout(this.stateDir) === null;
      if (untouched) writeLayout(this.stateDir, surveyLayout(this.pgdata, this.#major()));
      this.#enter("rebuild");
    }
    const layout = this.#layout();
    this.#deleteOldData(layout);
    this.#step("deleted");
    this.#info(`copying everything from ${source.node}`);
    await this.#copy(source, layout);
    this.#enter("move-in", "staging.new");
    this.#moveIn();
    return { action: "rebuilt", why: `${this.#why}; full copy: ${reason}`, sourceNode: source.node };
  }

  #deleteOldData(layout: Layout): void {
    deleteEntries(this.pgdata);
    rmSync(this.#staging, { recursive: true, force: true });
    rmSync(this.#stagingNew, { recursive: true, force: true });
    if (layout.walDirectory !== null) emptyDirectory(layout.walDirectory);
    for (const directory of Object.values(layout.tablespaces)) {
      for (const name of existsSync(directory) ? readdirSync(directory) : []) {
        // Other major versions keep their data beside ours.
        if (name.startsWith(`PG_${layout.major}_`)) rmSync(join(directory, name), { recursive: true, force: true });
      }
    }
  }

  async #copy(source: Source, layout: Layout): Promise<void> {
    const mapping = new Map<string, string>();
    for (const [oid, theirs] of source.tablespaces) mapping.set(theirs, layout.tablespaces[oid] ?? theirs);
    this.#makeDirectory(this.#stagingNew);
    await runBaseBackup({
      ...this.#tool,
      sourceDsn: source.dsn,
      target: this.#stagingNew,
      walDirectory: layout.walDirectory ?? undefined,
      tablespaces: mapping,
      onProgress: this.#progress("rebuild"),
    });
    const control = this.#readControl(this.#stagingNew);
    if (typeof control === "string")
      throw new PrepareError("PREPARE_REBUILD_FAILED", `the copy is unusable: ${control}`);
  }

  #moveIn(): void {
    const from = join(this.pgdata, "pg_replica", this.#phase.from ?? "staging");
    replaceFileDurably(join(this.pgdata, "standby.signal"), "");
    rmSync(join(this.pgdata, "recovery.signal"), { force: true });
    this.#step("standby-signal");
    // Slots do not survive a rejoin; the agent makes the members' slots again.
    emptyDirectory(join(from, "pg_replslot"));
    rmSync(join(from, "postmaster.pid"), { force: true });
    clearPrimaryConninfo(this.pgdata);
    moveIn(from, this.pgdata, ownEntries, (name) => this.#step(`move-in:${name}`));
    rmSync(this.#staging, { recursive: true, force: true });
    rmSync(this.#stagingNew, { recursive: true, force: true });
    this.#step("staging-removed");
    clearState(this.stateDir, (name) => this.#step(name));
    this.#step("done");
    this.#info("the data directory is ready to start as a standby");
  }

  #findSource(intent: RejoinIntent): Promise<Source> {
    return findSource({
      intent,
      major: this.#major(),
      deadlineMs: this.options.sourceDeadlineMs ?? 60_000,
      log: (message) => this.#info(message),
      signal: this.options.signal,
    });
  }

  #major(): number {
    for (const directory of [this.pgdata, this.#staging]) {
      const text = readFileIfThere(join(directory, "PG_VERSION"));
      if (text !== null && /^\d+$/.test(text.trim())) return Number(text.trim());
    }
    return this.#layout().major;
  }

  #layout(): Layout {
    const layout = readLayout(this.stateDir);
    if (layout !== null) return layout;
    const message = `${join(this.stateDir, "rejoin.layout")} is missing in phase "${this.#phase.phase}": where the tablespaces and pg_wal belong is not known`;
    throw new PrepareError("PREPARE_BAD_PHASE", message);
  }

  /** A file that cannot be read is a reason to rebuild, not to stop. */
  #readControl(directory: string): ControlFileDetails | string {
    try {
      return readControlFile(directory);
    } catch (error) {
      if (error instanceof ControlFileError) return error.message;
      throw error;
    }
  }

  /** Outside PGDATA (Debian): as the server was last started. Without any: an empty one will do for recovery. */
  #configFile(): string | null {
    if (this.options.configFile !== undefined) return this.options.configFile;
    const named = lastConfigFile(this.pgdata);
    if (named !== undefined) return named;
    if (existsSync(join(this.pgdata, "postgresql.conf"))) return null;
    const empty = join(this.stateDir, "recovery.conf.empty");
    replaceFileDurably(empty, "");
    return empty;
  }

  async #waitForServerToEnd(): Promise<void> {
    const deadline = performance.now() + (this.options.serverDeadlineMs ?? 10_000);
    for (;;) {
      const pids = serversIn(this.pgdata);
      if (pids.length === 0) break;
      if (performance.now() > deadline) {
        const message = `PostgreSQL processes still work in ${this.pgdata} (pid ${pids.join(", ")}): stop the server first`;
        throw new PrepareError("PREPARE_SERVER_RUNNING", message);
      }
      await this.#sleep(100);
    }
    this.#removeMisleadingPidFile();
  }

  /**
   * No server is here. If the process id in postmaster.pid is taken all the same (a zombie that nobody reaped, a process
   * that got the number later, this container's first process), PostgreSQL would take it for a running server. Otherwise
   * the file stays: PostgreSQL finds left-over shared memory by it.
   */
  #removeMisleadingPidFile(): void {
    const path = join(this.pgdata, "postmaster.pid");
    const text = readFileIfThere(path);
    if (text === null) return;
    const pid = Math.abs(Number.parseInt(text, 10));
    if (Number.isInteger(pid) && pid > 0 && !existsSync(`/proc/${pid}`)) return;
    // The state must still say that the server did not end cleanly, so that recovery is not skipped.
    this.#info(`removing postmaster.pid: its process ${pid} is no PostgreSQL server of this directory`);
    removeFileDurably(path);
  }

  #makeDirectory(path: string): void {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    fsyncDirectory(join(path, ".."));
  }

  #enter(phase: PhaseName, from: Phase["from"] = null): void {
    this.#phase = { ...this.#phase, phase, from };
    writePhase(this.stateDir, this.#phase);
    this.#step(`phase:${phase}`);
  }

  #progress(step: "rewind" | "rebuild"): (progress: Bytes) => void {
    let shown = -1;
    return (progress) => {
      this.options.onProgress?.(step, progress);
      const percent = progress.totalBytes === 0 ? 0 : Math.floor((100 * progress.doneBytes) / progress.totalBytes);
      if (percent < shown + 5 && percent !== 100) return;
      if (percent === shown) return;
      shown = percent;
      const mebibytes = (bytes: number) => Math.round(bytes / 1_048_576);
      this.#info(`${step}: ${percent}% (${mebibytes(progress.doneBytes)} of ${mebibytes(progress.totalBytes)} MiB)`);
    };
  }

  #step(name: string): void {
    this.options.onStep?.(name);
  }

  #info(message: string): void {
    this.options.log("info", message);
  }

  #sleep(ms: number): Promise<void> {
    return sleep(ms, undefined, this.options.signal === undefined ? {} : { signal: this.options.signal });
  }
}

/** Whether a rejoin is pending or half done: such a directory must not be started, joined or initialised. */
export function isRejoinPending(pgdata: string, stateDir = join(pgdata, "pg_replica")): boolean {
  return readPhase(stateDir) !== null || readIntent(stateDir) !== null;
}

/** PostgreSQL's major version of a data directory, or null when it has no PG_VERSION. */
export function majorVersionOf(pgdata: string): number | null {
  const path = join(pgdata, "PG_VERSION");
  return existsSync(path) ? Number(readFileSync(path, "utf8").trim()) : null;
}
