/** PostgreSQL's own top-level entries of a data directory, and moving them as a whole. */
import { existsSync, lstatSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { fsyncDirectory } from "../durable-file.js";

/**
 * What a rejoin replaces. Everything else (configuration, keys, logs, `pg_replica/`) is the node's own and never moves.
 * `PG_VERSION` comes first: PostgreSQL refuses a directory without it, so it is the first to go and the last to return.
 */
export const ownEntries: readonly string[] = [
  "PG_VERSION",
  "base",
  "global",
  "pg_commit_ts",
  "pg_dynshmem",
  "pg_logical",
  "pg_multixact",
  "pg_notify",
  "pg_replslot",
  "pg_serial",
  "pg_snapshots",
  "pg_stat",
  "pg_stat_tmp",
  "pg_subtrans",
  "pg_tblspc",
  "pg_twophase",
  "pg_wal",
  "pg_xact",
  "backup_label",
  "backup_label.old",
  "tablespace_map",
  "tablespace_map.old",
  "backup_manifest",
  "postmaster.opts",
  "postmaster.pid",
];

export type Step = (name: string) => void;

/** Moves what is there, `PG_VERSION` first. Can be repeated after a crash at any point. */
export function moveOut(from: string, to: string, step: Step): void {
  for (const name of ownEntries) moveEntry(name, from, to, step);
  fsyncDirectory(from);
  fsyncDirectory(to);
}

/** Moves `names` back, `PG_VERSION` last and only when all the others are durable. */
export function moveIn(from: string, to: string, names: readonly string[], step: Step): void {
  for (const name of names) if (name !== "PG_VERSION") moveEntry(name, from, to, step);
  fsyncDirectory(to);
  moveEntry("PG_VERSION", from, to, step);
  fsyncDirectory(to);
  if (existsSync(from)) fsyncDirectory(from);
}

function moveEntry(name: string, from: string, to: string, step: Step): void {
  if (!isThere(join(from, name))) return;
  renameSync(join(from, name), join(to, name));
  step(name);
}

/** Deletes PostgreSQL's own entries, `PG_VERSION` first. Links are removed, not what they point to. */
export function deleteEntries(directory: string): void {
  for (const name of ownEntries) {
    rmSync(join(directory, name), { recursive: true, force: true });
    if (name === "PG_VERSION" && isThere(directory)) fsyncDirectory(directory);
  }
}

/** Leaves a directory empty; nothing happens when it is not there. */
export function emptyDirectory(path: string): void {
  if (!existsSync(path)) return;
  for (const name of readdirSync(path)) rmSync(join(path, name), { recursive: true, force: true });
}

/** Also true for a link that points nowhere. */
export function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
