/** The file `node-state`: this node's pledges, durable before they are acted on. */
import { join } from "node:path";
import * as v from "valibot";
import { decodeCheckedJson, readCheckedJson, writeCheckedJson } from "./checked-json.js";
import { corrupt } from "./errors.js";
import { checkFormat } from "./meta.js";
import type { NodeState } from "./types.js";

const tokenText = v.pipe(v.string(), v.regex(/^\d+\.\d+$/));
const nodeStateSchema = v.object({
  format: v.literal(1),
  pledge: tokenText,
  pointedAt: tokenText,
  promotedUnder: tokenText,
});

export const emptyNodeState: NodeState = { format: 1, pledge: "0.0", pointedAt: "0.0", promotedUnder: "0.0" };

/** Pure. @throws StorageError */
export function decodeNodeState(path: string, bytes: Buffer): NodeState {
  return parse(path, decodeCheckedJson(path, bytes));
}

function parse(path: string, value: unknown): NodeState {
  const parsed = v.safeParse(nodeStateSchema, value);
  if (parsed.success) return parsed.output;
  checkFormat(path, value);
  throw corrupt(path, `it does not hold a node's pledges (${v.summarize(parsed.issues).replaceAll("\n", " ")})`);
}

/** The empty state when there is none yet. @throws StorageError */
export async function readNodeState(dir: string): Promise<NodeState> {
  const path = join(dir, "node-state");
  const value = await readCheckedJson(path);
  return value === null ? emptyNodeState : parse(path, value);
}

/** Durable when it resolves. @throws StorageError */
export async function writeNodeState(dir: string, state: NodeState): Promise<void> {
  const path = join(dir, "node-state");
  await writeCheckedJson(path, parse(path, state));
}
