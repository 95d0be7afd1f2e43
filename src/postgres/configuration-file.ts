/** Reading and changing files of PostgreSQL's configuration syntax (src/backend/utils/misc/guc-file.l). */
import { readFileIfThere, replaceFileDurably } from "./durable-file.js";

const namePattern = /^[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)*$/;

/** A value in single quotes, with what the parser would take for something else escaped. */
export function quoteSetting(value: string): string {
  if (value.includes("\0")) throw new TypeError("a setting cannot contain a zero byte");
  const escaped = value.replace(/\\/g, "\\\\").replace(/'/g, "''").replace(/\n/g, "\\n").replace(/\r/g, "\\r");
  return `'${escaped}'`;
}

/** The name that a line sets (in lower case), or null for comments, blank lines and include directives. */
export function settingOfLine(line: string): string | null {
  const match = /^\s*([A-Za-z_][\w$.]*)(?:\s*=|\s+['\w+-])/.exec(line);
  const name = match?.[1]?.toLowerCase() ?? null;
  return name === null || /^include(_if_exists|_dir)?$/.test(name) ? null : name;
}

/**
 * `text` with these settings and no others of the same names: a setting's first line is replaced where it stands, further
 * ones are dropped, new ones are added at the end. Null takes a setting out. Everything else is kept as it is.
 */
export function changeSettings(text: string, changes: Readonly<Record<string, string | null>>): string {
  const wanted = new Map<string, string | null>();
  for (const [name, value] of Object.entries(changes)) {
    if (!namePattern.test(name)) throw new TypeError(`"${name}" cannot be the name of a setting`);
    wanted.set(name.toLowerCase(), value);
  }
  const written = new Set<string>();
  const render = (name: string) => {
    const value = wanted.get(name);
    if (value === null || value === undefined || written.has(name)) return [];
    written.add(name);
    return [`${name} = ${quoteSetting(value)}`];
  };
  const lines = text === "" ? [] : text.replace(/\n$/, "").split("\n");
  const kept = lines.flatMap((line) => {
    const name = settingOfLine(line);
    return name !== null && wanted.has(name) ? render(name) : [line];
  });
  const result = [...kept, ...[...wanted.keys()].flatMap(render)];
  return result.length === 0 ? "" : `${result.join("\n")}\n`;
}

/** Applies `changeSettings` to a file, atomically; nothing is written when nothing changes. */
export function changeSettingsFile(path: string, changes: Readonly<Record<string, string | null>>, head = ""): void {
  const before = readFileIfThere(path);
  const after = changeSettings(before ?? head, changes);
  if (after === before) return;
  replaceFileDurably(path, after);
}
