/**
 * The vocabulary of the Raft core: ids, log entries, configurations, messages and the surface that drives a node.
 *
 * The core is pure. Time, randomness, storage and the network are injected: every input takes the caller's monotonic
 * time in milliseconds, and everything the core wants done comes out of {@link Ready}.
 *
 * Names follow Ongaro's dissertation (2014) and the field's common usage.
 */

/** A safe integer >= 1, allotted by the replicated log to one (name, disk incarnation) and never reused. */
export type NodeId = number;
export type Term = number;
export type LogIndex = number;
/** Milliseconds of the caller's monotonic clock; the core asserts that it never regresses. */
export type Millis = number;

/** Voters of the incoming (or only) configuration, of the outgoing one while joint, and learners. Sorted ascending. */
export interface Configuration {
  readonly voters: readonly NodeId[];
  /** Not empty only while the configuration is joint (dissertation 4.3). */
  readonly votersOutgoing: readonly NodeId[];
  readonly learners: readonly NodeId[];
  /** Voters of the outgoing configuration that become learners when the joint configuration is left. */
  readonly learnersNext: readonly NodeId[];
  /** The leader leaves the joint configuration by itself once it is committed. */
  readonly autoLeave: boolean;
}

export type ConfOp = { readonly type: "addVoter" | "addLearner" | "remove"; readonly id: NodeId };

/**
 * A membership change. "auto" uses a single-server change when the two configurations are adjacent and joint
 * consensus with auto-leave otherwise; "leave" leaves a joint configuration that was entered with "jointExplicit".
 */
export interface ConfChange {
  readonly transition: "auto" | "jointExplicit" | "leave";
  readonly ops: readonly ConfOp[];
}

export type Entry =
  | { readonly term: Term; readonly index: LogIndex; readonly type: "noop" }
  | { readonly term: Term; readonly index: LogIndex; readonly type: "data"; readonly data: Uint8Array }
  /** Carries the resulting configuration, used as soon as it is appended (append-time configurations). */
  | { readonly term: Term; readonly index: LogIndex; readonly type: "config"; readonly config: Configuration };

export interface HardState {
  readonly term: Term;
  readonly vote: NodeId | 0;
  readonly commit: LogIndex;
}

export interface Snapshot {
  readonly index: LogIndex;
  readonly term: Term;
  /** The configuration as of `index`, not the latest one. */
  readonly config: Configuration;
  /** The application's state at `index`. */
  readonly data: Uint8Array;
}

/** What storage gives back at start. `entries` are contiguous and follow `snapshot` (index 0, term 0 when none). */
export interface PersistentState {
  readonly hardState: HardState;
  readonly snapshot: Snapshot;
  readonly entries: readonly Entry[];
}

interface MessageBase {
  readonly from: NodeId;
  readonly to: NodeId;
  readonly term: Term;
}

/** What the sender remembers of the receiver's disk (R51); absent when it remembers nothing. */
interface Remembers {
  /** A term that the receiver had durable once. */
  readonly reachedTerm?: Term;
  /** The receiver held the log up to here once: committed entries, or those of the very leader that says so. */
  readonly heldIndex?: LogIndex;
}

/** An answer to somebody who is no member of the configuration that the sender knows committed at this index (R38). */
interface TellsRemoval {
  readonly removedAt?: LogIndex;
}

/** A follower holds what is committed up to `index`. */
export interface Holding {
  readonly id: NodeId;
  readonly index: LogIndex;
}

/** Unique per leader term: (term, sequence), made by the leader (dissertation 6.4). */
export interface ReadToken {
  readonly term: Term;
  readonly sequence: number;
}

export type Message =
  | (MessageBase &
      Remembers & {
        readonly type: "RequestVote";
        readonly lastIndex: LogIndex;
        readonly lastTerm: Term;
        /** The receiver of a TimeoutNow campaigns with this flag; voters then ignore leader stickiness. */
        readonly transfer: boolean;
      })
  | (MessageBase &
      Remembers &
      TellsRemoval & {
        readonly type: "RequestVoteResponse";
        readonly granted: boolean;
        /** Milliseconds since this voter last acknowledged any leader message; feeds the lease hold of a new leader. */
        readonly elapsedMs: Millis;
      })
  | (MessageBase & Remembers & { readonly type: "PreVote"; readonly lastIndex: LogIndex; readonly lastTerm: Term })
  | (MessageBase & Remembers & TellsRemoval & { readonly type: "PreVoteResponse"; readonly granted: boolean })
  | (MessageBase & {
      readonly type: "AppendEntries";
      readonly prevIndex: LogIndex;
      readonly prevTerm: Term;
      readonly entries: readonly Entry[];
      readonly commit: LogIndex;
    })
  | (MessageBase & { readonly type: "AppendEntriesResponse"; readonly success: true; readonly matchIndex: LogIndex })
  | (MessageBase & {
      readonly type: "AppendEntriesResponse";
      readonly success: false;
      readonly rejectedIndex: LogIndex;
      readonly hintIndex: LogIndex;
      readonly hintTerm: Term;
    })
  | (MessageBase &
      Remembers & {
        readonly type: "Heartbeat";
        readonly commit: LogIndex;
        readonly round: number;
        /** What the other followers hold, for when this leader is gone (R51). */
        readonly holdings?: readonly Holding[];
      })
  | (MessageBase & { readonly type: "HeartbeatResponse"; readonly round: number })
  | (MessageBase & { readonly type: "InstallSnapshot"; readonly snapshot: Snapshot })
  | (MessageBase & { readonly type: "InstallSnapshotResponse"; readonly matchIndex: LogIndex })
  | (MessageBase & { readonly type: "TimeoutNow"; readonly lastIndex: LogIndex; readonly lastTerm: Term })
  | (MessageBase & { readonly type: "ReadIndex"; readonly requestId: number })
  | (MessageBase & { readonly type: "ReadIndexResponse"; readonly requestId: number; readonly index: LogIndex });

export interface ReadState {
  readonly token: ReadToken;
  /** Everything up to here was committed when the read was asked for; serve once it is applied. */
  readonly index: LogIndex;
}

export interface Ready {
  readonly hardState?: HardState;
  /** Truncate from entries[0].index, then append. */
  readonly entries: readonly Entry[];
  readonly snapshot?: Snapshot;
  /** hardState (term or vote), entries or snapshot must be durable before `messagesAfterPersist` leave. */
  readonly mustSync: boolean;
  readonly messages: readonly Message[];
  readonly messagesAfterPersist: readonly Message[];
  readonly committedEntries: readonly Entry[];
  readonly readStates: readonly ReadState[];
}

export type ProposeResult =
  | { readonly ok: true; readonly term: Term; readonly index: LogIndex }
  | {
      readonly ok: false;
      readonly reason: "not-leader" | "transferring" | "busy" | "invalid";
      readonly message: string;
    };

export type Role = "follower" | "preCandidate" | "candidate" | "leader";

export interface Status {
  id: NodeId;
  role: Role;
  term: Term;
  vote: NodeId | 0;
  leader: NodeId | 0;
  commit: LogIndex;
  applied: LogIndex;
  firstIndex: LogIndex;
  lastIndex: LogIndex;
  lastTerm: Term;
  config: {
    voters: NodeId[];
    votersOutgoing: NodeId[];
    learners: NodeId[];
    learnersNext: NodeId[];
    autoLeave: boolean;
  };
  progress: Array<{
    id: NodeId;
    match: LogIndex;
    next: LogIndex;
    state: "probe" | "replicate" | "snapshot";
    paused: boolean;
    recentActive: boolean;
  }>;
  /** The leader's own no-op of this term is committed: it may decide and serve reads. Always false on others. */
  termCommitted: boolean;
  /** When this node became leader of the current term (its own clock); 0 on others. */
  electedAtMs: Millis;
  /**
   * Leader only: the smallest `elapsedMs` among the granted votes that elected it and its own. A lease confirmed under
   * an earlier leader may still be running for leaseMs - electionElapsedMs after `electedAtMs`.
   */
  electionElapsedMs: Millis;
  /**
   * Not 0: a peer says that this node is no member any more as of this index. It does not campaign (R38); a leader that
   * talks to it again makes it 0.
   */
  removedAt: LogIndex;
}

export interface RaftNode {
  tick(now: Millis): void;
  step(message: Message, now: Millis): void;
  propose(data: Uint8Array, now: Millis): ProposeResult;
  proposeConfChange(change: ConfChange, now: Millis): ProposeResult;
  /** Starts a quorum round; its result comes in {@link Ready.readStates}. Leader: a fresh round; follower: forwarded. */
  readIndex(now: Millis): ReadToken;
  transferLeadership(to: NodeId, now: Millis): void;
  campaign(now: Millis): void;
  /**
   * The transport saw the connection to `peer` end. On a leader the peer's progress falls back to probing. On a
   * follower whose leader it is, leader stickiness is waived and the election timer shortened to one to three
   * heartbeat intervals: a killed leader process is replaced at once (liveness only; safety never rests on stickiness).
   */
  reportUnreachable(peer: NodeId): void;
  reportSnapshot(peer: NodeId, outcome: "installed" | "failed"): void;
  hasReady(): boolean;
  /** At most one outstanding. */
  ready(): Ready;
  /** Everything in `ready` is durable and its committed entries are applied. */
  advance(ready: Ready): void;
  /**
   * Gives the core the application's state at `upTo` (an applied index); the log before it may go, less a tail.
   * Returns the snapshot (configuration and term as of `upTo`) for the caller to store.
   */
  compact(upTo: LogIndex, data?: Uint8Array): Snapshot;
  status(): Status;
}

export interface RaftOptions {
  id: NodeId;
  electionTimeoutMs: number;
  heartbeatIntervalMs: number;
  /** Uniform in [0, 1); seeded and injected. */
  random: () => number;
  maxBytesPerAppend: number;
  maxInflightAppends: number;
  maxUncommittedBytes: number;
  initial: PersistentState;
  /**
   * After its start a node gives no vote for so long, unless its leader names the candidate: a leader that lives has
   * the time to say what this node's disk must hold (R51). Default 0; an election timeout is a good value.
   */
  restartGraceMs?: number;
}
