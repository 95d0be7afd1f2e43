/** A changed schedule in the words of the command line: what is kept of it, and which knobs have other values. */
import type { FaultKind, Kept } from "./injector.js";
import { drawKnobs, type Knobs } from "./knobs.js";

export interface Edit {
  /** Null: everything. */
  readonly kept: Kept | null;
  readonly set: Partial<Knobs>;
}

export const unedited: Edit = { kept: null, set: {} };

export class EditError extends Error {
  override readonly name = "EditError";
}

/** Like `--keep crash:1,loss:3-7 --set lossChance=0`; empty when nothing is changed. */
export function formatEdit({ kept, set }: Edit): string {
  const words: string[] = [];
  if (kept !== null) words.push("--keep", formatKept(kept));
  const values = Object.entries(set).map(([name, value]) => `${name}=${value}`);
  if (values.length > 0) words.push("--set", values.join(","));
  return words.join(" ");
}

/** @throws EditError saying what could not be read. */
export function parseEdit(keep: string | undefined, set: string | undefined): Edit {
  return {
    kept: keep === undefined ? null : parseKept(keep),
    set: set === undefined || set === "" ? {} : Object.fromEntries(set.split(",").map(parseKnob)),
  };
}

function formatKept(kept: Kept): string {
  const items: string[] = [];
  for (const [kind, numbers] of kept) {
    const sorted = [...numbers].sort((a, b) => a - b);
    for (let i = 0; i < sorted.length; ) {
      let end = i;
      while (end + 1 < sorted.length && sorted[end + 1] === (sorted[end] as number) + 1) end++;
      items.push(end === i ? `${kind}:${sorted[i]}` : `${kind}:${sorted[i]}-${sorted[end]}`);
      i = end + 1;
    }
  }
  return items.length === 0 ? "nothing" : items.join(",");
}

function parseKept(text: string): Kept {
  const kept = new Map<FaultKind, Set<number>>();
  if (text === "nothing") return kept;
  for (const item of text.split(",")) {
    const match = /^([A-Za-z-]+):(\d{1,6})(?:-(\d{1,6}))?$/.exec(item);
    if (match === null) throw new EditError(`"${item}" is not like crash:3 or loss:2-9`);
    const [, kind = "", first, last = first] = match;
    const numbers = kept.get(kind) ?? new Set();
    for (let number = Number(first); number <= Number(last); number++) numbers.add(number);
    kept.set(kind, numbers);
  }
  return kept;
}

function parseKnob(item: string): [string, unknown] {
  const [name = "", text = ""] = item.split("=");
  const example: unknown = (drawKnobs(1, 3) as unknown as Record<string, unknown>)[name];
  if (example === undefined) throw new EditError(`there is no knob "${name}"`);
  if (typeof example === "number" && text !== "" && !Number.isNaN(Number(text))) return [name, Number(text)];
  if (typeof example === "boolean" && (text === "true" || text === "false")) return [name, text === "true"];
  if (typeof example === "string" && text !== "") return [name, text];
  throw new EditError(`knob ${name} is like ${String(example)}, not "${text}"`);
}
