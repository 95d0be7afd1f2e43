/** Brings a command into the log wherever the leader is: proposes here, or sends it to the leader and waits. */
import type { Command, CommandBody, Outcome } from "../control/types.js";
import type { NodeId } from "../raft/types.js";
import type { Transport } from "../transport/types.js";
import { delay, monotonicMs, wallClockMs } from "./clock.js";
import type { RaftDriver } from "./raft-driver.js";

const timeoutMs = 5000;
/** Nothing was proposed: a leader is being elected, or hands over. A release that is given up costs a whole lease. */
const undecided: ReadonlySet<string> = new Set(["no-leader", "not-leader", "transferring"]);
const patienceMs = 2000;
const retryMs = 20;

export class Submitter {
  readonly #waiting = new Map<number, { resolve: (outcome: Outcome) => void; timer: NodeJS.Timeout }>();
  #nextId = 1;

  constructor(
    readonly selfId: NodeId,
    readonly selfName: string,
    readonly driver: RaftDriver,
    readonly transport: () => Transport | null,
  ) {}

  /**
   * Resolves with the outcome of the command. Code "timeout": whether it was committed is not known; every command is
   * a compare-and-set, so submitting it again is safe.
   */
  async submit(body: CommandBody): Promise<Outcome> {
    const until = monotonicMs() + patienceMs;
    for (;;) {
      const outcome = await this.#submitOnce(body);
      if (outcome.ok || !undecided.has(outcome.code) || monotonicMs() >= until) return outcome;
      await delay(retryMs);
    }
  }

  #submitOnce(body: CommandBody): Promise<Outcome> {
    const command: Command = { ...body, atMs: wallClockMs(), by: this.selfName };
    const { role, leader } = this.driver.status();
    if (role === "leader") return withTimeout(this.driver.propose(command));
    const transport = this.transport();
    if (leader === 0 || transport === null) {
      return Promise.resolve({ ok: false, code: "no-leader", message: "no Raft leader is known to this node" });
    }
    return new Promise((resolve) => {
      const requestId = this.#nextId++;
      const timer = setTimeout(() => this.answered(requestId, unanswered), timeoutMs);
      this.#waiting.set(requestId, { resolve, timer });
      transport.sendApp(leader, { kind: "propose", requestId, command });
    });
  }

  answered(requestId: number, outcome: Outcome): void {
    const waiting = this.#waiting.get(requestId);
    if (waiting === undefined) return;
    this.#waiting.delete(requestId);
    clearTimeout(waiting.timer);
    waiting.resolve(outcome);
  }

  /** A member asked this node, as the leader, to propose. */
  async forward(from: NodeId, requestId: number, command: Command): Promise<void> {
    const outcome = await withTimeout(this.driver.propose(command));
    this.transport()?.sendApp(from, { kind: "proposed", requestId, outcome });
  }
}

const unanswered: Outcome = {
  ok: false,
  code: "timeout",
  message: `the cluster did not commit the command within ${timeoutMs} ms; it may still be committed`,
};

function withTimeout(proposal: Promise<Outcome>): Promise<Outcome> {
  let timer: NodeJS.Timeout | undefined;
  const deadline = new Promise<Outcome>((resolve) => {
    timer = setTimeout(() => resolve(unanswered), timeoutMs);
  });
  return Promise.race([proposal, deadline]).finally(() => clearTimeout(timer));
}
