/** Files that must survive a crash of the machine: whole old content or whole new content, never a piece. */
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
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

/** Replaces a file: write beside it, fsync, rename over it, fsync the directory. */
export function replaceFileDurably(path: string, content: string, mode = 0o600): void {
  const temporary = join(dirname(path), `.${basename(path)}.tmp`);
  const fd = openSync(temporary, "w", mode);
  try {
    writeFileSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
  fsyncDirectory(dirname(path));
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
