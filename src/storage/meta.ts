/** The file `meta`: whose state directory this is (docs/DECISIONS.md D3, D4). */
import { access, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import * as v from "valibot";
import { decodeCheckedJson, readCheckedJson, writeCheckedJson } from "./checked-json.js";
import { realDisk } from "./disk.js";
import { corrupt, errorCode, ioError, StorageError } from "./errors.js";
import { openRaftStorage, prepareDirectory } from "./file-storage.js";
import type { Meta } from "./types.js";

const metaSchema = v.object({
  format: v.literal(1),
  nodeName: v.pipe(v.string(), v.nonEmpty()),
  incarnation: v.pipe(v.string(), v.nonEmpty()),
  clusterId: v.string(),
  systemIdentifier: v.string(),
  raftId: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
});

function metaPath(dir: string): string {
  return join(dir, "meta");
}

/**
 * @returns null when the directory is not formatted.
 * @throws StorageError STORAGE_CORRUPT, STORAGE_FORMAT, STORAGE_IO; nothing is changed.
 */
export async function readMeta(dir: string): Promise<Meta | null> {
  const path = metaPath(dir);
  const value = await readCheckedJson(path);
  return value === null ? null : parseMeta(path, value);
}

/** Pure. @throws StorageError */
export function decodeMeta(path: string, bytes: Buffer): Meta {
  return parseMeta(path, decodeCheckedJson(path, bytes));
}

function parseMeta(path: string, value: unknown): Meta {
  const parsed = v.safeParse(metaSchema, value);
  if (parsed.success) return parsed.output;
  checkFormat(path, value);
  throw corrupt(path, `it does not describe a node (${v.summarize(parsed.issues).replaceAll("\n", " ")})`);
}

/** A later version may add a format; say so instead of calling it damage. */
export function checkFormat(path: string, value: unknown): void {
  const format = v.safeParse(v.object({ format: v.number() }), value);
  if (!format.success || format.output.format === 1) return;
  throw new StorageError(
    "STORAGE_FORMAT",
    path,
    `it has format ${format.output.format}, this program knows format 1`,
    "Start the version of pg_replica that wrote it.",
  );
}

/**
 * Makes an unused directory (0700) the state directory of one node. `meta` is written last: a directory that has it
 * has a Raft log too, so that a log that is missing later is known to be lost.
 *
 * @throws StorageError STORAGE_IN_USE when the directory is formatted or holds Raft state.
 */
export async function formatStateDir(dir: string, meta: Meta): Promise<void> {
  const path = metaPath(dir);
  await prepareDirectory(dir, [path]);
  const existing = await readMeta(dir);
  if (existing !== null) {
    throw new StorageError(
      "STORAGE_IN_USE",
      path,
      `the directory is formatted already, for node "${existing.nodeName}"`,
      "Use it as it is, or remove the whole state directory to start anew.",
    );
  }
  await refuseNodeState(dir);
  const storage = await openRaftStorage(dir);
  const { hardState, entries, snapshot } = storage.initial;
  await storage.close();
  if (hardState.term !== 0 || entries.length > 0 || snapshot.index !== 0) {
    throw new StorageError(
      "STORAGE_IN_USE",
      join(dir, "raft-log"),
      "the directory holds Raft state but no meta file",
      "Remove the whole state directory and let the node join again.",
    );
  }
  // Whoever made the directory may have been killed before its name was durable.
  await realDisk.syncDirectory(dirname(dir)).catch((error: unknown) => {
    throw ioError(dirname(dir), "syncing the directory", error);
  });
  await storeMeta(dir, meta);
}

async function refuseNodeState(dir: string): Promise<void> {
  const path = join(dir, "node-state");
  try {
    await access(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw ioError(path, "reading", error);
  }
  throw new StorageError(
    "STORAGE_IN_USE",
    path,
    "the directory holds pledges of a node but no meta file",
    "Remove the whole state directory and let the node join again.",
  );
}

/**
 * Completes the identity: name and incarnation stay, and what was left open (cluster id, system identifier, Raft id)
 * is set once.
 *
 * @throws StorageError STORAGE_FOREIGN when it would become another identity, STORAGE_MISSING when not formatted.
 */
export async function writeMeta(dir: string, meta: Meta): Promise<void> {
  const path = metaPath(dir);
  const existing = await readMeta(dir);
  if (existing === null) {
    throw new StorageError("STORAGE_MISSING", path, "the state directory is not formatted", "Format it first.");
  }
  for (const key of ["nodeName", "incarnation", "clusterId", "systemIdentifier", "raftId"] as const) {
    const before = existing[key];
    const open = before === "" || before === 0;
    if (open || before === meta[key]) continue;
    throw new StorageError(
      "STORAGE_FOREIGN",
      path,
      `${key} would change from "${before}" to "${meta[key]}"`,
      "An identity is never changed: remove the whole state directory and let the node join again.",
    );
  }
  await storeMeta(dir, meta);
}

/** Pair check: what is written is what is meant, and what is read back is what was written. */
async function storeMeta(dir: string, meta: Meta): Promise<void> {
  const path = metaPath(dir);
  const checked = parseMeta(path, meta);
  await writeCheckedJson(path, { ...checked, directory: await inodeOf(dir) });
  const back = parseMeta(path, await readCheckedJson(path));
  if (JSON.stringify(back) !== JSON.stringify(checked))
    throw corrupt(path, "it reads back differently from what was written");
}

/** Which directory `meta` was written for, beside what {@link Meta} says; not in directories of the first version. */
const placeSchema = v.object({ directory: v.optional(v.string(), "") });

/**
 * Refuses a copy of a state directory (a copied data directory, a restored backup): under one identity two nodes would
 * vote twice, and an older copy has forgotten what it voted and acknowledged. A copy is another inode.
 *
 * @throws StorageError STORAGE_FOREIGN
 */
export async function refuseCopy(dir: string): Promise<void> {
  const path = metaPath(dir);
  const place = v.safeParse(placeSchema, await readCheckedJson(path));
  const made = place.success ? place.output.directory : "";
  if (made === "") return;
  const found = await inodeOf(dir);
  if (made === found) return;
  throw new StorageError(
    "STORAGE_FOREIGN",
    path,
    `this state directory is a copy or was restored: the node's own one was inode ${made}, this one is inode ${found}, and a node's identity must not be used twice`,
    'If the original still exists, do not start this copy; make another node with "pg_replica join". If it is gone, remove this state directory (not the data directory): the node registers under a new id when it starts.',
  );
}

/** Stays the same when the directory is renamed or its file system is mounted elsewhere. */
async function inodeOf(dir: string): Promise<string> {
  try {
    return String((await stat(dir, { bigint: true })).ino);
  } catch (error) {
    throw ioError(dir, "reading", error);
  }
}

export interface ExpectedIdentity {
  readonly nodeName?: string;
  readonly systemIdentifier?: string;
  readonly clusterId?: string;
}

const expectedNames = [
  ["nodeName", "node", "pg_replica.node_id"],
  ["systemIdentifier", "the server with system identifier", "the data directory"],
  ["clusterId", "cluster", "the cluster"],
] as const;

/**
 * Refuses a state directory of another node, server or cluster, naming both. Facts that `meta` leaves open match.
 *
 * @throws StorageError STORAGE_FOREIGN
 */
export function checkMeta(meta: Meta, expected: ExpectedIdentity): void {
  for (const [key, noun, source] of expectedNames) {
    const want = expected[key];
    if (want === undefined || want === "" || meta[key] === "" || meta[key] === want) continue;
    throw new StorageError(
      "STORAGE_FOREIGN",
      "meta",
      `the state directory belongs to ${noun} "${meta[key]}", but ${source} says "${want}"`,
      "Correct the setting (pg_replica.node_id, pg_replica.state_dir), or remove the state directory and join again.",
    );
  }
}
