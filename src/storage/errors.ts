export type StorageErrorCode =
  /** The operating system refused a read, write, rename or sync. Final for the storage that met it. */
  | "STORAGE_IO"
  /** Durable bytes are not what was written: never repaired by guessing. */
  | "STORAGE_CORRUPT"
  /** Written by a version that this one does not know. */
  | "STORAGE_FORMAT"
  /** A file that must be there is missing. */
  | "STORAGE_MISSING"
  /** The directory belongs to another node, server or cluster. */
  | "STORAGE_FOREIGN"
  /** The directory is in use by a live process, or holds state already. */
  | "STORAGE_IN_USE"
  /** The caller asked for something that would break the log. */
  | "STORAGE_MISUSE"
  | "STORAGE_CLOSED";

/** What was wrong, where, and what to do. `code` is stable. */
export class StorageError extends Error {
  override readonly name = "StorageError";
  readonly code: StorageErrorCode;
  readonly path: string;
  readonly hint: string;

  constructor(code: StorageErrorCode, path: string, what: string, hint: string, cause?: unknown) {
    super(`${path}: ${what}. ${hint}`, cause === undefined ? undefined : { cause });
    this.code = code;
    this.path = path;
    this.hint = hint;
  }
}

export const rejoinHint =
  "Do not edit or delete single files: remove the whole state directory and let the node join again under a new id.";

export function corrupt(path: string, what: string): StorageError {
  return new StorageError("STORAGE_CORRUPT", path, what, rejoinHint);
}

export function misuse(path: string, what: string): StorageError {
  return new StorageError("STORAGE_MISUSE", path, what, "This is a programming error; nothing was written.");
}

export function ioError(path: string, doing: string, cause: unknown): StorageError {
  if (cause instanceof StorageError) return cause;
  const code = errorCode(cause);
  const text = cause instanceof Error ? cause.message : String(cause);
  const hint =
    code === "ENOSPC" || code === "EDQUOT"
      ? "Free space on this file system, then restart the node."
      : code === "EACCES" || code === "EPERM"
        ? "Make the state directory and its files owned by the server's operating system user."
        : code === "EEXIST" || code === "ENOTDIR"
          ? "Something that is no directory stands in its place: move it away, or correct pg_replica.state_dir."
          : "Check the disk and its mount, then restart the node; what is durable is read again at the start.";
  return new StorageError("STORAGE_IO", path, `${doing} failed: ${text}`, hint, cause);
}

export function errorCode(error: unknown): string | null {
  if (!(error instanceof Error) || !("code" in error)) return null;
  return typeof error.code === "string" ? error.code : null;
}
