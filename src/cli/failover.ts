/** `switchover`, `failover`, `pause`, `resume`: what changes the cluster, and watching it happen. */
import { setTimeout as delay } from "node:timers/promises";
import type { MemberView, NodeView } from "../control/types.js";
import { type AgentClient, readView } from "./agent-client.js";
import { tokenText } from "./cluster-output.js";
import { CliError, describeError, exitCodes } from "./errors.js";
import { confirm, type Terminal } from "./terminal.js";

export interface ChangeOptions {
  readonly yes: boolean;
  readonly dryRun: boolean;
}

export interface FailoverOptions extends ChangeOptions {
  readonly kind: "switchover" | "failover";
  readonly candidate: string | null;
  readonly allowDataLoss: boolean;
  /** How long to wait for the new primary. */
  readonly deadlineMs: number;
}

const pollMs = 100;
const pauseDeadlineMs = 10_000;

export async function runFailover(agent: AgentClient, options: FailoverOptions, terminal: Terminal): Promise<void> {
  const before = await readView(agent);
  checkRequest(before, options);
  const what = `${options.kind} from ${before.primary ?? "no primary"} to ${options.candidate ?? "the most advanced standby"}${options.allowDataLoss ? ", accepting the loss of data" : ""}`;
  if (options.dryRun) {
    terminal.print(
      `would do: ${what} (in cluster ${before.clusterId ?? "?"}, token ${tokenText(before.token) ?? "-"})`,
    );
    return;
  }
  await confirm(terminal, what, options.yes);
  const args = {
    ...(options.candidate === null ? {} : { target: options.candidate }),
    allow_data_loss: options.allowDataLoss,
  };
  const asked = async () => (await readView(agent)).history.some((entry) => isRequest(entry, before));
  const started = await propose(agent, "failover", args, options.deadlineMs, asked);
  terminal.note(String(started));
  const after = await waitForPrimary(agent, before, options);
  for (const line of timeline(before, after)) terminal.print(line);
  terminal.print(`${after.primary} is the primary (token ${tokenText(after.token)})`);
}

function isRequest(entry: NodeView["history"][number], before: NodeView): boolean {
  return entry.index > lastIndex(before) && (entry.kind === "handover" || entry.kind === "begin");
}

/** While the nodes change their leader a request may get lost: it is made again unless it was carried out. */
async function propose(
  agent: AgentClient,
  command: string,
  args: Readonly<Record<string, unknown>>,
  deadlineMs: number,
  isDone: () => Promise<boolean>,
): Promise<unknown> {
  for (const untilMs = performance.now() + deadlineMs; ; await delay(pollMs)) {
    try {
      return await agent.call(command, args);
    } catch (error) {
      const lost = error instanceof CliError && (error.code === "lost" || error.code === "no-leader");
      if (!lost || performance.now() >= untilMs) throw error;
      if (await isDone()) return "it is under way";
    }
  }
}

function checkRequest(view: NodeView, options: FailoverOptions): void {
  const names = view.members.map((member) => member.name);
  const primary = healthyPrimary(view);
  if (options.kind === "switchover" && primary === undefined) {
    throw new CliError(
      "no-primary",
      "there is no healthy primary to switch over from",
      "Use pg_replica failover, or wait for the automatic one: pg_replica list.",
    );
  }
  const { candidate } = options;
  if (candidate === null) return;
  const member = view.members.find(({ name }) => name === candidate);
  if (member === undefined) {
    throw new CliError("unknown-node", `there is no node "${candidate}"`, `The nodes are: ${names.join(", ")}.`);
  }
  if (member.name === primary?.name) {
    throw new CliError("is-primary", `${candidate} is the primary already`, "Name another node.");
  }
  if (member.role === "witness" || member.tags.nofailover) {
    const why = member.role === "witness" ? "it is a witness" : "it has the tag nofailover";
    throw new CliError("not-electable", `${candidate} may not become primary: ${why}`, "Name another node.");
  }
}

function healthyPrimary(view: NodeView): MemberView | undefined {
  return view.members.find((member) => member.role === "primary" && member.name === view.primary);
}

/** Another promotion than before, and open. */
function hasNewPrimary(before: NodeView, view: NodeView): boolean {
  const changed = view.token !== null && tokenText(view.token) !== tokenText(before.token);
  return changed && view.phase === "steady" && healthyPrimary(view) !== undefined;
}

async function waitForPrimary(agent: AgentClient, before: NodeView, options: FailoverOptions): Promise<NodeView> {
  const untilMs = performance.now() + options.deadlineMs;
  let last = "";
  for (;;) {
    try {
      const view = await readView(agent);
      if (hasNewPrimary(before, view)) return view;
      const cancelled = view.history.find((entry) => entry.index > lastIndex(before) && /cancel/i.test(entry.kind));
      if (cancelled !== undefined) throw new CliError("cancelled", cancelled.text, "", exitCodes.failed);
      last = `phase ${view.phase}, primary ${view.primary ?? "none"}`;
    } catch (error) {
      if (error instanceof CliError && error.code === "cancelled") throw error;
      // The server of the old primary stops, and its agent with it, until it is started again.
      last = describeError(error);
    }
    if (performance.now() >= untilMs) {
      throw new CliError(
        "timeout",
        `no new primary was open for writes within ${options.deadlineMs} ms; last seen: ${last}`,
        "It may still be in progress: pg_replica list and pg_replica history.",
        exitCodes.failed,
      );
    }
    await delay(pollMs);
  }
}

function lastIndex(view: NodeView): number {
  return view.history.reduce((newest, entry) => Math.max(newest, entry.index), 0);
}

/** What happened since, with the milliseconds since the first entry. */
export function timeline(before: NodeView, after: NodeView): string[] {
  const entries = after.history.filter((entry) => entry.index > lastIndex(before));
  const [first] = entries;
  return entries.map((entry) => `${String(entry.atMs - (first?.atMs ?? 0)).padStart(7)} ms  ${entry.text}`);
}

export async function runPause(
  agent: AgentClient,
  paused: boolean,
  options: ChangeOptions,
  terminal: Terminal,
): Promise<void> {
  const view = await readView(agent);
  const what = paused ? "pause automatic failover" : "resume automatic failover";
  if (view.paused === paused) {
    terminal.print(paused ? "automatic failover is paused already" : "automatic failover is on already");
    return;
  }
  if (options.dryRun) {
    terminal.print(`would do: ${what} (in cluster ${view.clusterId ?? "?"})`);
    return;
  }
  await confirm(terminal, what, options.yes);
  terminal.print(
    String(
      await propose(
        agent,
        paused ? "pause" : "resume",
        {},
        pauseDeadlineMs,
        async () => (await readView(agent)).paused === paused,
      ),
    ),
  );
}
