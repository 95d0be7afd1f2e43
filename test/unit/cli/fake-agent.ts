/** A socket that answers like an agent, and a terminal that keeps what it is told. */
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import colors from "picocolors";
import { CliError } from "../../../src/cli/errors.js";
import type { Terminal } from "../../../src/cli/terminal.js";

export interface FakeAgent {
  readonly path: string;
  readonly directory: string;
  readonly calls: Array<{ readonly command: string; readonly args: Record<string, unknown> }>;
  stop(): Promise<void>;
}

export async function startFakeAgent(
  answer: (command: string, args: Record<string, unknown>) => unknown,
  name = ".s.pg_replica.5432",
): Promise<FakeAgent> {
  const directory = await mkdtemp(join(tmpdir(), "pg_replica-cli-"));
  const path = join(directory, name);
  const calls: FakeAgent["calls"] = [];
  const server = createServer((socket) => {
    socket.setEncoding("utf8");
    socket.on("data", (line: string) => {
      const request = JSON.parse(line) as { command: string; args: Record<string, unknown> };
      calls.push(request);
      socket.end(`${JSON.stringify(outcome(() => answer(request.command, request.args)))}\n`);
    });
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  const stop = async () => {
    await new Promise((resolve) => server.close(resolve));
    await rm(directory, { recursive: true, force: true });
  };
  return { path, directory, calls, stop };
}

function outcome(answer: () => unknown): unknown {
  try {
    return { ok: true, result: answer() };
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    return { ok: false, error: { code: error.code, message: error.message, hint: error.hint, sqlstate: "55000" } };
  }
}

export function fakeTerminal(answer: string | null = null): Terminal & { readonly lines: string[] } {
  const lines: string[] = [];
  return {
    lines,
    interactive: answer !== null,
    colors: colors.createColors(false),
    print: (text) => lines.push(...text.split("\n")),
    note: (text) => lines.push(`note: ${text}`),
    ask: async (question) => {
      lines.push(question);
      return answer ?? "";
    },
    clear: () => undefined,
  };
}
