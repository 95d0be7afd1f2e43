/** The local server as a process: stopping it, and knowing from its files when it has stopped. */
import { closeSync, openSync, readFileSync, readlinkSync, readSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { formatLsn, parseLsn } from "../control/lsn.js";
import type { Lsn } from "../control/types.js";
import { ControlFileError, readControlFile } from "./control-file.js";
import { Deadline, sleep } from "./deadline.js";
import { messageOf, ServerError } from "./errors.js";

const signals = { fast: "SIGINT", immediate: "SIGQUIT" } as const;

/**
 * Signals the postmaster of `pgdata`; does not wait for its end.
 * @param expectedPid when known: a server with another pid is not touched
 * @returns false when no server runs there
 */
export async function stopServer(pgdata: string, mode: "fast" | "immediate", expectedPid?: number): Promise<boolean> {
  const pid = readPostmasterPid(pgdata);
  if (pid === null) return false;
  if (expectedPid !== undefined && pid !== expectedPid) {
    const message = `postmaster.pid in ${pgdata} names process ${pid}, not ${expectedPid}: nothing was stopped`;
    throw new ServerError("SERVER_PROCESS", message);
  }
  if (!runsIn(pid, pgdata)) return false;
  try {
    process.kill(pid, signals[mode]);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw new ServerError(
      "SERVER_PROCESS",
      `the server ${pid} in ${pgdata} could not be signalled: ${messageOf(error)}`,
    );
  }
}

function readPostmasterPid(pgdata: string): number | null {
  let text: string;
  try {
    text = readFileSync(join(pgdata, "postmaster.pid"), "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw new ServerError("SERVER_PROCESS", `postmaster.pid in ${pgdata} can not be read: ${messageOf(error)}`);
  }
  // A stand-alone backend writes its pid negated.
  const pid = Number(text.split("\n")[0]);
  if (!Number.isInteger(pid) || pid <= 1) {
    throw new ServerError("SERVER_PROCESS", `postmaster.pid in ${pgdata} does not name a postmaster`);
  }
  return pid;
}

/** postmaster.pid survives a crash, and its pid may be anybody's by now: a postmaster lives in its data directory. */
function runsIn(pid: number, pgdata: string): boolean {
  try {
    return readlinkSync(`/proc/${pid}/cwd`) === realpathSync(pgdata);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ESRCH") return false;
    throw new ServerError("SERVER_PROCESS", `process ${pid} can not be checked: ${messageOf(error)}`);
  }
}

const checkPollMs = 1;

/**
 * Waits until pg_control says "shut down" and gives the end of the shutdown checkpoint record.
 *
 * Rule (tried on a standby that has replayed it): pg_last_wal_replay_lsn() is then exactly the record's aligned end:
 * start + total length, rounded up to 8, plus the header of the next page when the record goes over a page's end. A
 * standby has everything of this server when its replay position is at or beyond that value.
 */
export async function waitForShutdownCheckpoint(pgdata: string, deadlineMs: number): Promise<Lsn> {
  const deadline = new Deadline(deadlineMs);
  let last = "";
  for (;;) {
    const found = readShutdown(pgdata);
    if ("lsn" in found) return found.lsn;
    last = found.why;
    if (deadline.passed) {
      const message = `${pgdata} was not shut down as a primary within ${deadlineMs} ms: ${last}`;
      throw new ServerError("SERVER_STATE", message);
    }
    await sleep(checkPollMs);
  }
}

function readShutdown(pgdata: string): { lsn: Lsn } | { why: string } {
  try {
    const control = readControlFile(pgdata);
    if (control.state !== "shut down") return { why: `its state is "${control.state}"` };
    return { lsn: checkpointEnd(pgdata, control) };
  } catch (error) {
    // The server writes pg_control without a lock against readers: the next read is whole.
    if (error instanceof ControlFileError && error.code === "CONTROL_FILE_DAMAGED") return { why: error.message };
    throw error;
  }
}

function checkpointEnd(
  pgdata: string,
  control: { readonly checkpointLsn: Lsn; readonly timeline: number; readonly walSegmentBytes: number },
): Lsn {
  const start = parseLsn(control.checkpointLsn);
  const segmentBytes = BigInt(control.walSegmentBytes);
  const segment = start / segmentBytes;
  const perHigh = 0x1_0000_0000n / segmentBytes;
  const name = [BigInt(control.timeline), segment / perHigh, segment % perHigh]
    .map((part) => part.toString(16).toUpperCase().padStart(8, "0"))
    .join("");
  const path = join(pgdata, "pg_wal", name);
  const file = openSync(path, "r");
  try {
    // xlp_xlog_blcksz in the segment's long page header; xl_tot_len at the record's start.
    const pageBytes = readUint32(file, path, 36n);
    const recordBytes = readUint32(file, path, start % segmentBytes);
    return formatLsn(recordEnd(start, recordBytes, pageBytes, segmentBytes));
  } finally {
    closeSync(file);
  }
}

function readUint32(file: number, path: string, offset: bigint): number {
  const bytes = new Uint32Array(1);
  if (readSync(file, bytes, 0, 4, Number(offset)) !== 4) {
    throw new ServerError("SERVER_STATE", `${path} ends before byte ${offset}`);
  }
  return bytes[0] ?? 0;
}

/** Where replay stands after a record: xlog_internal.h, MAXALIGN and page headers of 24 (40 at a segment's start). */
export function recordEnd(start: bigint, recordBytes: number, pageBytes: number, segmentBytes: bigint): bigint {
  const page = BigInt(pageBytes);
  let left = align8(BigInt(recordBytes));
  let at = start;
  for (;;) {
    const room = page - (at % page);
    if (left <= room) return at + left;
    left -= room;
    at += room;
    at += at % segmentBytes === 0n ? 40n : 24n;
  }
}

const align8 = (bytes: bigint): bigint => (bytes + 7n) & ~7n;
