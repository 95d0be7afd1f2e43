/**
 * The Raft invariants, looked at after every event. Everything is incremental: each entry is
 * compared once with global tables when it becomes durable and once when it is applied, never a whole log.
 */
import type {
  ConfChange,
  Configuration,
  Entry,
  Message,
  NodeId,
  Ready,
  Role,
  Snapshot,
  Status,
} from "../src/raft/types.js";
import { configurationDigest, entryDigest } from "./digest.js";
import type { Disk, DiskWatcher } from "./disk.js";
import type { Glimpse } from "./glimpse.js";
import type { Marks } from "./marks.js";
import { mix } from "./random.js";
import { Violation } from "./violation.js";

/** What the checker remembers of one node. */
type Held = Pick<Disk, "snapshot" | "entries">;

interface Seen {
  role: Role;
  term: number;
  vote: number;
  commit: number;
  applied: number;
  firstIndex: number;
  /** The highest term in which this node granted a vote or acknowledged entries: no restart may go back behind it. */
  promisedTerm: number;
  /** The end of the log that it acknowledged in that term. */
  acknowledged: number;
  lastConfigIndex: number;
}

export class RaftChecker implements DiskWatcher {
  readonly #marks: Marks;
  readonly #disks: ReadonlyArray<Disk | undefined>;
  readonly #seen: Seen[] = [];
  readonly #leaderOfTerm = new Map<number, NodeId>();
  /** Per voter: whom it gave its vote in each term. */
  readonly #votes = new Map<number, NodeId>();
  /** The one committed log, by index: term, digest, digest of the log up to it, digest of the state behind it. */
  readonly committedTerm: number[] = [];
  readonly #committedDigest: number[] = [];
  readonly #committedChain: number[] = [];
  readonly #stateDigest: number[] = [];
  /** Committed configurations in order of index. */
  readonly configurations: Array<{ index: number; config: Configuration; digest: number }> = [];
  /** For each leader term that committed something, how far; terms ascending. */
  readonly #commitPoints: Array<{ term: number; index: number }> = [];
  /** For each index, the log digest that belongs to (index, term): Log Matching says there is only one. */
  readonly #chainOf: Array<Map<number, number> | undefined> = [];
  /** What the disk of a node held before it was rolled back. */
  readonly #forgotten = new Map<NodeId, Held>();
  maxCommitted = 0;

  constructor(disks: ReadonlyArray<Disk | undefined>, marks: Marks) {
    this.#disks = disks;
    this.#marks = marks;
  }

  /** The state from which every schedule starts: an applied snapshot that all first voters hold. */
  begin(snapshot: Snapshot): void {
    this.committedTerm[snapshot.index] = snapshot.term;
    this.#committedDigest[snapshot.index] = 0;
    this.#committedChain[snapshot.index] = 7;
    this.maxCommitted = snapshot.index;
    this.#commitPoints.push({ term: snapshot.term, index: snapshot.index });
    this.configurations.push({
      index: snapshot.index,
      config: snapshot.config,
      digest: configurationDigest(snapshot.config),
    });
  }

  /** Nothing that this node promised holds any more; it must not promise anything again. */
  rolledBack(node: NodeId): void {
    delete this.#seen[node];
    const { snapshot, entries } = this.#disks[node] as Disk;
    this.#forgotten.set(node, { snapshot, entries });
  }

  /** A process started from its disk. */
  started(node: NodeId, status: Glimpse): void {
    const before = this.#seen[node];
    if (before !== undefined && status.term < before.promisedTerm) {
      throw new Violation(
        "term-regressed",
        `node ${node} restarted in term ${status.term} after it had promised term ${before.promisedTerm}`,
      );
    }
    if (before !== undefined && status.term === before.promisedTerm && status.lastIndex < before.acknowledged) {
      const lost = `acknowledged ${before.acknowledged} in term ${status.term}`;
      throw new Violation(
        "ack-forgotten",
        `node ${node} restarted with a log up to ${status.lastIndex}, it had ${lost}`,
      );
    }
    const promised = this.#forgotten.has(node) ? undefined : this.#votes.get(status.term * 1024 + node);
    if (promised !== undefined && promised !== status.vote) {
      throw new Violation(
        "vote-forgotten",
        `node ${node} restarted in term ${status.term} with vote ${status.vote} after it had given it to ${promised}`,
      );
    }
    this.#seen[node] = {
      role: status.role,
      term: status.term,
      vote: status.vote,
      commit: status.commit,
      applied: status.applied,
      firstIndex: status.firstIndex,
      promisedTerm: before?.promisedTerm ?? 0,
      acknowledged: before?.acknowledged ?? 0,
      lastConfigIndex: this.lastDurableConfiguration(node),
    };
  }

  lastDurableConfiguration(node: NodeId): number {
    const { entries } = this.#disks[node] as Disk;
    for (let i = entries.length - 1; i >= 0; i--) if (entries[i]?.type === "config") return (entries[i] as Entry).index;
    return 0;
  }

  /** After every event that touched a node. */
  observe(node: NodeId, status: Glimpse): void {
    const seen = this.#seen[node] as Seen;
    // A leader that commits its own removal commits as the leader and is a follower at the end of the same event.
    const led = status.role === "leader" || (seen.role === "leader" && seen.term === status.term);
    if (status.term < seen.term) fail("term-regressed", node, `term ${seen.term} became ${status.term}`);
    if (status.term === seen.term) {
      if (seen.vote !== 0 && status.vote !== seen.vote) {
        fail("vote-changed", node, `vote in term ${status.term} changed from ${seen.vote} to ${status.vote}`);
      }
    } else {
      seen.term = status.term;
    }
    seen.vote = status.vote;
    if (status.applied < seen.applied)
      fail("applied-regressed", node, `applied ${seen.applied} became ${status.applied}`);
    if (status.applied > status.commit)
      fail("applied-beyond-commit", node, `applied ${status.applied}, commit ${status.commit}`);
    if (status.commit > status.lastIndex)
      fail("commit-beyond-log", node, `commit ${status.commit}, last ${status.lastIndex}`);
    const snapshot = (this.#disks[node] as Disk).snapshot.index;
    if (status.firstIndex - 1 > status.commit || snapshot > status.commit)
      fail(
        "snapshot-beyond-commit",
        node,
        `snapshot ${Math.max(snapshot, status.firstIndex - 1)}, commit ${status.commit}`,
      );
    seen.applied = status.applied;
    if (status.firstIndex !== seen.firstIndex) {
      seen.firstIndex = status.firstIndex;
      this.#configurationInForce(node, status);
    }
    if (status.role !== seen.role) this.#roleChanged(node, seen, status);
    if (status.commit !== seen.commit) this.#commitMoved(node, seen, status, led);
  }

  #roleChanged(node: NodeId, seen: Seen, status: Glimpse): void {
    if (seen.role === "leader") {
      this.#marks.steppedDown++;
      if (!status.config.voters.includes(node)) this.#marks.leaderRemoved++;
    }
    seen.role = status.role;
    this.#configurationInForce(node, status);
    if (status.role !== "leader") return;
    this.#marks.elected++;
    const { term } = status;
    const other = this.#leaderOfTerm.get(term);
    if (other !== undefined && other !== node) fail("two-leaders", node, `leads term ${term}, so did node ${other}`);
    this.#leaderOfTerm.set(term, node);
    const disk = this.#disks[node] as Disk;
    if (disk.hardState.term !== term || disk.hardState.vote !== node) {
      fail("leader-before-sync", node, `leads term ${term} without a durable vote for itself`);
    }
    // Leader completeness: everything committed under an earlier term is in this leader's log.
    for (let i = this.#commitPoints.length - 1; i >= 0; i--) {
      const point = this.#commitPoints[i] as { term: number; index: number };
      if (point.term >= term) continue;
      if (!this.#holds(disk, point.index)) {
        fail(
          "leader-incomplete",
          node,
          `leads term ${term} without entry ${point.index} committed in term ${point.term}`,
        );
      }
      return;
    }
  }

  /** The configuration in force is the newest in the log, or the snapshot's; looked at when the log is all durable. */
  #configurationInForce(node: NodeId, status: Glimpse): void {
    const disk = this.#disks[node] as Disk;
    if (disk.lastIndex !== status.lastIndex || disk.termAt(disk.lastIndex) !== status.lastTerm) return;
    let expected = disk.snapshot.config;
    for (const entry of disk.entries) if (entry.type === "config") expected = entry.config;
    if (configurationDigest(expected) !== configurationDigest(status.config)) {
      const config = JSON.stringify(status.config);
      fail("configuration-not-of-log", node, `acts on ${config}, its log says ${JSON.stringify(expected)}`);
    }
  }

  #commitMoved(node: NodeId, seen: Seen, status: Glimpse, led: boolean): void {
    const { commit } = status;
    if (commit < seen.commit) fail("commit-regressed", node, `commit ${seen.commit} became ${commit}`);
    seen.commit = commit;
    if (led && commit > this.maxCommittedIn(status.term)) {
      this.#quorumDurable(node, status, status.config.voters);
      if (status.config.votersOutgoing.length > 0) this.#quorumDurable(node, status, status.config.votersOutgoing);
      this.#marks.committed++;
      this.#addCommitPoint(status.term, commit);
    }
    if (commit > this.maxCommitted) {
      fail("commit-unproven", node, `commit ${commit}, but no leader has committed beyond ${this.maxCommitted}`);
    }
  }

  maxCommittedIn(term: number): number {
    let best = 0;
    for (const point of this.#commitPoints) if (point.term <= term && point.index > best) best = point.index;
    return best;
  }

  #quorumDurable(node: NodeId, status: Glimpse, voters: readonly NodeId[]): void {
    let durable = 0;
    for (const voter of voters) {
      const disk = this.#disks[voter];
      if (disk === undefined) continue;
      // A node that never acknowledges again equals one that has crashed: what it had acknowledged is counted on rightly.
      const forgotten = this.#forgotten.get(voter);
      if (holds(disk, status) || (forgotten !== undefined && holds(forgotten, status))) durable++;
    }
    if (2 * durable <= voters.length) {
      fail(
        "commit-without-quorum",
        node,
        `committed ${status.commit} in term ${status.term}, durable on ${durable} of voters ${voters.join(",")}`,
      );
    }
  }

  #addCommitPoint(term: number, index: number): void {
    const points = this.#commitPoints;
    let at = points.length;
    while (at > 0 && (points[at - 1] as { term: number }).term > term) at--;
    const previous = points[at - 1];
    if (previous !== undefined && previous.term === term) previous.index = Math.max(previous.index, index);
    else points.splice(at, 0, { term, index });
    if (index > this.maxCommitted) this.maxCommitted = index;
  }

  #holds(disk: Disk, index: number): boolean {
    if (disk.snapshot.index >= index) return true;
    const entry = disk.entries[index - disk.snapshot.index - 1];
    if (entry === undefined) return false;
    const committed = this.committedTerm[index];
    return committed === undefined || committed === entry.term;
  }

  /** What is about to leave a node: nothing that promises more than its disk holds. */
  sending(message: Message): void {
    const node = message.from;
    if (message.type === "RequestVoteResponse") {
      if (message.granted) this.#voteLeaves(node, message.term, message.to);
    } else if (message.type === "AppendEntriesResponse") {
      if (message.success) this.#ackLeaves(node, message.term, message.matchIndex);
    } else if (message.type === "InstallSnapshotResponse") {
      this.#ackLeaves(node, message.term, message.matchIndex);
    }
  }

  #voteLeaves(node: NodeId, term: number, candidate: NodeId): void {
    const { hardState } = this.#disks[node] as Disk;
    if (hardState.term < term || (hardState.term === term && hardState.vote !== candidate)) {
      fail(
        "vote-before-sync",
        node,
        `vote for ${candidate} in term ${term} leaves; durable: ${JSON.stringify(hardState)}`,
      );
    }
    const key = term * 1024 + node;
    const before = this.#votes.get(key);
    if (before !== undefined && before !== candidate) {
      fail("double-vote", node, `voted for ${before} and for ${candidate} in term ${term}`);
    }
    this.#votes.set(key, candidate);
    this.#promise(node, term);
  }

  #ackLeaves(node: NodeId, term: number, matchIndex: number): void {
    const disk = this.#disks[node] as Disk;
    // An answer in an older term may be about entries that a newer leader has had truncated since: in the order of the
    // node's own steps it was true, and the newer term is durable before it leaves.
    if (disk.hardState.term === term && matchIndex > disk.lastIndex) {
      fail("ack-before-sync", node, `acknowledges ${matchIndex}, durable up to ${disk.lastIndex}`);
    }
    if (disk.hardState.term < term) {
      fail("ack-before-sync", node, `acknowledges in term ${term}, durable term ${disk.hardState.term}`);
    }
    this.#promise(node, term, matchIndex);
  }

  #promise(node: NodeId, term: number, acknowledged = 0): void {
    const seen = this.#seen[node] as Seen;
    if (term > seen.promisedTerm) {
      seen.promisedTerm = term;
      seen.acknowledged = 0;
    }
    if (term === seen.promisedTerm && acknowledged > seen.acknowledged) seen.acknowledged = acknowledged;
  }

  /** A leader's own new configuration entries: one uncommitted at a time, none before its no-op is committed. */
  appending(node: NodeId, ready: Ready, status: Glimpse): void {
    const seen = this.#seen[node] as Seen;
    const first = ready.entries[0];
    // What is truncated here may have held the newest configuration; the one before it is then committed or unknown.
    if (first !== undefined && first.index <= seen.lastConfigIndex) seen.lastConfigIndex = 0;
    for (const entry of ready.entries) {
      if (entry.type !== "config") continue;
      if (status.role !== "leader" || entry.term !== status.term) {
        seen.lastConfigIndex = entry.index;
        continue;
      }
      if (seen.lastConfigIndex > status.commit) {
        fail(
          "two-configurations",
          node,
          `appends configuration ${entry.index} while ${seen.lastConfigIndex} is uncommitted`,
        );
      }
      if (this.committedIn(status.term) === 0) {
        fail(
          "configuration-before-noop",
          node,
          `appends configuration ${entry.index} before a commit in term ${status.term}`,
        );
      }
      seen.lastConfigIndex = entry.index;
    }
  }

  /**
   * A leader accepted a change. Whoever it makes a voter holds what is committed: else the cluster would wait for it at
   * the next fault.
   *
   * @param status of the leader before the change.
   */
  changing(node: NodeId, status: Status, change: ConfChange): void {
    for (const { type, id } of change.ops) {
      if (type !== "addVoter" || !status.config.learners.includes(id)) continue;
      const { lastIndex } = this.#disks[id] as Disk;
      if (lastIndex < status.commit) {
        fail("voter-behind", node, `makes ${id} a voter, which holds ${lastIndex} of ${status.commit} committed`);
      }
    }
  }

  committedIn(term: number): number {
    for (const point of this.#commitPoints) if (point.term === term) return point.index;
    return 0;
  }

  entriesDurable(node: NodeId, disk: Disk, first: number): void {
    const base = disk.snapshot.index;
    let chain = first - 1 === base ? (this.#committedChain[base] ?? 0) : (disk.chain[first - base - 2] as number);
    for (let i = first - base - 1; i < disk.entries.length; i++) {
      const entry = disk.entries[i] as Entry;
      if (entry.index !== base + i + 1) fail("log-gap", node, `entry ${entry.index} at position ${base + i + 1}`);
      chain = mix(chain, entryDigest(entry));
      disk.chain[i] = chain;
      this.#matches(node, entry.index, entry.term, chain);
    }
  }

  #matches(node: NodeId, index: number, term: number, chain: number): void {
    let known = this.#chainOf[index];
    if (known === undefined) {
      known = new Map();
      this.#chainOf[index] = known;
    }
    const before = known.get(term);
    if (before === undefined) known.set(term, chain);
    else if (before !== chain)
      fail("log-mismatch", node, `its log up to (index ${index}, term ${term}) differs from another's`);
  }

  snapshotDurable(node: NodeId, snapshot: Snapshot): void {
    const { index, term, config } = snapshot;
    if (this.committedTerm[index] !== term) {
      fail(
        "snapshot-uncommitted",
        node,
        `snapshot at (${index}, ${term}), committed term there ${this.committedTerm[index]}`,
      );
    }
    let expected = 0;
    for (const known of this.configurations) if (known.index <= index) expected = known.digest;
    if (configurationDigest(config) !== expected) {
      fail("snapshot-configuration", node, `snapshot ${index} does not carry the configuration as of ${index}`);
    }
  }

  /** One committed entry was applied. @param stateDigest of the application's state behind it. */
  applied(node: NodeId, entry: Entry, stateDigest: number): void {
    const { index, term } = entry;
    const disk = this.#disks[node] as Disk;
    if (disk.snapshot.index < index && disk.termAt(index) !== term)
      fail("applied-before-sync", node, `applies (${index}, term ${term}), durable up to ${disk.lastIndex}`);
    const digest = entryDigest(entry);
    const known = this.committedTerm[index];
    if (known === undefined) {
      this.committedTerm[index] = term;
      this.#committedDigest[index] = digest;
      const before = this.#committedChain[index - 1];
      if (before === undefined)
        throw new Violation("applied-gap", `node ${node} applied ${index} before anybody applied ${index - 1}`);
      this.#committedChain[index] = mix(before, digest);
      this.#stateDigest[index] = stateDigest;
      if (entry.type === "config") this.#configurationCommitted(node, index, entry.config);
      return;
    }
    if (known !== term || this.#committedDigest[index] !== digest) {
      fail("committed-changed", node, `applied (${index}, term ${term}), committed before with term ${known}`);
    }
    this.#sameState(node, index, stateDigest);
  }

  installed(node: NodeId, index: number, stateDigest: number): void {
    this.#sameState(node, index, stateDigest);
  }

  #sameState(node: NodeId, index: number, stateDigest: number): void {
    const known = this.#stateDigest[index];
    if (known === undefined) this.#stateDigest[index] = stateDigest;
    else if (known !== stateDigest) fail("state-differs", node, `state at ${index} differs from another node's`);
  }

  #configurationCommitted(node: NodeId, index: number, config: Configuration): void {
    this.#marks.configurationCommitted++;
    if (config.votersOutgoing.length > 0) this.#marks.jointCommitted++;
    const previous = (this.configurations.at(-1) as { config: Configuration }).config;
    if (!adjacent(previous, config)) {
      fail(
        "configuration-jump",
        node,
        `${JSON.stringify(previous)} is followed by ${JSON.stringify(config)} at ${index}`,
      );
    }
    this.configurations.push({ index, config, digest: configurationDigest(config) });
  }
}

/** Whether every quorum of one meets every quorum of the other. */
function adjacent(before: Configuration, after: Configuration): boolean {
  if (before.votersOutgoing.length > 0) {
    // Joint: it may only be left, keeping the incoming voters.
    return after.votersOutgoing.length === 0 ? sameIds(before.voters, after.voters) : false;
  }
  if (after.votersOutgoing.length > 0) return sameIds(before.voters, after.votersOutgoing);
  const added = after.voters.filter((id) => !before.voters.includes(id)).length;
  const removed = before.voters.filter((id) => !after.voters.includes(id)).length;
  return added + removed <= 1;
}

function sameIds(a: readonly NodeId[], b: readonly NodeId[]): boolean {
  return a.length === b.length && a.every((id, i) => id === b[i]);
}

function holds({ snapshot, entries }: Held, { commit, term }: Glimpse): boolean {
  if (snapshot.index >= commit) return snapshot.index > commit || snapshot.term === term;
  return entries[commit - snapshot.index - 1]?.term === term;
}

function fail(code: string, node: NodeId, what: string): never {
  throw new Violation(code, `node ${node}: ${what}`);
}
