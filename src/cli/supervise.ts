/**
 * `pg_replica supervise`: the least that a server needs around it (what systemd or a container's entrypoint do
 * elsewhere): prepare before each start, start again after each end, stop in good order. For the demo and tests.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { openSync, writeSync } from "node:fs";
import { join } from "node:path";
import { exitCodes } from "./errors.js";

export interface SuperviseOptions {
  readonly pgdata: string;
  readonly bindir: string;
  readonly restartDelayMs: number;
  /** File that gets everything the server and this supervisor say; null: standard error. */
  readonly logFile: string | null;
  /** How this program is started again for `prepare`: program and first arguments. */
  readonly self: readonly string[];
}

const maxRestartDelayMs = 10_000;
/** A server that lived this long was not in a crash loop. */
const stableMs = 10_000;
const fastStopMs = 30_000;

export async function supervise(options: SuperviseOptions): Promise<number> {
  return new Supervisor(options).run();
}

class Supervisor {
  readonly #options: SuperviseOptions;
  /** Handed to the children as it is: what they write stays complete whatever happens to this process. */
  readonly #logFd: number;
  #child: ChildProcess | null = null;
  #childIsServer = false;
  #stopping = false;
  #wake: (() => void) | null = null;
  #escalation: NodeJS.Timeout | null = null;

  constructor(options: SuperviseOptions) {
    this.#options = options;
    this.#logFd = options.logFile === null ? process.stderr.fd : openSync(options.logFile, "a", 0o600);
  }

  /** Until SIGTERM or SIGINT. @returns the exit code */
  async run(): Promise<number> {
    process.on("SIGTERM", () => this.#stop());
    process.on("SIGINT", () => this.#stop());
    process.on("SIGHUP", () => this.#forward("SIGHUP"));
    let quickEnds = 0;
    while (!this.#stopping) {
      const prepared = await this.#prepare();
      if (this.#stopping) break;
      if (prepared === exitCodes.refused) {
        this.#say("prepare refused to go on: an operator has to act. This supervisor ends.");
        return exitCodes.refused;
      }
      let livedMs = 0;
      if (prepared === exitCodes.done) {
        const startedMs = performance.now();
        await this.#runServer();
        livedMs = performance.now() - startedMs;
      }
      if (this.#stopping) break;
      // One quick end is normal (a rejoin stops the server at once); a row of them backs off.
      quickEnds = livedMs >= stableMs ? 0 : quickEnds + 1;
      const delayMs = this.#options.restartDelayMs * 1.5 ** Math.max(0, quickEnds - 1);
      await this.#pause(Math.min(delayMs, maxRestartDelayMs));
    }
    this.#say("stopped");
    return exitCodes.done;
  }

  async #prepare(): Promise<number> {
    const [program = process.execPath, ...first] = this.#options.self;
    const args = [...first, "prepare", "-D", this.#options.pgdata, "--bindir", this.#options.bindir];
    const code = await this.#runChild(program, args, false);
    if (code !== exitCodes.done) this.#say(`prepare ended with ${code}`);
    return code;
  }

  async #runServer(): Promise<void> {
    const { bindir, pgdata } = this.#options;
    const code = await this.#runChild(join(bindir, "postgres"), ["-D", pgdata], true);
    this.#say(`the server ended with ${code}`);
  }

  /** @returns the exit status; an end by a signal counts as 1 */
  async #runChild(program: string, args: readonly string[], isServer: boolean): Promise<number> {
    const child = spawn(program, args, { stdio: ["ignore", this.#logFd, this.#logFd] });
    this.#child = child;
    this.#childIsServer = isServer;
    const code = await new Promise<number>((resolve) => {
      child.on("error", (error) => {
        this.#say(`${program}: ${error.message}`);
        resolve(exitCodes.failed);
      });
      child.on("exit", (status, signal) => {
        if (signal !== null) this.#say(`${program} was ended by ${signal}`);
        resolve(status ?? exitCodes.failed);
      });
    });
    this.#child = null;
    if (this.#escalation !== null) clearTimeout(this.#escalation);
    this.#escalation = null;
    return code;
  }

  #stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#wake?.();
    // SIGINT is the server's fast stop; prepare records each of its steps, so it can end anywhere.
    this.#forward(this.#childIsServer ? "SIGINT" : "SIGTERM");
    this.#escalation = setTimeout(() => {
      this.#say(`not stopped within ${fastStopMs} ms: stopping at once`);
      this.#forward(this.#childIsServer ? "SIGQUIT" : "SIGKILL");
    }, fastStopMs);
    if (this.#child === null) clearTimeout(this.#escalation);
  }

  #forward(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #say(text: string): void {
    writeSync(this.#logFd, `${new Date().toISOString()} pg_replica supervise: ${text}\n`);
  }
}
