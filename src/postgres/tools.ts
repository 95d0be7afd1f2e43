/** Runs PostgreSQL's own programs and says what went wrong in their words. */
import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { ConninfoError, formatConninfo, parseConninfo } from "./conninfo.js";

export class ToolError extends Error {
  override readonly name = "ToolError";
  constructor(
    readonly code: "TOOL_NOT_FOUND" | "TOOL_FAILED" | "TOOL_KILLED",
    readonly tool: string,
    message: string,
    /** What the tool said last, oldest first. */
    readonly lastLines: readonly string[],
  ) {
    super(message);
  }
}

export interface Bytes {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export interface ToolOptions {
  /** Directory of PostgreSQL's binaries. */
  readonly bindir: string;
  /** Open file that every tool inherits, so that `prepare/lock.ts` can find the ones that outlive their parent. */
  readonly lockFd?: number;
  /** Ends the tool with SIGKILL when aborted. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: Bytes) => void;
}

const keptLines = 200;
const shownLines = 12;

interface ToolRun extends ToolOptions {
  readonly tool: string;
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/**
 * Runs one tool to its end, with an empty standard input and English messages (some of them are read here).
 * @returns its last lines, standard output and standard error in the order of arrival
 * @throws ToolError when it is not there, is killed, or exits with another status than 0
 */
export async function runTool(run: ToolRun): Promise<string[]> {
  const program = join(run.bindir, run.tool);
  try {
    accessSync(program, constants.X_OK);
  } catch {
    const message = `${program} is not there or not executable: is the directory of PostgreSQL's programs right?`;
    throw new ToolError("TOOL_NOT_FOUND", run.tool, message, []);
  }
  run.signal?.throwIfAborted();
  const child = spawn(program, run.args, {
    stdio: run.lockFd === undefined ? ["ignore", "pipe", "pipe"] : ["ignore", "pipe", "pipe", run.lockFd],
    env: { ...process.env, LC_ALL: "C", LC_MESSAGES: "C", ...run.environment },
    ...(run.cwd === undefined ? {} : { cwd: run.cwd }),
    ...(run.signal === undefined ? {} : { signal: run.signal, killSignal: "SIGKILL" }),
  });
  const lines: string[] = [];
  const take = (line: string) => {
    const progress = parseProgress(line);
    if (progress !== null) {
      run.onProgress?.(progress);
    } else if (line.trim() !== "") {
      lines.push(line);
      if (lines.length > keptLines) lines.shift();
    }
  };
  // A fork of the tool may outlive it and hold the pipes open, so the tool's exit is what counts, not their end; the
  // short wait after it only lets lines that are already in the pipes arrive.
  const outputs = [child.stdout as Readable, child.stderr as Readable];
  const ended = Promise.all(outputs.map((output) => readLines(output, take)));
  const [status, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code, killedBy) => resolve([code, killedBy]));
  });
  await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 500))]);
  for (const output of outputs) output.destroy();
  if (status === 0) return lines;
  const how = signal === null ? `exited with status ${status}` : `was ended by ${signal}`;
  const said = lines.slice(-shownLines);
  const message = [`${run.tool} ${how}${said.length > 0 ? "; it said last:" : " without a word"}`, ...said].join(
    "\n  ",
  );
  throw new ToolError(signal === null ? "TOOL_FAILED" : "TOOL_KILLED", run.tool, message, lines);
}

async function readLines(stream: Readable, take: (line: string) => void): Promise<void> {
  // readline ends lines at \r too: progress is written so.
  for await (const line of createInterface({ input: stream, crlfDelay: 0 })) take(line);
}

/** `12345/67890 kB (18%), 0/1 tablespace`, as pg_basebackup and pg_rewind write it. */
export function parseProgress(line: string): Bytes | null {
  const match = /^\s*(\d+)\/(\d+) kB \(\d+%\)/.exec(line);
  if (match === null) return null;
  const totalBytes = Number(match[2]) * 1024;
  // pg_basebackup's total is an estimate that the data may outgrow while they are copied.
  return { doneBytes: Math.min(Number(match[1]) * 1024, totalBytes), totalBytes };
}

/**
 * A connection string for a command line, where everybody can read it: the password goes through the environment. Dead
 * connections are noticed within half a minute unless the string says otherwise.
 */
export function toolConnection(
  dsn: string,
  applicationName: string,
): { readonly dsn: string; readonly environment: Record<string, string> } {
  const parameters = parseConninfo(dsn);
  if (parameters.has("sslpassword")) {
    const message = '"sslpassword" cannot be handed to a tool unseen: use a key file without a passphrase';
    throw new ConninfoError("CONNINFO_UNSUPPORTED", message, null);
  }
  const password = parameters.get("password");
  parameters.delete("password");
  parameters.set("application_name", applicationName);
  const defaults = { connect_timeout: "10", keepalives_idle: "10", keepalives_interval: "5", keepalives_count: "3" };
  for (const [keyword, value] of Object.entries(defaults)) {
    if (!parameters.has(keyword)) parameters.set(keyword, value);
  }
  return { dsn: formatConninfo(parameters), environment: password ? { PGPASSWORD: password } : {} };
}

export interface BaseBackup extends ToolOptions {
  readonly sourceDsn: string;
  /** Must not exist or be empty; only its parent is looked at otherwise. */
  readonly target: string;
  /** Where the WAL goes when pg_wal is to be a link. */
  readonly walDirectory?: string | undefined;
  /** Tablespace directories: the source's to this node's. */
  readonly tablespaces?: ReadonlyMap<string, string>;
}

/** pg_basebackup with all the WAL that it needs, fsynced. */
export async function runBaseBackup(options: BaseBackup): Promise<void> {
  const { dsn, environment } = toolConnection(options.sourceDsn, "pg_replica clone");
  const args = [
    "-d",
    dsn,
    "-D",
    options.target,
    "-c",
    "fast",
    "-X",
    "stream",
    "--progress",
    "--no-manifest",
    "--no-password",
  ];
  if (options.walDirectory !== undefined) args.push(`--waldir=${options.walDirectory}`);
  for (const [theirs, ours] of options.tablespaces ?? []) {
    if (theirs !== ours) args.push(`--tablespace-mapping=${escapeEquals(theirs)}=${escapeEquals(ours)}`);
  }
  await runTool({ ...options, tool: "pg_basebackup", args, environment });
}

const escapeEquals = (path: string) => path.replaceAll("=", "\\=");

export interface Rewind extends ToolOptions {
  readonly sourceDsn: string;
  readonly target: string;
}

/**
 * pg_rewind on a cleanly shut down directory. It reads no configuration file: recovery was done before.
 * @returns whether anything had to be rewound; false means that pg_rewind found no divergence and changed nothing
 */
export async function runRewind(options: Rewind): Promise<boolean> {
  const { dsn, environment } = toolConnection(options.sourceDsn, "pg_replica rewind");
  const args = ["--no-ensure-shutdown", `--target-pgdata=${options.target}`, `--source-server=${dsn}`, "--progress"];
  const lines = await runTool({ ...options, tool: "pg_rewind", args, environment });
  return !lines.some((line) => line.includes("no rewind required"));
}

export interface SingleUser extends ToolOptions {
  readonly pgdata: string;
  /** postgresql.conf when it is not in the data directory. */
  readonly configFile: string | null;
}

/**
 * Crash recovery by a server in single-user mode, in place, that removes no WAL (pg_rewind needs it from the fork on).
 * @throws ToolError
 */
export async function runSingleUserRecovery(options: SingleUser): Promise<void> {
  const args = ["--single", "-D", options.pgdata];
  if (options.configFile !== null) args.push("-c", `config_file=${options.configFile}`);
  for (const setting of [
    "wal_keep_size=1000000",
    "max_slot_wal_keep_size=-1",
    "archive_mode=off",
    "pg_replica.enabled=off",
    // Otherwise its log would go where nobody shows it.
    "logging_collector=off",
    "log_destination=stderr",
  ]) {
    args.push("-c", setting);
  }
  args.push("template1");
  await runTool({ ...options, tool: "postgres", args, environment: { PG_REPLICA_DISABLE: "1" }, cwd: options.pgdata });
}
