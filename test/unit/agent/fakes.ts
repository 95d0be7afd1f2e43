/** Small stand-ins at the edges that the agent's parts are given: a supervisor, a server, a Raft node of one voter. */
import { Logger } from "../../../src/agent/logger.js";
import { RaftDriver } from "../../../src/agent/raft-driver.js";
import { compactEvery } from "../../../src/agent/raft-settings.js";
import { controlMachine } from "../../../src/agent/state-machine.js";
import type { LeaseWord, SupervisorLink } from "../../../src/agent/supervisor-link.js";
import { tokensEqual, ZERO_TOKEN } from "../../../src/control/token.js";
import type { CommandBody, Outcome, Token } from "../../../src/control/types.js";
import { createRaftNode } from "../../../src/raft/index.js";
import type { Configuration, Message, NodeId, PersistentState } from "../../../src/raft/types.js";
import { createMemoryStorage, type MemoryStorage } from "../../../src/storage/memory-storage.js";

/** Collects the log; fails on nothing. */
export class LogLines {
  readonly lines: string[] = [];
  readonly logger = new Logger((level, message) => this.lines.push(`${level}: ${message}`), "debug");

  has(text: string | RegExp): boolean {
    return this.lines.some((line) => (typeof text === "string" ? line.includes(text) : text.test(line)));
  }
}

/** Waits until `condition` holds; the message says what was missing. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not within 10 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Lets everything that is already resolved run. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

export interface Call {
  readonly what: string;
  readonly token?: Token;
  readonly stampNs?: string;
}

/**
 * A supervisor with the rules of lease.c and supervisor.c: the word is (token, deadline, open), a renewal counts only
 * for the word's token, and moves the deadline never backwards. Its clock is `nowMs`, moved by the test; stamps are its
 * milliseconds as nanoseconds. `hold` keeps answers back until `release`.
 */
export class FakeSupervisor {
  nowMs = 1000;
  token: Token = ZERO_TOKEN;
  deadlineMs = 0;
  open = false;
  failNext = new Map<string, Error>();
  readonly calls: Call[] = [];
  #held: Array<() => void> | null = null;

  hold(): void {
    this.#held = [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const answer of held) answer();
  }

  get link(): SupervisorLink {
    const link: Pick<SupervisorLink, "stamp" | "token" | "renew" | "open" | "expire"> = {
      stamp: () => this.#do({ what: "stamp" }, () => `${this.nowMs}000000`),
      token: (token) =>
        this.#do({ what: "token", token }, () => {
          const newer =
            token.term > this.token.term || (token.term === this.token.term && token.index > this.token.index);
          if (newer) Object.assign(this, { token, deadlineMs: 0, open: false });
          return this.word();
        }),
      renew: (token, stampNs, durationMs) =>
        this.#do({ what: "renew", token, stampNs }, () => {
          const stampMs = Number(BigInt(stampNs) / 1_000_000n);
          if (tokensEqual(token, this.token)) this.deadlineMs = Math.max(this.deadlineMs, stampMs + durationMs);
          return this.word();
        }),
      open: (token) =>
        this.#do({ what: "open", token }, () => {
          if (tokensEqual(token, this.token)) this.open = true;
          return this.word();
        }),
      expire: () =>
        this.#do({ what: "expire" }, () => {
          Object.assign(this, { deadlineMs: 0, open: false });
          return this.word();
        }),
    };
    return link as SupervisorLink;
  }

  word(): LeaseWord {
    return { token: this.token, remainingMs: Math.max(0, this.deadlineMs - this.nowMs), open: this.open };
  }

  /** May a backend of this server write now? */
  get writable(): boolean {
    return this.open && this.nowMs < this.deadlineMs;
  }

  names(): string[] {
    return this.calls.map(({ what }) => what);
  }

  /** What is asked takes effect at once and in order, as on the socket; only its answer may be kept back. */
  #do<T>(call: Call, effect: () => T): Promise<T> {
    this.calls.push(call);
    const failure = this.failNext.get(call.what);
    if (failure !== undefined) {
      this.failNext.delete(call.what);
      return Promise.reject(failure);
    }
    const result = effect();
    const held = this.#held;
    if (held === null) return Promise.resolve(result);
    return new Promise((resolve) => held.push(() => resolve(result)));
  }
}

export function votersOf(...voters: NodeId[]): Configuration {
  return { voters, votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
}

/** A log whose first, committed entry is the configuration. */
export function initialState(config: Configuration): PersistentState {
  return {
    hardState: { term: 1, vote: 0, commit: 1 },
    snapshot: { index: 0, term: 0, config: votersOf(), data: new Uint8Array() },
    entries: [{ term: 1, index: 1, type: "config", config }],
  };
}

export interface TestDriver {
  readonly driver: RaftDriver;
  readonly storage: MemoryStorage;
  readonly sent: Message[];
  readonly fatal: unknown[];
  applied: number;
}

/** A real driver over the real core and a log in memory; time is real, and short. */
export function testDriver(id: NodeId, config: Configuration): TestDriver {
  const storage = createMemoryStorage(initialState(config));
  const sent: Message[] = [];
  const fatal: unknown[] = [];
  const node = createRaftNode({
    id,
    electionTimeoutMs: 200,
    heartbeatIntervalMs: 20,
    random: () => 0.5,
    maxBytesPerAppend: 1 << 20,
    maxInflightAppends: 64,
    maxUncommittedBytes: 1 << 20,
    initial: storage.initial,
  });
  const result: TestDriver = {
    storage,
    sent,
    fatal,
    applied: 0,
    driver: new RaftDriver({
      node,
      storage,
      machine: controlMachine,
      send: (message) => sent.push(message),
      onApplied: () => {
        result.applied += 1;
      },
      onReadState: () => undefined,
      onFatal: (error) => fatal.push(error),
      tickIntervalMs: 5,
      compactEvery,
    }),
  };
  return result;
}

export const accepted: Outcome = { ok: true };

export function bodyOfType<K extends CommandBody["type"]>(
  bodies: readonly CommandBody[],
  type: K,
): Extract<CommandBody, { type: K }> | undefined {
  return bodies.find((body) => body.type === type) as Extract<CommandBody, { type: K }> | undefined;
}
