/** What /proc tells about other processes. Entries that vanish or belong to others while we look are skipped. */
import { type BigIntStats, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { basename } from "node:path";

export interface RunningProcess {
  readonly pid: number;
  /** File name of its program, or "" when it cannot be seen. */
  readonly program: string;
}

export function runningPids(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

export function programOf(pid: number): string {
  try {
    // A package upgrade removes the program of a running process.
    return basename(readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, ""));
  } catch {
    return "";
  }
}

/** When a process started, in clock ticks since boot; null when it is gone or a zombie. With the pid it names a process. */
export function startTimeOf(pid: number): string | null {
  const fields = statFields(pid);
  return fields === null || fields[0] === "Z" || fields[0] === "X" ? null : (fields[19] ?? null);
}

/** Fields of /proc/PID/stat after the name, which may itself contain blanks and parentheses. */
function statFields(pid: number): string[] | null {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return null;
  }
}

/** Processes that have this file open, other than this one. */
export function holdersOf(file: BigIntStats): RunningProcess[] {
  return runningPids()
    .filter((pid) => pid !== process.pid && hasOpen(pid, file))
    .map((pid) => ({ pid, program: programOf(pid) }));
}

function hasOpen(pid: number, file: BigIntStats): boolean {
  let names: string[];
  try {
    names = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return false;
  }
  return names.some((name) => isSameFile(statOrNull(`/proc/${pid}/fd/${name}`), file));
}

/** PostgreSQL processes that work in this data directory: the postmaster and every backend, also orphaned ones. */
export function serversIn(pgdata: string): number[] {
  const directory = statOrNull(pgdata);
  if (directory === null) return [];
  return runningPids().filter(
    (pid) =>
      pid !== process.pid && programOf(pid) === "postgres" && isSameFile(statOrNull(`/proc/${pid}/cwd`), directory),
  );
}

function isSameFile(a: BigIntStats | null, b: BigIntStats): boolean {
  return a !== null && a.dev === b.dev && a.ino === b.ino;
}

function statOrNull(path: string): BigIntStats | null {
  try {
    return statSync(path, { bigint: true });
  } catch {
    return null;
  }
}
