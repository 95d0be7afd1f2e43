/**
 * The product with one bug put in: takes the built JavaScript that a program of the simulator is made of, makes exactly
 * the given textual changes, and imports the result beside the sound one. So a mutant is a one-line difference of the
 * real code, and the real code has no switches for it.
 *
 * A change whose text is not found exactly once is an error: when the code moves, its mutants have to move with it.
 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, posix } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export interface Patch {
  /** Below the build directory, like `src/raft/log.js`. */
  readonly file: string;
  /** Text of the built file; white space stands for any white space. */
  readonly find: string;
  readonly replace: string;
}

export class PatchError extends Error {
  override readonly name = "PatchError";
}

/** The compiled tree that this file is a part of. */
const buildDirectory = fileURLToPath(new URL("../../", import.meta.url));
const importPattern = /\b(?:from|import)\s*"([^"]+)"/g;

/**
 * Imports `entry` (below the build directory) from a copy in which every patch was made.
 *
 * @throws PatchError when a patch does not match exactly once, or in no file that `entry` is made of.
 */
export async function importPatched<Module>(entry: string, patches: readonly Patch[]): Promise<Module> {
  const sources = patchedSources(entry, patches);
  const directory = mkdtempSync(join(tmpdir(), "pg_replica-zoo-"));
  try {
    writeFileSync(join(directory, "package.json"), '{"type":"module"}');
    for (const [file, text] of sources) {
      const path = join(directory, file);
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, text);
    }
    return (await import(pathToFileURL(join(directory, entry)).href)) as Module;
  } finally {
    // All of it is loaded by now: nothing in there imports at run time.
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The text of every file that `entry` is made of, with the patches made. */
export function patchedSources(entry: string, patches: readonly Patch[]): Map<string, string> {
  const sources = new Map<string, string>();
  const read = (file: string): void => {
    if (sources.has(file)) return;
    const text = readFileSync(join(buildDirectory, file), "utf8");
    sources.set(file, text);
    for (const [, target = ""] of text.matchAll(importPattern)) {
      if (target.startsWith(".")) read(posix.join(posix.dirname(file), target));
    }
  };
  read(entry);
  for (const patch of patches) {
    const text = sources.get(patch.file);
    if (text === undefined) throw new PatchError(`${patch.file} is no part of ${entry}: nothing would be changed`);
    sources.set(patch.file, applyPatch(text, patch));
  }
  return sources;
}

/** @throws PatchError unless the text to find is there exactly once. */
export function applyPatch(text: string, { file, find, replace }: Patch): string {
  const pattern = find.trim().split(/\s+/).map(escapeForRegExp).join("\\s+");
  const found = [...text.matchAll(new RegExp(pattern, "g"))].length;
  if (found !== 1) {
    throw new PatchError(
      `${file} has ${found} places like "${find}", a mutant needs exactly one: adapt it to the code as it is now`,
    );
  }
  return text.replace(new RegExp(pattern), () => replace);
}

function escapeForRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&");
}
