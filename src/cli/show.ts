/** `list`, `topology`, `watch`, `history`, `uri`. */
import { setTimeout as delay } from "node:timers/promises";
import { findAgent, readView, type TargetOptions } from "./agent-client.js";
import { clientUri, showCluster, showHistory, type UriOptions } from "./cluster-output.js";
import { errorLines } from "./errors.js";
import { parseFormat } from "./output.js";
import type { Terminal } from "./terminal.js";

type Flags = TargetOptions & { readonly format?: string };

export interface ListOptions {
  readonly topology: boolean;
  /** Again and again at this interval; null: once. */
  readonly watchSeconds: number | null;
}

export async function runList(flags: Flags, options: ListOptions, terminal: Terminal): Promise<void> {
  const format = parseFormat(flags.format ?? "pretty");
  const show = async (): Promise<string> => {
    const agent = await findAgent(flags);
    const view = await readView(agent);
    const text = showCluster(view, { format, colors: terminal.colors, topology: options.topology });
    if (agent.remote && format === "pretty") return `${text}\n (answered by ${view.self.name} at ${agent.where})`;
    return text;
  };
  if (options.watchSeconds === null) {
    terminal.print(await show());
    return;
  }
  // Ends with SIGINT. A node that does not answer now may answer the next time: that is what one watches for.
  for (;;) {
    const text = await show().catch((error: unknown) => errorLines(error).trimEnd());
    terminal.clear();
    terminal.print(text);
    await delay(options.watchSeconds * 1000);
  }
}

export async function runHistory(flags: Flags, terminal: Terminal): Promise<void> {
  const format = parseFormat(flags.format ?? "pretty");
  terminal.print(showHistory(await readView(await findAgent(flags)), format));
}

export async function runUri(flags: Flags, options: UriOptions, terminal: Terminal): Promise<void> {
  terminal.print(clientUri(await readView(await findAgent(flags)), options));
}
