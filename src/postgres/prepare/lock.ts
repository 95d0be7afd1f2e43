/**
 * One `prepare` (or clone) at a time on a data directory, and none of its tools left behind.
 *
 * The lock is flock(2) on `prepare.lock`. Node cannot call it, so util-linux's `flock` does, on a file that it inherits
 * from us: the lock belongs to the open file, not to the process, so it stays when `flock` exits and is shared by every
 * tool that inherits the file as well. It ends when the last of them closes it. Two things follow:
 *  - the kernel decides who has the lock, also between containers that share the volume but not the process table;
 *  - a tool that outlives a killed `prepare` (pg_basebackup's WAL streamer is a fork that nothing ends) keeps the lock,
 *    and is found by the file that it has open. It is killed before anything else is done, as it may still write.
 */
import { spawnSync } from "node:child_process";
import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { PrepareError } from "./errors.js";
import { holdersOf, type RunningProcess, startTimeOf } from "./processes.js";

export interface ToolLock {
  /** To be handed to every tool. */
  readonly fd: number;
  release(): void;
}

const tools: ReadonlySet<string> = new Set(["pg_basebackup", "pg_rewind", "postgres", "flock"]);
const takeOverMs = 10_000;

/**
 * @param directory where the lock file lies; must exist
 * @throws PrepareError `PREPARE_LOCKED` when another prepare or clone is at work
 */
export async function acquireToolLock(directory: string, log: (message: string) => void): Promise<ToolLock> {
  const path = join(directory, "prepare.lock");
  const fd = openSync(path, "a", 0o600);
  try {
    const deadline = performance.now() + takeOverMs;
    while (!tryLock(fd)) {
      const holders = await settledHolders(fd);
      const others = holders.filter((holder) => !tools.has(holder.program));
      // The owner's open files may be hidden from us; its process id and start time are not.
      const owner = liveOwner(path);
      if (owner !== null) {
        throw new PrepareError("PREPARE_LOCKED", `another prepare is running: process ${owner} holds ${path}`);
      }
      if (others.length > 0) {
        const list = others.map((other) => `${other.program || "a process"} (pid ${other.pid})`).join(", ");
        throw new PrepareError("PREPARE_LOCKED", `another prepare is running: ${list} holds ${path}`);
      }
      if (performance.now() > deadline) {
        const message = `${path} is locked by a process that cannot be seen or does not end: is the directory in use elsewhere (another container, another user)?`;
        throw new PrepareError("PREPARE_LOCKED", message);
      }
      for (const holder of holders) endLeftOver(holder, log);
      await sleep(20);
    }
    ftruncateSync(fd);
    writeSync(fd, `${process.pid} ${startTimeOf(process.pid)}\n`);
    return { fd, release: () => closeSync(fd) };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** The process that wrote itself down when it got the lock, if it still runs. */
function liveOwner(path: string): number | null {
  const [pid, startTime] = readFileSync(path, "utf8").trim().split(" ");
  if (pid === undefined || startTime === undefined || Number(pid) === process.pid) return null;
  return startTimeOf(Number(pid)) === startTime ? Number(pid) : null;
}

function tryLock(fd: number): boolean {
  const result = spawnSync("flock", ["-n", "3"], { stdio: ["ignore", "ignore", "pipe", fd] });
  if (result.error !== undefined) {
    const message = `the program "flock" (package util-linux) cannot be run: ${result.error.message}`;
    throw new PrepareError("PREPARE_LOCKED", message, { cause: result.error });
  }
  if (result.status === 0) return true;
  if (result.status === 1) return false;
  const said = result.stderr.toString().trim();
  throw new PrepareError("PREPARE_LOCKED", `flock ended with status ${result.status}: ${said}`);
}

/**
 * Looks twice. A prepare that starts while we walk through /proc may be passed by and only its tool be seen; it has the
 * file open before its tool has, so the second walk sees it.
 */
async function settledHolders(fd: number): Promise<RunningProcess[]> {
  const file = fstatSync(fd, { bigint: true });
  const first = new Set(holdersOf(file).map((holder) => holder.pid));
  const second = holdersOf(file);
  // Whoever is new is no left-over, or not seen long enough to say so: reported as long as it is no tool.
  return second.filter((holder) => first.has(holder.pid) || !tools.has(holder.program));
}

function endLeftOver(holder: RunningProcess, log: (message: string) => void): void {
  log(`ending ${holder.program} (pid ${holder.pid}), left behind by a prepare that was killed`);
  try {
    process.kill(holder.pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}
