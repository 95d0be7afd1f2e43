/** How results are written: tables for people, JSON, YAML and TSV for programs. */
import Table from "cli-table3";
import { CliError } from "./errors.js";

export type Format = "pretty" | "json" | "yaml" | "tsv";
const formats: readonly Format[] = ["pretty", "json", "yaml", "tsv"];

export type Cell = string | number | boolean | null;
export interface Rows {
  /** Column keys for programs, titles for people. */
  readonly columns: ReadonlyArray<{ readonly key: string; readonly title: string; readonly right?: boolean }>;
  readonly rows: ReadonlyArray<Readonly<Record<string, Cell>>>;
}

/** @throws CliError */
export function parseFormat(text: string): Format {
  const format = formats.find((known) => known === text);
  if (format !== undefined) return format;
  throw new CliError("bad-format", `"${text}" is not a format`, `Use one of: ${formats.join(", ")}.`);
}

/** A table with ASCII borders; `title` stands in the upper border, as in patronictl. */
export function prettyTable(title: string, table: Rows, paint: (row: number, text: string) => string): string {
  const line = { top: "-", mid: "-", bottom: "-", left: "|", right: "|", middle: "|" };
  const output = new Table({
    head: table.columns.map((column) => column.title),
    colAligns: table.columns.map((column) => (column.right === true ? "right" : "left")),
    chars: {
      top: line.top,
      "top-mid": "+",
      "top-left": "+",
      "top-right": "+",
      bottom: line.bottom,
      "bottom-mid": "+",
      "bottom-left": "+",
      "bottom-right": "+",
      left: line.left,
      "left-mid": "+",
      mid: line.mid,
      "mid-mid": "+",
      right: line.right,
      "right-mid": "+",
      middle: line.middle,
    },
    style: { head: [], border: [], compact: true },
  });
  table.rows.forEach((row, index) => {
    output.push(table.columns.map(({ key }) => paint(index, printable(cellText(row[key] ?? null)))));
  });
  return withTitle(output.toString(), title);
}

function withTitle(table: string, title: string): string {
  if (title === "") return table;
  const [border = "", ...rest] = table.split("\n");
  // cli-table3 puts the line below the head in every table, so the upper border is always the first one.
  const head = `+ ${title} `;
  const upper = head.length < border.length ? `${head}${border.slice(head.length).replace(/^[-+]/, "+")}` : `${head}+`;
  return [upper, ...rest].join("\n");
}

/** Control characters never reach the terminal: names and texts come from other machines. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}

function cellText(cell: Cell): string {
  return cell === null ? "" : String(cell);
}

/** A header line of keys, then a line a row; tabs, line ends and backslashes escaped as PostgreSQL's COPY does. */
export function tsv(table: Rows): string {
  const escaped = (cell: Cell) =>
    cellText(cell).replace(
      /[\\\t\n\r]/g,
      (character) => ({ "\\": "\\\\", "\t": "\\t", "\n": "\\n" })[character] ?? "\\r",
    );
  const lines = table.rows.map((row) => table.columns.map(({ key }) => escaped(row[key] ?? null)).join("\t"));
  return [table.columns.map(({ key }) => key).join("\t"), ...lines].join("\n");
}

/** Plain data as YAML 1.2 (block style). */
export function yaml(value: unknown, indent = ""): string {
  if (Array.isArray(value)) {
    if (value.length === 0) return `${indent}[]`;
    return value.map((item) => `${indent}- ${yaml(item, `${indent}  `).trimStart()}`).join("\n");
  }
  if (value !== null && typeof value === "object") {
    const entries = Object.entries(value).filter(([, item]) => item !== undefined);
    if (entries.length === 0) return `${indent}{}`;
    return entries.map(([key, item]) => `${indent}${yamlScalar(key)}:${yamlValue(item, indent)}`).join("\n");
  }
  return `${indent}${yamlScalar(value)}`;
}

function yamlValue(item: unknown, indent: string): string {
  const nested = item !== null && typeof item === "object" && Object.keys(item).length > 0;
  return nested ? `\n${yaml(item, `${indent}  `)}` : ` ${yaml(item).trimStart()}`;
}

/** Text that YAML could read as something else is quoted; a JSON string is a YAML string. */
function yamlScalar(value: unknown): string {
  if (typeof value !== "string") return JSON.stringify(value ?? null);
  const plain = /^[A-Za-z][A-Za-z0-9_ ./()-]*$/.test(value) && !value.endsWith(" ");
  const reserved = /^(?:null|true|false|yes|no|on|off|y|n)$/i.test(value);
  return plain && !reserved ? value : JSON.stringify(value);
}

/** "16 B", "1.5 MB". */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
