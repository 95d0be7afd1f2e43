/**
 * The mutable state of one node, shared by the files of the core, and the few operations all of them need. Everything is
 * synchronous: between reading (role, term) and using them nothing else can run (R29).
 */
import { isVoter } from "./configuration.js";
import { invariant } from "./errors.js";
import { RaftLog } from "./log.js";
import type { PeerMemory } from "./memory.js";
import type { Progress } from "./progress.js";
import type {
  HardState,
  LogIndex,
  Message,
  Millis,
  NodeId,
  RaftOptions,
  ReadState,
  Ready,
  Role,
  Snapshot,
  Term,
} from "./types.js";

export type MessageOf<Type extends Message["type"]> = Extract<Message, { type: Type }>;

/** The Ready that the caller is working on, and what its completion proves. */
export interface InFlight {
  readonly ready: Ready;
  readonly lastIndex: LogIndex;
  readonly lastTerm: Term;
  readonly snapshot: Snapshot | null;
  readonly appliedTo: LogIndex;
  /** The term in which this node's vote for itself becomes durable; 0 when it does not carry one (R4). */
  readonly selfVoteTerm: Term;
}

export interface PendingRead {
  readonly sequence: number;
  /** 0 when asked here, else the follower that forwarded it, with the id it gave. */
  readonly from: NodeId;
  readonly requestId: number;
  /** 0 while the term has not committed anything yet (R54). */
  index: LogIndex;
}

export class NodeState {
  readonly id: NodeId;
  readonly options: RaftOptions;
  readonly log: RaftLog;

  term: Term;
  vote: NodeId | 0;
  role: Role = "follower";
  leader: NodeId | 0 = 0;
  /** Last time given by the caller; meaningless until `started`. */
  now: Millis = 0;
  started = false;
  /** As the caller last got it. */
  emitted: HardState;

  // Elections.
  electionTimeoutMs: Millis = 0;
  electionDeadlineMs: Millis = 0;
  leaderContactMs: Millis = 0;
  stickinessWaived = false;
  /** Election timers still to be drawn short because the leader's connection ended. */
  shortTimersLeft = 0;
  readonly votes = new Map<NodeId, boolean>();
  selfVotePending = false;
  grantedElapsedMs: Millis = Number.MAX_SAFE_INTEGER;
  /** Local time of the last leader message this node acknowledged (reference 4.2); unused while it leads. */
  lastAckMs: Millis = 0;
  startedAtMs: Millis = 0;
  /** Not 0: a peer knows this node removed as of this index (R38). */
  removedAt: LogIndex = 0;
  /** What this node knows of its peers' disks, whatever its role (R51). */
  readonly remembered = new Map<NodeId, PeerMemory>();

  // Leading.
  /** Ascending by id, without this node. */
  peers: Progress[] = [];
  readonly peerById = new Map<NodeId, Progress>();
  termStartIndex: LogIndex = 0;
  electedAtMs: Millis = 0;
  electionElapsedMs: Millis = 0;
  heartbeatDeadlineMs: Millis = 0;
  /** Heartbeats wait for the next Ready: no more of them before it (R28). */
  heartbeatQueued = false;
  uncommittedBytes = 0;
  /** Proposals since the last Ready: they go out together with it, in one append a follower. */
  appendsDue = false;
  transferTarget: NodeId | 0 = 0;
  transferDeadlineMs: Millis = 0;
  transferSent = false;

  // Reads.
  readSequence = 0;
  pendingReads: PendingRead[] = [];
  /** Follower: requests that were forwarded to the leader of this term. */
  readonly forwardedReads = new Set<number>();
  nextRequestId = 0;

  // Outputs.
  messages: Message[] = [];
  messagesAfterPersist: Message[] = [];
  readStates: ReadState[] = [];
  inFlight: InFlight | null = null;
  /** When the Ready in flight was handed out. */
  inFlightSinceMs: Millis = 0;

  constructor(options: RaftOptions) {
    const { hardState } = options.initial;
    this.id = options.id;
    this.options = options;
    this.log = new RaftLog(options.initial);
    this.term = hardState.term;
    this.vote = hardState.vote;
    this.emitted = { term: this.term, vote: this.vote, commit: this.log.commit };
  }

  /** Takes over the caller's time. */
  observe(now: Millis): void {
    invariant(Number.isFinite(now), `time ${now} is not a number`);
    if (this.started) {
      invariant(now >= this.now, `time went back from ${this.now} to ${now}`);
      this.now = now;
      return;
    }
    // Promises of an earlier life are unknown: assume that one was given just now (R57).
    this.started = true;
    this.now = now;
    this.startedAtMs = now;
    this.lastAckMs = now;
    this.drawElectionTimer();
  }

  /** Draws a new randomised timeout in [E, 2E) (R25), or a short one after the leader's connection ended. */
  drawElectionTimer(): void {
    const { electionTimeoutMs, heartbeatIntervalMs, random } = this.options;
    this.electionTimeoutMs = electionTimeoutMs + Math.floor(random() * electionTimeoutMs);
    let wait = this.electionTimeoutMs;
    if (this.shortTimersLeft > 0) {
      this.shortTimersLeft -= 1;
      // Bounded in number: should elections take longer than this, the next timers are full ones again.
      wait = Math.min(wait, heartbeatIntervalMs + Math.floor(random() * 2 * heartbeatIntervalMs));
    }
    this.electionDeadlineMs = this.now + wait;
  }

  /** Whole milliseconds since this node acknowledged a leader's message; rounded down, which is the safe side. */
  elapsedSinceAck(): Millis {
    return this.role === "leader" ? 0 : Math.floor(this.now - this.lastAckMs);
  }

  /** The no-op of this leader's term is committed. */
  termCommitted(): boolean {
    return this.role === "leader" && this.log.commit >= this.termStartIndex;
  }

  /**
   * Whether this node may campaign, by whatever path (R26): a voter in its latest configuration; or, while that one is
   * not known committed, a voter in the committed one (the new one may never have left the dead leader).
   */
  promotable(): boolean {
    const { log } = this;
    if (log.unstableSnapshot !== null || this.removedAt !== 0) return false;
    if (isVoter(log.config, this.id)) return true;
    return log.configIndex > log.commit && isVoter(log.committedConfig, this.id);
  }

  send(message: Message): void {
    this.messages.push(message);
  }

  /** For what may leave only when everything decided so far is durable (R1). */
  sendAfterPersist(message: Message): void {
    this.messagesAfterPersist.push(message);
  }
}
