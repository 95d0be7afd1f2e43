/**
 * One real node, and a model of everything else: the other voters, their leaders and the one log that they agree on. The
 * others behave as some correct cluster would, so that whatever they send is valid; what the node does is checked against
 * the paper's rules after every step.
 */
import assert from "node:assert/strict";
import {
  type Configuration,
  type ConfOp,
  createRaftNode,
  type Entry,
  emptyState,
  type Message,
  type PersistentState,
  type RaftNode,
  type Ready,
  validateMessage,
} from "../../../src/raft/index.js";
import { optionsFor, persisted, seeded, votersOf } from "./network.js";

const first = votersOf(1, 2, 3);
const afterPersistOnly = ["RequestVoteResponse", "PreVoteResponse", "AppendEntriesResponse", "InstallSnapshotResponse"];

export class LoneNode {
  node: RaftNode;
  disk: PersistentState = emptyState(first);
  outstanding: Ready | null = null;
  nowMs = 0;
  readonly #random: () => number;
  /** The log of the newest leader, whoever it is; index i is at i - 1. */
  #log: Entry[] = [];
  /** What no later leader may lack: committed, or acknowledged to the node while it led. */
  #floor = 0;
  #term = 0;
  readonly #leaders = new Map<number, number>();
  readonly #sent: Message[] = [];
  // What the node has shown.
  readonly #votes = new Map<number, number>();
  readonly #committed = new Map<number, Entry>();
  #lifeTerm = 0;
  #lifeCommit = 0;
  #applied = 0;

  constructor(seed: number) {
    this.#random = seeded(seed);
    this.node = this.#create();
  }

  #create(): RaftNode {
    this.#lifeTerm = this.disk.hardState.term;
    this.#lifeCommit = Math.max(this.disk.hardState.commit, this.disk.snapshot.index);
    this.#applied = this.disk.snapshot.index;
    return createRaftNode({ ...optionsFor(1, this.disk, this.#random), maxUncommittedBytes: 64 });
  }

  // ------------------------------------------------------------------------------------------------ the node's driver

  tick(ms: number): void {
    this.nowMs += ms;
    this.node.tick(this.nowMs);
  }

  takeReady(): void {
    if (this.outstanding !== null) {
      assert.equal(this.node.hasReady(), false, "one Ready at a time");
      return;
    }
    const honest = this.node.hasReady();
    const ready = this.node.ready();
    const { hardState, snapshot, mustSync, ...lists } = ready;
    const empty =
      hardState === undefined && snapshot === undefined && Object.values(lists).every((l) => l.length === 0);
    assert.equal(honest, !empty, "hasReady says whether there is anything");
    this.#checkReady(ready);
    this.outstanding = ready;
  }

  complete(): void {
    const ready = this.outstanding;
    if (ready === null) return;
    this.#write(ready);
    this.outstanding = null;
    for (const entry of ready.committedEntries) this.#apply(entry);
    this.node.advance(ready);
    assert.equal(this.node.status().applied, this.#applied);
  }

  /** Loses the outstanding Ready, or has written it before the power went. */
  restart(written: boolean): void {
    if (this.outstanding !== null && written) this.#write(this.outstanding);
    this.outstanding = null;
    this.node = this.#create();
    const { term, vote, role, leader, lastIndex } = this.node.status();
    const { hardState, snapshot, entries } = this.disk;
    assert.deepEqual([term, vote, role, leader], [hardState.term, hardState.vote, "follower", 0]);
    assert.equal(lastIndex, snapshot.index + entries.length);
  }

  compact(): void {
    const { applied, firstIndex } = this.node.status();
    if (applied < firstIndex) return;
    const snapshot = this.node.compact(applied);
    assert.equal(snapshot.index, applied);
    assert.deepEqual(snapshot.config, this.#configAt(applied));
    this.disk = { ...this.disk, snapshot, entries: this.disk.entries.filter(({ index }) => index > applied) };
  }

  propose(size: number): void {
    const before = this.node.status();
    const result = this.node.propose(new Uint8Array(size), this.nowMs);
    this.#proposed(before.lastIndex, result);
  }

  proposeConfChange(ops: readonly ConfOp[], joint: boolean): void {
    const before = this.node.status();
    const transition = joint ? "jointExplicit" : "auto";
    this.#proposed(before.lastIndex, this.node.proposeConfChange({ transition, ops }, this.nowMs));
    if (before.config.votersOutgoing.length === 0) return;
    this.node.proposeConfChange({ transition: "leave", ops: [] }, this.nowMs);
  }

  #proposed(lastIndex: number, result: ReturnType<RaftNode["propose"]>): void {
    const { role, term } = this.node.status();
    if (result.ok) assert.deepEqual([role, result.term, result.index], ["leader", term, lastIndex + 1]);
    else assert.equal(this.node.status().lastIndex, lastIndex, "what is refused leaves no trace");
  }

  #write(ready: Ready): void {
    const before = this.disk;
    this.disk = persisted(this.disk, ready);
    const { term, vote } = this.disk.hardState;
    assert.ok(term >= before.hardState.term, "the durable term never falls");
    const known = this.#votes.get(term);
    if (vote !== 0) {
      assert.ok(known === undefined || known === vote, `two votes in term ${term}: ${known} and ${vote}`);
      this.#votes.set(term, vote);
    }
    assert.ok((this.disk.entries.at(-1)?.term ?? 0) <= term, "no entry of a term that is not durable");
    for (const message of ready.messagesAfterPersist) {
      const hypothetical = message.type === "PreVoteResponse" && message.granted;
      if (!hypothetical) assert.ok(message.term <= term, `${message.type} speaks for a term that is not durable`);
    }
  }

  #apply(entry: Entry): void {
    const known = this.#committed.get(entry.index);
    if (known !== undefined) assert.deepEqual(entry, known, "what was committed stays");
    this.#committed.set(entry.index, entry);
  }

  #checkReady(ready: Ready): void {
    const { entries, snapshot, messages, committedEntries, mustSync, hardState } = ready;
    entries.forEach((entry, i) => {
      assert.equal(entry.index, (entries[0] as Entry).index + i, "entries follow each other");
    });
    const end = snapshot?.index ?? this.disk.snapshot.index + this.disk.entries.length;
    if (entries[0] !== undefined) assert.ok(entries[0].index <= end + 1, "entries leave no gap behind the disk");
    const voteMoved =
      hardState !== undefined &&
      (hardState.term !== this.disk.hardState.term || hardState.vote !== this.disk.hardState.vote);
    assert.equal(mustSync, voteMoved || entries.length > 0 || snapshot !== undefined);
    for (const message of messages) {
      assert.ok(!afterPersistOnly.includes(message.type), `${message.type} must wait for the disk`);
      if (message.type === "HeartbeatResponse") assert.ok(message.term <= this.disk.hardState.term);
    }
    if (snapshot !== undefined) this.#applied = Math.max(this.#applied, snapshot.index);
    for (const entry of committedEntries) {
      assert.equal(entry.index, this.#applied + 1, "applied in order, each once a life");
      this.#applied = entry.index;
    }
  }

  /** After every step: what the node says of itself. */
  check(): void {
    const s = this.node.status();
    assert.ok(s.term >= this.#lifeTerm && s.commit >= this.#lifeCommit, "term and commit index never fall");
    this.#lifeTerm = s.term;
    this.#lifeCommit = s.commit;
    assert.ok(s.firstIndex <= s.lastIndex + 1 && s.applied <= s.commit && s.commit <= s.lastIndex);
    assert.equal(s.progress.length > 0, s.role === "leader");
    for (const { match, next } of s.progress) assert.ok(match < next && match <= s.lastIndex);
    if (s.role === "leader") this.#noteLeadership(s.term);
    if (s.role === "leader" && s.term === this.#term) this.#floor = Math.max(this.#floor, s.commit);
  }

  #noteLeadership(term: number): void {
    const known = this.#leaders.get(term);
    assert.ok(known === undefined || known === 1, `node ${known} leads term ${term} already`);
    this.#leaders.set(term, 1);
    if (term < this.#term) return;
    this.#term = term;
    // Everything the node holds, as it will send it: its disk, and what it has not handed out yet.
    const { lastIndex } = this.node.status();
    const own: Entry[] = this.#log.slice(0, lastIndex);
    for (const entry of [...this.disk.entries, ...(this.outstanding?.entries ?? [])]) own[entry.index - 1] = entry;
    this.#log = own.slice(0, lastIndex);
  }

  // ----------------------------------------------------------------------------------------------- the other voters

  deliver(message: Message): void {
    this.#sent.push(message);
    this.node.step(validateMessage(message), this.nowMs);
  }

  /** Late, or once more. */
  repeat(at: number): void {
    const message = this.#sent[at % Math.max(1, this.#sent.length)];
    if (message !== undefined) this.node.step(validateMessage(message), this.nowMs);
  }

  /** Another voter is elected in a new term, with everything that no leader may lack. */
  elect(leader: number, keep: number): void {
    this.#term = Math.max(this.#term, this.node.status().term) + 1;
    this.#leaders.set(this.#term, leader);
    this.#log = this.#log.slice(0, Math.max(this.#floor, Math.min(keep, this.#log.length)));
    this.#log.push({ type: "noop", term: this.#term, index: this.#log.length + 1 });
  }

  get #leader(): number {
    return this.#leaders.get(this.#term) ?? 0;
  }

  append(prev: number, count: number, committed: number, grow: boolean): void {
    if (this.#leader < 2) return;
    const term = this.#term;
    if (grow) this.#log.push({ type: "data", term, index: this.#log.length + 1, data: new Uint8Array([term]) });
    this.#floor = Math.max(this.#floor, Math.min(committed, this.#log.length));
    const prevIndex = Math.min(prev, this.#log.length);
    const prevTerm = this.#log[prevIndex - 1]?.term ?? 0;
    const entries = this.#log.slice(prevIndex, prevIndex + count);
    const base = { from: this.#leader, to: 1, term } as const;
    this.deliver({ ...base, type: "AppendEntries", prevIndex, prevTerm, entries, commit: this.#floor });
  }

  heartbeat(round: number): void {
    if (this.#leader < 2) return;
    const { term } = this.disk.hardState;
    const base = { from: this.#leader, to: 1, term: this.#term } as const;
    this.deliver({ ...base, type: "Heartbeat", commit: this.#provenCommit(), round, reachedTerm: term });
  }

  /** What this leader may know the node to hold: durable, in its own log, and committed. */
  #provenCommit(): number {
    const { snapshot, entries, hardState } = this.disk;
    let index = snapshot.index;
    for (const entry of entries) if (this.#log[entry.index - 1]?.term === entry.term) index = entry.index;
    return hardState.term === this.#term ? Math.min(index, this.#floor) : 0;
  }

  snapshot(at: number): void {
    const index = Math.min(at, this.#floor);
    if (this.#leader < 2 || index < 1) return;
    const { term } = this.#log[index - 1] as Entry;
    const snapshot = { index, term, config: this.#configAt(index), data: new Uint8Array(0) };
    this.deliver({ type: "InstallSnapshot", from: this.#leader, to: 1, term: this.#term, snapshot });
  }

  #configAt(index: number): Configuration {
    const entry = this.#log.slice(0, index).findLast(({ type }) => type === "config");
    return entry?.type === "config" ? entry.config : first;
  }

  requestVote(from: number, lead: number, transfer: boolean, pre: boolean): void {
    const term = Math.max(1, this.node.status().term + lead);
    const last = this.#log.at(-1);
    const end = { lastIndex: last?.index ?? 0, lastTerm: Math.min(last?.term ?? 0, term) };
    if (pre) this.deliver({ type: "PreVote", from, to: 1, term, ...end });
    else this.deliver({ type: "RequestVote", from, to: 1, term, ...end, transfer });
  }

  answerVote(from: number, granted: boolean): void {
    const { role, term, lastIndex, lastTerm } = this.node.status();
    if (role === "preCandidate") {
      this.deliver({ type: "PreVoteResponse", from, to: 1, term: granted ? term + 1 : term, granted });
    }
    if (role !== "candidate" || this.#term >= term) return;
    const complete = lastIndex >= this.#floor && (this.#log[lastIndex - 1]?.term ?? 0) === lastTerm;
    this.deliver({ type: "RequestVoteResponse", from, to: 1, term, granted: granted && complete, elapsedMs: 0 });
  }

  acknowledge(from: number, upTo: number): void {
    const { role, term, lastIndex } = this.node.status();
    if (role !== "leader" || term !== this.#term) return;
    this.#noteLeadership(term);
    const matchIndex = Math.min(upTo, this.#log.filter(Boolean).length, lastIndex);
    this.#floor = Math.max(this.#floor, matchIndex);
    this.deliver({ type: "AppendEntriesResponse", from, to: 1, term, success: true, matchIndex });
  }

  reject(from: number, rejectedIndex: number, hintIndex: number, hintTerm: number): void {
    const { term } = this.node.status();
    const base = { type: "AppendEntriesResponse", from, to: 1, term, success: false } as const;
    this.deliver({ ...base, rejectedIndex, hintIndex, hintTerm });
  }
}
