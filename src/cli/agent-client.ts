/** Finds an agent and asks it: the local one through its socket, any other through its peer port. */
import { readdir, readFile, stat } from "node:fs/promises";
import { createConnection } from "node:net";
import { join } from "node:path";
import * as v from "valibot";
import type { NodeView } from "../control/types.js";
import { CliError, describeError, exitCodes } from "./errors.js";

export interface TargetOptions {
  readonly pgdata?: string | undefined;
  readonly socket?: string | undefined;
  /** host:raftport of another node. */
  readonly host?: string | undefined;
  readonly secretFile?: string | undefined;
}

export interface AgentClient {
  /** Who is asked, for people. */
  readonly where: string;
  /** Whether another machine may be asked: then the answer should say who gave it. */
  readonly remote: boolean;
  /** @throws CliError with the agent's own message, or why it could not be asked. */
  call(command: string, args?: Readonly<Record<string, unknown>>): Promise<unknown>;
}

/** A change waits for the cluster's agreement, an election included. */
const answerTimeoutMs = 30_000;
const maxAnswerBytes = 32 * 1024 * 1024;
const defaultSocketDirectory = "/var/run/postgresql";

const answerSchema = v.variant("ok", [
  v.object({ ok: v.literal(true), result: v.unknown() }),
  v.object({
    ok: v.literal(false),
    error: v.object({ code: v.string(), message: v.string(), hint: v.optional(v.string(), "") }),
  }),
]);

/** @throws CliError when there is no agent to ask, or no single one. */
export async function findAgent(options: TargetOptions): Promise<AgentClient> {
  if (options.host !== undefined) return remoteAgent(options.host, options.secretFile);
  const path = options.socket ?? (await findSocket(options.pgdata));
  return {
    where: path,
    remote: false,
    call: async (command, args = {}) => unwrap(await askSocket(path, JSON.stringify({ command, args })), path),
  };
}

async function findSocket(pgdata: string | undefined): Promise<string> {
  if (pgdata !== undefined && pgdata !== "") return socketOfServer(pgdata);
  return onlySocket(defaultSocketDirectory);
}

/** postmaster.pid: pid, data directory, start time, port, first socket directory. */
async function socketOfServer(pgdata: string): Promise<string> {
  const file = join(pgdata, "postmaster.pid");
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") {
      await requireDirectory(pgdata);
      throw new CliError(
        "not-running",
        `no PostgreSQL server runs in ${pgdata}`,
        "Start it, or ask another node with --host HOST:RAFTPORT.",
        exitCodes.failed,
      );
    }
    throw new CliError("unreadable", describeError(error), "Run this as the server's user.", exitCodes.refused);
  }
  const lines = text.split("\n");
  const port = Number(lines[3]);
  const directory = lines[4]?.trim() ?? "";
  if (!Number.isInteger(port) || port < 1 || directory === "") {
    throw new CliError(
      "no-socket",
      `${file} names no port and socket directory (yet)`,
      "The server may be starting: try again. It needs unix_socket_directories.",
      exitCodes.failed,
    );
  }
  return join(directory, `.s.pg_replica.${port}`);
}

async function requireDirectory(pgdata: string): Promise<void> {
  const found = await stat(pgdata).catch((error: NodeJS.ErrnoException) => error);
  if (found instanceof Error) throw new CliError("no-pgdata", `${pgdata}: ${found.message}`, "Check -D and PGDATA.");
}

async function onlySocket(directory: string): Promise<string> {
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const sockets = names.filter((name) => /^\.s\.pg_replica\.\d+$/.test(name));
  const [first] = sockets;
  if (first !== undefined && sockets.length === 1) return join(directory, first);
  const found = sockets.length === 0 ? "there is no agent's socket" : `there are ${sockets.length} agents' sockets`;
  throw new CliError(
    "no-agent",
    `${found} in ${directory}`,
    "Say which node is meant: -D PGDATA, --socket PATH or --host HOST:RAFTPORT.",
  );
}

/** One JSON line there, one back. */
export function askSocket(path: string, line: string, timeoutMs = answerTimeoutMs): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    let text = "";
    const fail = (code: string, message: string, hint: string) => {
      socket.destroy();
      reject(new CliError(code, message, hint, exitCodes.failed));
    };
    socket.setEncoding("utf8");
    socket.setTimeout(timeoutMs, () =>
      fail("no-answer", `the agent at ${path} gave no answer for ${timeoutMs} ms`, "See the server's log."),
    );
    socket.on("error", (error: NodeJS.ErrnoException) => fail("no-agent", ...connectProblem(error, path)));
    socket.on("connect", () => socket.write(`${line}\n`));
    socket.on("data", (part: string) => {
      text += part;
      if (text.length > maxAnswerBytes) fail("too-large", `the answer from ${path} is too large`, "");
    });
    socket.on("end", () => {
      socket.destroy();
      const [answer = ""] = text.split("\n");
      if (answer !== "") resolve(answer);
      else fail("no-answer", `the agent at ${path} hung up without an answer`, "See the server's log.");
    });
  });
}

function connectProblem(error: NodeJS.ErrnoException, path: string): [string, string] {
  if (error.code === "EACCES") return [`${path} may not be used by this user`, "Run this as the server's user."];
  if (error.code === "ENOENT" || error.code === "ECONNREFUSED") {
    return [
      `no agent answers at ${path}`,
      "Is the server running with shared_preload_libraries = 'pg_replica'? Its log says why the agent does not run.",
    ];
  }
  return [`${path}: ${error.message}`, "See the server's log."];
}

function unwrap(line: string, where: string): unknown {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch (error) {
    throw misunderstood(where, describeError(error));
  }
  const answer = v.safeParse(answerSchema, parsed);
  if (!answer.success) throw misunderstood(where, v.summarize(answer.issues).replaceAll("\n", " "));
  if (answer.output.ok) return answer.output.result;
  const { code, message, hint } = answer.output.error;
  throw new CliError(code, message, hint, refusalExitCode(code));
}

/** What may be different in a moment, and what may not. */
function refusalExitCode(code: string): 1 | 2 {
  return ["starting", "in-progress", "no-leader", "lost", "timeout", "no-primary", "internal"].includes(code) ? 1 : 2;
}

function misunderstood(where: string, why: string): CliError {
  return new CliError(
    "not-understood",
    `the answer from ${where} is not understood: ${why}`,
    "Are the command and the agent of different versions?",
    exitCodes.failed,
  );
}

export function splitHostPort(text: string, what: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port >= 1 && port <= 65535)) {
    throw new CliError("bad-address", `${what} "${text}" is not HOST:PORT`, "The port is the node's raft_port (7400).");
  }
  return { host, port };
}

async function remoteAgent(address: string, secretFile: string | undefined): Promise<AgentClient> {
  const { host, port } = splitHostPort(address, "--host");
  const secret = await readSecret(secretFile);
  return {
    where: address,
    remote: true,
    call: async (command, args = {}) => {
      const { guestRequest } = await import("../transport/index.js");
      const response = await guestRequest(
        { host, port, secret, tls: null, timeoutMs: answerTimeoutMs, clusterId: "" },
        { kind: "command", command, args },
      ).catch((error: unknown) => {
        throw new CliError("no-answer", `${address}: ${describeError(error)}`, hintOf(error), exitCodes.failed);
      });
      if (response.ok) return response.result;
      throw new CliError(response.code, response.message, response.hint, refusalExitCode(response.code));
    },
  };
}

function hintOf(error: unknown): string {
  if (/secret/.test(describeError(error))) return "Name the cluster's secret with --secret-file.";
  const hint = error !== null && typeof error === "object" && "hint" in error ? error.hint : undefined;
  return typeof hint === "string" ? hint : "Is this the node's raft_port, and does the agent run?";
}

/** The cluster's secret (pg_replica.secret_file), or null. */
export async function readSecret(file: string | undefined): Promise<Uint8Array | null> {
  if (file === undefined || file === "") return null;
  try {
    const { mode } = await stat(file);
    if ((mode & 0o007) !== 0) {
      throw new CliError("open-file", `${file} can be read or written by everybody`, `Run: chmod 600 ${file}`);
    }
    return Buffer.from((await readFile(file, "utf8")).trim(), "utf8");
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError("unreadable", describeError(error), "Check --secret-file.");
  }
}

const viewSchema = v.looseObject({
  self: v.looseObject({ name: v.string(), role: v.string() }),
  phase: v.string(),
  members: v.array(v.looseObject({ id: v.number(), name: v.string(), role: v.string(), state: v.string() })),
  history: v.array(v.looseObject({ index: v.number(), text: v.string() })),
});

/** @throws CliError */
export async function readView(agent: AgentClient): Promise<NodeView> {
  const result = await agent.call("view");
  const checked = v.safeParse(viewSchema, result);
  if (!checked.success) throw misunderstood(agent.where, v.summarize(checked.issues).replaceAll("\n", " "));
  return result as NodeView;
}
