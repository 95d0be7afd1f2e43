/**
 * The node's own settings, and what pg_replica needs of a server's configuration.
 *
 * Node settings live in `pg_replica.conf` beside postgresql.conf, which includes it. Not in postgresql.auto.conf: an
 * operator's `ALTER SYSTEM RESET ALL` would take the node's name away. A rejoin never touches configuration files, and a
 * clone (which brings the source's) writes this file anew.
 */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { changeSettingsFile, settingOfLine } from "./configuration-file.js";
import { readFileIfThere, replaceFileDurably } from "./durable-file.js";
import { runTool, ToolError } from "./tools.js";

const head = "# Settings of this node, written by pg_replica. Lines of other settings are kept.\n";
const includeLine = "include_if_exists = 'pg_replica.conf'";

/**
 * Sets this node's settings (null takes one out), each exactly once, atomically. Settings of the same names in
 * postgresql.auto.conf are removed, as they would win: after a clone they are the source's.
 * @param configDirectory where postgresql.conf is, when that is not `pgdata`
 */
export function writeNodeConfiguration(
  pgdata: string,
  settings: Readonly<Record<string, string | null>>,
  configDirectory = pgdata,
): void {
  changeSettingsFile(join(configDirectory, "pg_replica.conf"), settings, head);
  const main = join(configDirectory, "postgresql.conf");
  const text = readFileIfThere(main) ?? "";
  if (!text.split("\n").some((line) => /^\s*include_if_exists\s*=?\s*'pg_replica\.conf'/.test(line))) {
    const separator = text === "" || text.endsWith("\n") ? "" : "\n";
    replaceFileDurably(main, `${text}${separator}${includeLine}\n`);
  }
  const removed = Object.fromEntries(Object.keys(settings).map((name) => [name, null]));
  const automatic = join(pgdata, "postgresql.auto.conf");
  if (readFileIfThere(automatic) !== null) changeSettingsFile(automatic, removed);
}

/** What `writeNodeConfiguration` has set so far, by lower-case name; the text is as written in the file. */
export function nodeSettingNames(configDirectory: string): string[] {
  const text = readFileIfThere(join(configDirectory, "pg_replica.conf")) ?? "";
  return text.split("\n").flatMap((line) => settingOfLine(line) ?? []);
}

export interface SettingProblem {
  readonly name: string;
  readonly value: string;
  readonly why: string;
  /** What to write instead. */
  readonly wanted: string;
}

/** The settings that `checkServerSettings` looks at. */
export const checkedSettings = [
  "wal_level",
  "max_wal_senders",
  "max_replication_slots",
  "wal_log_hints",
  "data_checksums",
  "hot_standby",
  "listen_addresses",
  "shared_preload_libraries",
] as const;

/** Names the settings that would keep this server from being a member; empty when all are right. */
export function checkServerSettings(settings: Readonly<Record<string, string>>): SettingProblem[] {
  const problems: SettingProblem[] = [];
  const value = (name: string) => settings[name] ?? "";
  const complain = (name: string, wanted: string, why: string) =>
    problems.push({ name, value: value(name), wanted, why });
  if (!["replica", "logical"].includes(value("wal_level"))) {
    complain("wal_level", "replica", "standbys need it");
  }
  for (const name of ["max_wal_senders", "max_replication_slots"]) {
    if (!(Number(value(name)) >= 10)) complain(name, "10", "every other member and each clone under way uses one");
  }
  if (value("wal_log_hints") !== "on" && value("data_checksums") !== "on") {
    complain("wal_log_hints", "on", "without it or data checksums pg_rewind cannot be used");
  }
  if (value("hot_standby") !== "on") complain("hot_standby", "on", "the agent must be able to ask a standby");
  if (["", "localhost", "127.0.0.1", "::1"].includes(value("listen_addresses").trim())) {
    complain("listen_addresses", "*", "the other members must reach this server");
  }
  const libraries = splitList(value("shared_preload_libraries"));
  if (!libraries.some((library) => library === "pg_replica" || library.endsWith("/pg_replica"))) {
    const wanted = [...libraries, "pg_replica"].join(", ");
    complain("shared_preload_libraries", wanted, "the extension must be loaded at server start");
  }
  return problems;
}

function splitList(text: string): string[] {
  return text
    .split(",")
    .map((entry) => entry.trim().replace(/^"(.*)"$/, "$1"))
    .filter((entry) => entry !== "");
}

interface Configured {
  readonly pgdata: string;
  readonly bindir: string;
  /** postgresql.conf when it is outside of PGDATA. */
  readonly configFile?: string;
}

/** The values that a start of this (stopped) server would have. @throws ToolError */
export async function readConfiguredSettings(options: Configured): Promise<Record<string, string>> {
  const result: Record<string, string> = {};
  for (const name of checkedSettings) result[name] = await readSetting({ ...options, name });
  return result;
}

/** By `postgres -C`, which needs no more of a data directory than its configuration. @throws ToolError */
export async function readSetting(options: Configured & { readonly name: string }): Promise<string> {
  const config = options.configFile === undefined ? [] : ["-c", `config_file=${options.configFile}`];
  const args = ["-D", options.pgdata, ...config, "-C", options.name];
  const environment = { PG_REPLICA_DISABLE: "1" };
  const lines = await runTool({ bindir: options.bindir, tool: "postgres", args, environment, cwd: options.pgdata });
  return lines.at(-1)?.trim() ?? "";
}

/**
 * pg_replica.state_dir of a stopped server, absolute: also while a rejoin has moved its data away.
 * @throws ToolError when its configuration can not be read
 */
export async function readStateDirectory(options: Configured): Promise<string> {
  // A value of a library that is not loaded is known when, and only when, it is set.
  const named = await readSetting({ ...options, name: "pg_replica.state_dir" }).catch((error: unknown) => {
    if (error instanceof ToolError && /unrecognized configuration parameter/.test(error.message)) return "";
    throw error;
  });
  return resolve(options.pgdata, named === "" ? "pg_replica" : named);
}

/** postgresql.conf outside of PGDATA (Debian): as the server was last started; undefined when it is not known. */
export function lastConfigFile(pgdata: string): string | undefined {
  for (const directory of [pgdata, join(pgdata, "pg_replica", "staging")]) {
    const path = join(directory, "postmaster.opts");
    const started = existsSync(path) ? readFileSync(path, "utf8") : "";
    const named = /"?(?:--config[-_]file=|config[-_]file=)([^"\n]+)"?/.exec(started)?.[1]?.trim();
    if (named !== undefined && existsSync(named)) return named;
  }
  return undefined;
}

const hbaBegin = "# pg_replica: begin of managed lines";
const hbaEnd = "# pg_replica: end of managed lines";

/**
 * Keeps a block of lines at the end of pg_hba.conf, where the operator's own lines, which come first, win over it.
 * @returns whether the file changed (the server then has to reload)
 */
export function ensureHbaLines(path: string, lines: readonly string[]): boolean {
  for (const line of lines) {
    if (/[\n\r\0]/.test(line)) throw new TypeError("a line of pg_hba.conf cannot contain a line break");
  }
  const before = readFileIfThere(path) ?? "";
  const kept = dropManagedBlock(before);
  const separator = kept === "" || kept.endsWith("\n") ? "" : "\n";
  const block = lines.length === 0 ? "" : `${[hbaBegin, ...lines, hbaEnd].join("\n")}\n`;
  const after = `${kept}${separator}${block}`;
  if (after === before) return false;
  replaceFileDurably(path, after);
  return true;
}

function dropManagedBlock(text: string): string {
  const begin = text.indexOf(`${hbaBegin}\n`);
  if (begin < 0) return text;
  const end = text.indexOf(hbaEnd, begin);
  if (end < 0) throw new TypeError(`pg_hba.conf has the line "${hbaBegin}" but not the line "${hbaEnd}"`);
  return text.slice(0, begin) + text.slice(end + hbaEnd.length).replace(/^\n/, "");
}

/** Empties what points a standby at a primary; the agent sets it for the right token. */
export function clearPrimaryConninfo(pgdata: string): void {
  changeSettingsFile(join(pgdata, "postgresql.auto.conf"), { primary_conninfo: "", primary_slot_name: "" });
}
