/**
 * Drives the pure Raft core: takes its Ready, makes it durable, sends what may be sent, applies what is committed, and
 * tells those who wait for a proposal what became of it. The only place where the core meets disk, network and time.
 */
import { ControlError } from "../control/index.js";
import type { Command, ControlState, Outcome } from "../control/types.js";
import type { ConfChange, Message, NodeId, RaftNode, ReadState, ReadToken, Ready, Status } from "../raft/types.js";
import type { RaftStorage } from "../storage/types.js";
import { monotonicMs } from "./clock.js";
import type { StateMachine } from "./state-machine.js";

export interface DriverOptions<State, Input> {
  readonly node: RaftNode;
  readonly storage: RaftStorage;
  readonly machine: StateMachine<State, Input>;
  readonly send: (message: Message) => void;
  /** Committed entries were applied: the replicated state may have changed. */
  readonly onApplied: () => void;
  readonly onReadState: (readState: ReadState) => void;
  /** Storage failed or the core found itself broken: nothing more may be promised, the process ends. */
  readonly onFatal: (error: unknown) => void;
  readonly tickIntervalMs: number;
  /** Applied entries between two snapshots. */
  readonly compactEvery: number;
}

interface Waiter {
  readonly term: number;
  readonly resolve: (outcome: Outcome) => void;
}

export class RaftDriver<State = ControlState, Input = Command> {
  readonly #options: DriverOptions<State, Input>;
  readonly #waiters = new Map<number, Waiter>();
  #state: State;
  #compactedAt: number;
  #pumping = false;
  #stopped = false;
  #timer: NodeJS.Timeout | null = null;

  constructor(options: DriverOptions<State, Input>) {
    this.#options = options;
    const { machine, storage } = options;
    const { snapshot } = storage.initial;
    this.#state = snapshot.data.length > 0 ? machine.load(snapshot.data) : machine.empty;
    this.#compactedAt = snapshot.index;
  }

  /** The replicated state as applied on this node. */
  get state(): State {
    return this.#state;
  }

  status(): Status {
    return this.#options.node.status();
  }

  start(): void {
    this.#options.node.tick(monotonicMs());
    this.#timer = setInterval(() => this.#input((now) => this.#options.node.tick(now)), this.#options.tickIntervalMs);
    this.#pump();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    for (const index of [...this.#waiters.keys()]) this.#resolve(index, lost("this agent is stopping"));
    while (this.#pumping) await new Promise((resolve) => setImmediate(resolve));
    await this.#options.storage.close();
  }

  step(message: Message): void {
    this.#input((now) => this.#options.node.step(message, now));
  }

  readIndex(): ReadToken {
    let token: ReadToken | undefined;
    this.#input((now) => {
      token = this.#options.node.readIndex(now);
    });
    return token as ReadToken;
  }

  transferLeadership(to: NodeId): void {
    this.#input((now) => this.#options.node.transferLeadership(to, now));
  }

  campaign(): void {
    this.#input((now) => this.#options.node.campaign(now));
  }

  reportUnreachable(peer: NodeId): void {
    this.#input(() => this.#options.node.reportUnreachable(peer));
  }

  /** Proposes on this node, which must be the leader; resolves when the entry is applied or known to be lost. */
  propose(input: Input): Promise<Outcome> {
    let data: Uint8Array;
    try {
      // Before it comes near the core: what a client or a peer wrote wrongly is its own error, not this node's end.
      data = this.#options.machine.encode(input);
    } catch (error) {
      if (!(error instanceof ControlError)) throw error;
      return Promise.resolve({ ok: false, code: error.code, message: error.message });
    }
    return this.#proposing((now) => this.#options.node.propose(data, now));
  }

  proposeConfChange(change: ConfChange): Promise<Outcome> {
    return this.#proposing((now) => this.#options.node.proposeConfChange(change, now));
  }

  #proposing(propose: (now: number) => ReturnType<RaftNode["propose"]>): Promise<Outcome> {
    if (this.#stopped) return Promise.resolve(lost("this agent is stopping"));
    return new Promise((resolve) => {
      this.#input((now) => {
        const result = propose(now);
        if (result.ok) this.#waiters.set(result.index, { term: result.term, resolve });
        else resolve({ ok: false, code: result.reason, message: result.message });
      });
    });
  }

  #input(apply: (now: number) => void): void {
    if (this.#stopped) return;
    try {
      apply(monotonicMs());
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#pump();
  }

  #pump(): void {
    if (this.#pumping || this.#stopped) return;
    this.#pumping = true;
    // Not in the caller's turn: whoever asks for a read must have its token before the answer can come.
    const drained = Promise.resolve().then(() => this.#drain());
    drained.then(
      () => {
        this.#pumping = false;
        // Something may have arrived between the last look and here.
        if (!this.#stopped && this.#options.node.hasReady()) this.#pump();
      },
      (error: unknown) => {
        this.#pumping = false;
        this.#fail(error);
      },
    );
  }

  async #drain(): Promise<void> {
    const { node, storage, send } = this.#options;
    while (!this.#stopped && node.hasReady()) {
      const ready = node.ready();
      for (const message of ready.messages) send(message);
      if (needsStorage(ready)) await storage.persist(ready);
      for (const message of ready.messagesAfterPersist) send(message);
      this.#apply(ready);
      node.advance(ready);
      for (const readState of ready.readStates) this.#options.onReadState(readState);
      this.#failLostProposals();
      if (ready.committedEntries.length > 0 || ready.snapshot !== undefined) {
        this.#options.onApplied();
        await this.#compact();
      }
    }
  }

  #apply(ready: Ready): void {
    const { machine } = this.#options;
    if (ready.snapshot !== undefined) {
      this.#state = machine.load(ready.snapshot.data);
      this.#compactedAt = ready.snapshot.index;
    }
    for (const entry of ready.committedEntries) {
      let outcome: Outcome = { ok: true };
      if (entry.type === "data") {
        const applied = machine.apply(this.#state, entry.data, entry);
        this.#state = applied.state;
        outcome = applied.outcome;
      }
      const waiter = this.#waiters.get(entry.index);
      if (waiter === undefined) continue;
      this.#resolve(entry.index, waiter.term === entry.term ? outcome : lost("another leader's entry took its place"));
    }
  }

  /**
   * An entry proposed here can only be applied from this node's log: it is gone for good when the log was applied beyond
   * it, and when it ends before it, cut off by another leader whose log is shorter (nothing need ever reach its index).
   */
  #failLostProposals(): void {
    if (this.#waiters.size === 0) return;
    const { applied, lastIndex } = this.#options.node.status();
    for (const index of [...this.#waiters.keys()]) {
      if (index <= applied) this.#resolve(index, lost("a snapshot took its place"));
      else if (index > lastIndex) this.#resolve(index, lost("another leader's log ends before it"));
    }
  }

  #resolve(index: number, outcome: Outcome): void {
    const waiter = this.#waiters.get(index);
    this.#waiters.delete(index);
    waiter?.resolve(outcome);
  }

  async #compact(): Promise<void> {
    const { node, storage, machine, compactEvery } = this.#options;
    const { applied, firstIndex } = node.status();
    if (applied - this.#compactedAt < compactEvery) return;
    // A leader's snapshot arrived while this Ready was written and waits for its own: that one is the newer.
    if (firstIndex > applied + 1) return;
    const snapshot = node.compact(applied, machine.save(this.#state));
    this.#compactedAt = applied;
    await storage.compact(snapshot);
  }

  #fail(error: unknown): void {
    this.#stopped = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    for (const index of [...this.#waiters.keys()]) this.#resolve(index, lost("this agent is stopping"));
    this.#options.onFatal(error);
  }
}

function needsStorage(ready: Ready): boolean {
  return ready.hardState !== undefined || ready.entries.length > 0 || ready.snapshot !== undefined;
}

function lost(why: string): Outcome {
  return { ok: false, code: "lost", message: `the proposal was not committed: ${why}` };
}
