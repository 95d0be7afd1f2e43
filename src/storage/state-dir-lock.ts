/**
 * One agent a state directory.
 *
 * The lock is an abstract unix socket whose name is made from the directory's device and inode: binding is atomic in
 * the kernel, the kernel drops it the moment the holder is gone (SIGKILL included), it leaves nothing stale behind, and
 * symlinks or bind mounts lead to the same name. Node has no flock, and a lock file alone cannot be taken over without a
 * race. Abstract names are private to a network namespace, so a file beside it names the holder (pid, start time, boot):
 * it tells who holds the lock, and catches a holder in another network namespace of the same host.
 */
import { readFile, stat, unlink } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import * as v from "valibot";
import { writeFileAtomically } from "./disk.js";
import { errorCode, ioError, StorageError } from "./errors.js";

import { prepareDirectory } from "./file-storage.js";

export interface StateDirLock {
  release(): Promise<void>;
}

const pollMs = 25;
const holderSchema = v.object({ pid: v.number(), startTime: v.string(), bootId: v.string() });
type Holder = v.InferOutput<typeof holderSchema>;

/**
 * Makes the directory (0700) when there is none.
 *
 * @param waitMs how long to wait for a dying holder.
 * @throws StorageError STORAGE_IN_USE naming the holder.
 */
export async function lockStateDir(dir: string, waitMs: number): Promise<StateDirLock> {
  const path = join(dir, "lock");
  await prepareDirectory(dir, [path]);
  const name = await lockName(dir);
  const deadline = performance.now() + waitMs;
  for (;;) {
    const server = await bind(name, path);
    const holder = await readHolder(path);
    const foreign = holder !== null && holder.pid !== process.pid && (await isAlive(holder));
    if (server !== null && !foreign) return take(server, path);
    if (server !== null) await close(server);
    if (performance.now() >= deadline) throw inUse(path, holder);
    await delay(pollMs);
  }
}

async function lockName(dir: string): Promise<string> {
  try {
    const { dev, ino } = await stat(dir, { bigint: true });
    return `\0pg_replica.state-dir.${dev}.${ino}`;
  } catch (error) {
    throw ioError(dir, "locking", error);
  }
}

/** Null when another process has the name. */
function bind(name: string, path: string): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (error) => {
      if (errorCode(error) === "EADDRINUSE") resolve(null);
      else reject(ioError(path, "locking", error));
    });
    server.listen(name, () => {
      server.unref();
      resolve(server);
    });
  });
}

async function take(server: Server, path: string): Promise<StateDirLock> {
  const self: Holder = {
    pid: process.pid,
    startTime: (await processStartTime(process.pid)) ?? "",
    bootId: await bootId(),
  };
  await writeFileAtomically(path, `${JSON.stringify(self)}\n`);
  let released: Promise<void> | null = null;
  return {
    release() {
      released ??= unlink(path)
        .catch((error: unknown) => {
          if (errorCode(error) !== "ENOENT") throw ioError(path, "unlocking", error);
        })
        .finally(() => close(server));
      return released;
    },
  };
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

/** Null when there is none or it is unreadable: the socket is the lock, this file is a second opinion. */
async function readHolder(path: string): Promise<Holder | null> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw ioError(path, "reading", error);
  }
  try {
    return v.parse(holderSchema, JSON.parse(text));
  } catch {
    return null;
  }
}

/** Process ids are reused; pid, start time and boot together are not. */
async function isAlive(holder: Holder): Promise<boolean> {
  return holder.bootId === (await bootId()) && holder.startTime === (await processStartTime(holder.pid));
}

/** Clock ticks since boot (proc(5), field 22), or null when there is no such process or it is a zombie. */
async function processStartTime(pid: number): Promise<string | null> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, "utf8");
    // The command name may hold spaces and parentheses; fields are counted from its last closing one.
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? null : (fields[19] ?? null);
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ESRCH") return null;
    throw ioError(`/proc/${pid}/stat`, "reading", error);
  }
}

async function bootId(): Promise<string> {
  return (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
}

function inUse(path: string, holder: Holder | null): StorageError {
  const who = holder === null ? "another process" : `process ${holder.pid}`;
  return new StorageError(
    "STORAGE_IN_USE",
    path,
    `${who} is using this state directory`,
    "Only one agent may run on a state directory: stop the other one, or set pg_replica.state_dir to a directory of its own.",
  );
}
