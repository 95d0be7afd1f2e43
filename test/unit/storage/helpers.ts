import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import type { Configuration, Entry } from "../../../src/raft/types.js";

export async function temporaryDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "pg_replica-storage-"));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

export const config: Configuration = {
  voters: [1, 2, 3],
  votersOutgoing: [],
  learners: [4],
  learnersNext: [],
  autoLeave: false,
};

export function data(index: number, term: number, text = `entry ${index}`): Entry {
  return { index, term, type: "data", data: new Uint8Array(Buffer.from(text)) };
}
