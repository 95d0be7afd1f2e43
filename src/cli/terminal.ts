/** What is said to people: standard output, colours, questions. Replaced in tests. */
import { createInterface } from "node:readline/promises";
import colors from "picocolors";
import type { Colors } from "picocolors/types.js";
import { CliError } from "./errors.js";

export interface Terminal {
  readonly interactive: boolean;
  readonly colors: Colors;
  print(text: string): void;
  /** For remarks that must not get into what programs read. */
  note(text: string): void;
  ask(question: string): Promise<string>;
  clear(): void;
}

export function realTerminal(): Terminal {
  const onTerminal = process.stdout.isTTY === true;
  return {
    interactive: onTerminal && process.stdin.isTTY === true,
    colors: colors.createColors(onTerminal && process.env.NO_COLOR === undefined),
    print: (text) => void process.stdout.write(`${text}\n`),
    note: (text) => void process.stderr.write(`${text}\n`),
    ask: async (question) => {
      const reader = createInterface({ input: process.stdin, output: process.stdout });
      try {
        return await reader.question(question);
      } finally {
        reader.close();
      }
    },
    clear: () => {
      if (onTerminal) process.stdout.write("\x1b[2J\x1b[H");
    },
  };
}

/**
 * Lets a change of the cluster pass when --yes was given or a person agrees.
 * @throws CliError otherwise; without a terminal nobody can agree.
 */
export async function confirm(terminal: Terminal, what: string, yes: boolean): Promise<void> {
  if (yes) return;
  if (!terminal.interactive) {
    throw new CliError("not-confirmed", `${what}: not done, since nobody can be asked here`, "Add --yes.");
  }
  const answer = await terminal.ask(`${what}? [y/N] `);
  if (!/^y(es)?$/i.test(answer.trim())) throw new CliError("not-confirmed", "not done", "");
}
