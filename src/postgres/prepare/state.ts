/** What `prepare` keeps on disk: the intent (written by the agent), its own phase, and the layout of links. */
import { existsSync, lstatSync, readdirSync, readlinkSync } from "node:fs";
import { dirname, isAbsolute, join, resolve } from "node:path";
import * as v from "valibot";
import { readFileIfThere, removeFileDurably, replaceFileDurably } from "../durable-file.js";
import type { RejoinIntent } from "../types.js";
import { PrepareError } from "./errors.js";

const phases = ["recover", "move-out", "ready", "rewind", "rebuild", "move-in"] as const;
export type PhaseName = (typeof phases)[number];

export interface Phase {
  readonly format: 1;
  readonly phase: PhaseName;
  /** Directory under PGDATA/pg_replica that `move-in` takes the entries from. */
  readonly from: "staging" | "staging.new" | null;
  /** Whether single-user recovery wrote WAL of its own: then "no rewind required" is not to be believed. */
  readonly recovered: boolean;
}

/** Links of the data directory that a rebuild has to make again. Written before anything is moved or deleted. */
export interface Layout {
  readonly format: 1;
  /** PostgreSQL's major version: PG_VERSION is gone while a rebuild is under way. */
  readonly major: number;
  /** Where pg_wal pointed, or null when it was a directory. */
  readonly walDirectory: string | null;
  /** Tablespace OID to directory. */
  readonly tablespaces: Readonly<Record<string, string>>;
}

const nodeSchema = v.object({ node: v.string(), dsn: v.string() });
const intentSchema = v.object({
  format: v.literal(1),
  token: v.string(),
  source: nodeSchema,
  candidates: v.optional(v.array(nodeSchema)),
  method: v.picklist(["rewind", "rebuild"]),
  why: v.string(),
  timeline: v.pipe(v.number(), v.integer(), v.minValue(1)),
  systemIdentifier: v.pipe(v.string(), v.regex(/^\d+$/)),
});
const phaseSchema = v.object({
  format: v.literal(1),
  phase: v.picklist(phases),
  from: v.nullable(v.picklist(["staging", "staging.new"])),
  recovered: v.boolean(),
});
const layoutSchema = v.object({
  format: v.literal(1),
  major: v.number(),
  walDirectory: v.nullable(v.string()),
  tablespaces: v.record(v.string(), v.string()),
});

const intentFile = "rejoin.json";
const phaseFile = "rejoin.phase";
const layoutFile = "rejoin.layout";

/** Null: no rejoin is asked for. @throws PrepareError when the file is there but cannot be understood. */
export function readIntent(stateDir: string): RejoinIntent | null {
  const intent = readJson(join(stateDir, intentFile), intentSchema, "PREPARE_BAD_INTENT");
  if (intent === null) return null;
  const { candidates, ...rest } = intent;
  return candidates === undefined ? rest : { ...rest, candidates };
}

export function readPhase(stateDir: string): Phase | null {
  return readJson(join(stateDir, phaseFile), phaseSchema, "PREPARE_BAD_PHASE");
}

export function writePhase(stateDir: string, phase: Phase): void {
  replaceFileDurably(join(stateDir, phaseFile), `${JSON.stringify(phase)}\n`);
}

export function readLayout(stateDir: string): Layout | null {
  return readJson(join(stateDir, layoutFile), layoutSchema, "PREPARE_BAD_PHASE");
}

export function writeLayout(stateDir: string, layout: Layout): void {
  replaceFileDurably(join(stateDir, layoutFile), `${JSON.stringify(layout)}\n`);
}

/** The end of a rejoin. The phase goes last: until then every step is repeated, and harmless. */
export function clearState(stateDir: string, step: (name: string) => void): void {
  removeFileDurably(join(stateDir, layoutFile));
  removeFileDurably(join(stateDir, intentFile));
  step("intent-removed");
  removeFileDurably(join(stateDir, phaseFile));
}

function readJson<T>(
  path: string,
  schema: v.GenericSchema<unknown, T>,
  code: "PREPARE_BAD_INTENT" | "PREPARE_BAD_PHASE",
): T | null {
  const text = readFileIfThere(path);
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new PrepareError(code, `${path} is not JSON: ${String(error)}`, { cause: error });
  }
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  const issue = result.issues[0];
  throw new PrepareError(code, `${path}: ${v.getDotPath(issue) ?? "content"}: ${issue.message}`);
}

/** Reads the links of a data directory whose entries are all in place. */
export function surveyLayout(pgdata: string, major: number): Layout {
  const wal = linkTarget(join(pgdata, "pg_wal"));
  const tablespaces: Record<string, string> = {};
  const links = join(pgdata, "pg_tblspc");
  for (const oid of existsSync(links) ? readdirSync(links) : []) {
    // In-place tablespaces (for tests of PostgreSQL) are directories: they go with the rest.
    const target = linkTarget(join(links, oid));
    if (target !== null) tablespaces[oid] = target;
  }
  return { format: 1, major, walDirectory: wal, tablespaces };
}

/** A relative pg_wal link would point elsewhere from the staging directory. */
export function hasRelativeWalLink(pgdata: string): boolean {
  const path = join(pgdata, "pg_wal");
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true && !isAbsolute(readlinkSync(path));
}

function linkTarget(path: string): string | null {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() !== true) return null;
  return resolve(dirname(path), readlinkSync(path));
}
