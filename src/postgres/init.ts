/** Makes the data directory of a cluster's first node. */
import { runTool } from "./tools.js";

export interface InitOptions {
  /** Empty or missing. */
  readonly pgdata: string;
  readonly bindir: string;
  /** Default: the operating system's user. */
  readonly superuser?: string;
  /** File that holds the superuser's password. */
  readonly passwordFile?: string;
  /** Authentication methods for pg_hba.conf, as initdb takes them. */
  readonly authLocal?: string;
  readonly authHost?: string;
  /** Default UTF8. */
  readonly encoding?: string;
  /** Default C.UTF-8: the same order on every node, whatever its libraries are. */
  readonly locale?: string;
  /** Default true: pg_rewind needs them or wal_log_hints, and they find damaged disks. */
  readonly dataChecksums?: boolean;
  readonly walDirectory?: string;
  readonly signal?: AbortSignal;
}

/**
 * Runs initdb.
 * @returns what initdb said
 * @throws ToolError with initdb's words; it cleans up after itself and refuses a directory that is not empty
 */
export function initCluster(options: InitOptions): Promise<string[]> {
  const args = ["-D", options.pgdata, `--encoding=${options.encoding ?? "UTF8"}`];
  args.push(`--locale=${options.locale ?? "C.UTF-8"}`);
  // Version 18 turns them on by itself and knows the opposite option; the earlier ones have only this one.
  if (options.dataChecksums !== false) args.push("--data-checksums");
  if (options.superuser !== undefined) args.push(`--username=${options.superuser}`);
  if (options.passwordFile !== undefined) args.push(`--pwfile=${options.passwordFile}`);
  if (options.authLocal !== undefined) args.push(`--auth-local=${options.authLocal}`);
  if (options.authHost !== undefined) args.push(`--auth-host=${options.authHost}`);
  if (options.walDirectory !== undefined) args.push(`--waldir=${options.walDirectory}`);
  const signal = options.signal === undefined ? {} : { signal: options.signal };
  return runTool({ bindir: options.bindir, tool: "initdb", args, ...signal });
}
