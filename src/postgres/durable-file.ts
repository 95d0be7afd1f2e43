/** Files that must survive a crash of the machine: whole old content or whole new content, never a piece. */
import {
  closeSync,
  existsSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";

/** Makes created, renamed and removed entries of a directory durable. */
export function fsyncDirectory(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Replaces a file: write beside it, fsync, rename over it, fsync the directory. A file that is there keeps its mode and
 * owner, and a link to it stays a link; a new one belongs to the owner of its directory even when root makes it.
 */
export function replaceFileDurably(path: string, content: string, newMode = 0o600): void {
  const target = existsSync(path) ? realpathSync(path) : path;
  const previous = statSync(target, { throwIfNoEntry: false });
  const temporary = join(dirname(target), `.${basename(target)}.tmp`);
  const fd = openSync(temporary, "w", newMode);
  try {
    if (previous !== undefined) fchmodSync(fd, previous.mode & 0o777);
    const owner = previous ?? statSync(dirname(target));
    if (process.geteuid?.() === 0) fchownSync(fd, owner.uid, owner.gid);
    writeFileSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, target);
  fsyncDirectory(dirname(target));
}

/** Removes a file, if it is there, for good. */
export function removeFileDurably(path: string): void {
  rmSync(path, { force: true });
  fsyncDirectory(dirname(path));
}

/** The content of a file, or null when it does not exist. */
export function readFileIfThere(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (isMissing(error)) return null;
    throw error;
  }
}

/** ENOENT: the file or directory is not there. */
export function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}
