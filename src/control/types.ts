/**
 * The vocabulary of the control plane: what the Raft log carries, what nodes tell each other beside Raft, and what the
 * surfaces (SQL, CLI, HTTP) show. Plain data only; every type here crosses a process or network border as JSON.
 */
import type { LogIndex, Millis, NodeId, Term } from "../raft/types.js";

/** A WAL position in PostgreSQL's notation, e.g. "0/3000148". Compare with `compareLsn`, never as text. */
export type Lsn = string;

/**
 * Fencing token: (Raft term, log index) of the committed `begin` entry that starts a promotion. Ordered
 * lexicographically, shown as "term.index".
 */
export interface Token {
  readonly term: Term;
  readonly index: LogIndex;
}

export interface Tags {
  /** Never promoted. */
  readonly nofailover: boolean;
  /** Breaks exact ties of (token, LSN) only; higher wins. Default 100. */
  readonly failoverPriority: number;
  readonly nosync: boolean;
  readonly noloadbalance: boolean;
}

/** A member of the cluster. `id` is the Raft id; voters and learners are told apart by the Raft configuration. */
export interface Member {
  readonly id: NodeId;
  /** The operator's stable name (pg_replica.node_id). */
  readonly name: string;
  /** Random id of the state directory; a wiped disk comes back with another one and gets a new Raft id. */
  readonly incarnation: string;
  /** host:port of the peer transport. */
  readonly address: string;
  /** libpq connection string by which the others reach this PostgreSQL server. */
  readonly dsn: string;
  /** host:port of the HTTP endpoint, or null when it is off. */
  readonly httpAddress: string | null;
  readonly kind: "data" | "witness";
  readonly tags: Tags;
}

/** One promotion, kept for ever (bounded by compaction of ancestors that no member can still be on). */
export interface Promotion {
  readonly token: Token;
  /** Token of the last marker in the WAL that the promoted node had: whose history it continues. Null for the first. */
  readonly parent: Token | null;
  readonly holder: NodeId;
  /** Known once the marker is written (`marked`): the new timeline and the LSN at which it leaves the parent's history. */
  readonly timeline: number | null;
  readonly forkLsn: Lsn | null;
}

/** Where the failover machine stands (docs/protocol.md has the table). */
export type Phase =
  | { readonly kind: "empty" }
  | { readonly kind: "steady" }
  | {
      readonly kind: "recruit";
      /** The token that is being replaced; null at bootstrap. */
      readonly from: Token | null;
      readonly reason: FailoverReason;
      /** Operator's choice; null: the most advanced node. */
      readonly target: NodeId | null;
      /** Switchover: the shutdown checkpoint's end. Nodes wait (with a deadline) to replay it before they pledge. */
      readonly waitLsn: Lsn | null;
      readonly allowDataLoss: boolean;
    }
  | { readonly kind: "promoted"; readonly holder: NodeId }
  | { readonly kind: "granted"; readonly holder: NodeId };

export type FailoverReason =
  | "bootstrap"
  | "lease-expired"
  | "released"
  | "switchover"
  | "operator"
  | "open-timeout"
  | "not-renewed";

export interface HistoryEntry {
  readonly index: LogIndex;
  /** Wall clock of the proposer, for people only. */
  readonly atMs: Millis;
  readonly kind: string;
  readonly token: Token | null;
  readonly node: string | null;
  /** A sentence for the operator. */
  readonly text: string;
}

/** A set of data nodes, the primary among them, and how many beside the primary must have flushed a commit. */
export interface SyncSet {
  /** Raft ids in ascending order: a wiped disk is another member. */
  readonly members: readonly NodeId[];
  /** k. Zero only for a set of one. */
  readonly acks: number;
}

/** What a primary has in force as its list of synchronous standbys: `ANY acks (members)`. Itself is not in it. */
export interface SyncList {
  readonly members: readonly NodeId[];
  /** Zero: no list at all. */
  readonly acks: number;
}

/**
 * Quorum mode: what elections must read so that no acknowledged commit is lost. (members, acks) is what they count
 * with: N - k positions of `members` are enough. While a change is under way it is the union of the old and the new set
 * with the smaller k, and `target` is where it leads.
 */
export interface Durability {
  /** What the operator asked for. */
  readonly mode: "async" | "quorum";
  /** Grows with every change of this record; the steps of a set change are conditional on it. */
  readonly version: number;
  /** Empty: no set was committed yet, elections go by the rules of asynchronous mode. */
  readonly members: readonly NodeId[];
  readonly acks: number;
  readonly target: SyncSet | null;
  /** Since which token and position of its primary the promise holds without a gap; null: it does not. */
  readonly inForce: { readonly token: Token; readonly lsn: Lsn } | null;
}

export interface ControlState {
  readonly format: 1;
  readonly clusterId: string;
  readonly systemIdentifier: string;
  readonly serverMajor: number;
  /** D of the lease protocol; the committed value counts, not a node's setting. */
  readonly leaseMs: Millis;
  /**
   * The largest D that the holder of `lastGranted` may still be counting with: a holder that has not yet applied a
   * shorter D renews with the longer one. Grants wait for this one; it falls back to `leaseMs` at the next grant.
   */
  readonly leaseCeilingMs: Millis;
  readonly nextNodeId: NodeId;
  readonly members: readonly Member[];
  readonly phase: Phase;
  /** Token of the promotion in progress or in force; null only when empty. */
  readonly current: Token | null;
  readonly promotions: readonly Promotion[];
  readonly lastGranted: { readonly token: Token; readonly holder: NodeId } | null;
  /** The newest token whose holder has released it: its hold need not be waited for. */
  readonly released: { readonly token: Token; readonly shutdownLsn: Lsn | null } | null;
  /** A planned switchover in progress: the holder of `from` checkpoints, fences, stops and releases. */
  readonly handover: { readonly from: Token; readonly target: NodeId | null; readonly atIndex: LogIndex } | null;
  readonly paused: boolean;
  readonly durability: Durability;
  readonly history: readonly HistoryEntry[];
}

/** What a node tells the leader in answer to a recruit, durable pledge given. */
export type Report =
  | {
      readonly kind: "position";
      /** Token of the last marker replayed; null on a node that has never replayed one. */
      readonly token: Token | null;
      readonly lsn: Lsn;
      readonly timeline: number;
      /** Its receiver was connected to the current promotion's primary at some time since the server started. */
      readonly followedSinceStart: boolean;
      /** The newest position of the primary that this node has heard of, for the lag limit. */
      readonly lastPrimaryLsn: Lsn | null;
      /** This node was primary under the replaced token and still has everything it acknowledged. */
      readonly wasHolder: boolean;
    }
  /**
   * A rejoin has begun to destroy local WAL and is not consistent past its source's marker yet. Durable on the node from
   * before the first destructive step; such a node never counts as a position.
   */
  | { readonly kind: "rejoining" }
  | { readonly kind: "unable"; readonly why: string };

/** Commands in the Raft log (JSON in a data entry). Each is a compare-and-set at apply. */
export type Command = { readonly atMs: Millis; readonly by: string } & CommandBody;

export type CommandBody =
  | {
      readonly type: "bootstrap";
      readonly clusterId: string;
      readonly systemIdentifier: string;
      readonly serverMajor: number;
      readonly leaseMs: Millis;
      readonly member: Omit<Member, "id">;
    }
  | {
      readonly type: "addMember";
      /** Null for a witness, which has no server. */
      readonly systemIdentifier: string | null;
      /** Major version of the member's server; null or absent: a witness. */
      readonly serverMajor?: number | null;
      readonly member: Omit<Member, "id">;
    }
  | { readonly type: "updateMember"; readonly member: Member }
  | { readonly type: "removeMember"; readonly id: NodeId }
  | {
      readonly type: "begin";
      readonly from: Token | null;
      readonly reason: FailoverReason;
      readonly target: NodeId | null;
      readonly waitLsn: Lsn | null;
      readonly allowDataLoss: boolean;
      readonly text: string;
    }
  | {
      readonly type: "promote";
      readonly token: Token;
      readonly node: NodeId;
      /** Token of the chosen node's position. */
      readonly parent: Token | null;
      readonly lsn: Lsn;
      readonly text: string;
    }
  | { readonly type: "grant"; readonly token: Token }
  /** The promoted node has written its marker: its fork is known, and others may follow it before it is open. */
  | { readonly type: "marked"; readonly token: Token; readonly timeline: number; readonly forkLsn: Lsn }
  | { readonly type: "opened"; readonly token: Token; readonly timeline: number; readonly forkLsn: Lsn }
  | { readonly type: "release"; readonly token: Token; readonly shutdownLsn: Lsn | null; readonly text: string }
  | { readonly type: "handover"; readonly from: Token; readonly target: NodeId | null }
  | { readonly type: "cancelHandover"; readonly from: Token; readonly text: string }
  | { readonly type: "pause"; readonly paused: boolean }
  | { readonly type: "settings"; readonly leaseMs: Millis }
  /** An operator's second thought while a recruit is under way. */
  | {
      readonly type: "amendRecruit";
      readonly token: Token;
      readonly target: NodeId | null;
      readonly allowDataLoss: boolean;
      readonly text: string;
    }
  /** Off ends the promise with this entry, before any list is relaxed. On only asks; the promise begins at a settle. */
  | { readonly type: "durabilityMode"; readonly mode: Durability["mode"] }
  /**
   * Step 1 of a set change: from here on elections count with the union and the smaller k. Legal while a primary is
   * granted or open; a change under way is led to the new target.
   */
  | {
      readonly type: "beginSetChange";
      readonly token: Token;
      readonly version: number;
      readonly members: readonly NodeId[];
      readonly acks: number;
      readonly text: string;
    }
  /**
   * Step 3, by the primary: the target's list is in force everywhere in its server, and a record that was written after
   * that, at `lsn`, is flushed by k of the target.
   */
  | { readonly type: "settleSetChange"; readonly token: Token; readonly version: number; readonly lsn: Lsn };

export type Outcome =
  | { readonly ok: true; readonly nodeId?: NodeId; readonly token?: Token }
  | { readonly ok: false; readonly code: string; readonly message: string };

/** What each node says about itself, several times a lease, to every other (LSN gossip). */
export interface Gossip {
  readonly id: NodeId;
  readonly name: string;
  /** Sender's wall clock, for people only. */
  readonly atMs: Millis;
  readonly agentVersion: string;
  readonly role: "primary" | "standby" | "promoting" | "stopped";
  readonly state: ServerState;
  readonly timeline: number | null;
  readonly receiveLsn: Lsn | null;
  readonly replayLsn: Lsn | null;
  /** Primary: current write position. */
  readonly writeLsn: Lsn | null;
  /** Where the oldest WAL that this server still has begins. */
  readonly oldestLsn?: Lsn | null;
  /** Token of the last marker replayed or written. */
  readonly token: Token | null;
  readonly upstream: string | null;
  readonly pendingRestart: boolean;
  readonly applied: LogIndex;
  readonly lease: { readonly token: Token; readonly remainingMs: Millis } | null;
}

export type ServerState =
  | "starting"
  | "running"
  | "streaming"
  | "catching up"
  | "in recovery"
  | "promoting"
  | "stopping"
  | "stopped"
  | "rejoining"
  | "cloning"
  | "unreachable";

/** What one node knows of itself and the cluster; every surface (SQL, CLI, HTTP, metrics) is made from it. */
export interface NodeView {
  readonly clusterId: string | null;
  readonly systemIdentifier: string | null;
  readonly self: {
    readonly id: NodeId;
    readonly name: string;
    readonly role: Gossip["role"];
    readonly state: ServerState;
    readonly raftRole: string;
    readonly term: Term;
    readonly timeline: number | null;
    readonly receiveLsn: Lsn | null;
    readonly replayLsn: Lsn | null;
    readonly flushLsn: Lsn | null;
    readonly lagBytes: number | null;
    readonly lagSeconds: number | null;
    readonly serverVersion: string | null;
    readonly serverVersionNum: number | null;
    readonly postmasterStartTime: string | null;
    readonly pendingRestart: boolean;
    readonly replayPaused: boolean;
    /** Holder only: the lease is live and open, ordinary clients may write. */
    readonly writable: boolean;
    readonly leaseRemainingMs: Millis | null;
    readonly token: Token | null;
    readonly tags: Tags;
    /** Milliseconds since the agent's loop last completed. */
    readonly loopAgeMs: Millis;
  };
  readonly leader: string | null;
  readonly primary: string | null;
  readonly token: Token | null;
  readonly phase: Phase["kind"];
  /** `quorum` only while the promise is in force, whatever was asked for. */
  readonly synchronous: "async" | "quorum";
  readonly paused: boolean;
  /** False when no quorum has confirmed this node's knowledge within a lease. */
  readonly quorum: boolean;
  readonly leaseMs: Millis;
  readonly commit: LogIndex;
  readonly applied: LogIndex;
  readonly members: readonly MemberView[];
  readonly history: readonly HistoryEntry[];
  readonly version: string;
}

export interface MemberView {
  readonly id: NodeId;
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly dsn: string;
  readonly apiUrl: string | null;
  readonly role: "primary" | "standby" | "promoting" | "witness" | "stopped";
  readonly raftRole: "leader" | "voter" | "learner" | "none";
  readonly state: ServerState;
  readonly timeline: number | null;
  readonly lsn: Lsn | null;
  readonly lagBytes: number | null;
  readonly syncState: "async" | "sync" | "quorum" | null;
  readonly tags: Tags;
  /** Milliseconds since this node was last heard of (0 for the answering node itself); null: never. */
  readonly lastSeenMs: Millis | null;
  readonly pendingRestart: boolean;
}

/** Settings of one node, as the supervisor hands them over (names follow the GUCs). */
export interface AgentConfig {
  readonly nodeId: string;
  readonly peers: ReadonlyArray<{ readonly name: string; readonly host: string; readonly port: number }>;
  readonly raftPort: number;
  readonly listenAddresses: string;
  readonly httpPort: number;
  readonly bootstrap: boolean;
  readonly synchronous: "async" | "quorum";
  readonly failoverTimeoutMs: Millis;
  readonly advertiseDsn: string;
  readonly stateDir: string;
  readonly tags: Tags;
  readonly secretFile: string;
  readonly tlsCertFile: string;
  readonly tlsKeyFile: string;
  readonly tlsCaFile: string;
  readonly logLevel: "debug" | "info" | "warning" | "error";
  /** Bytes; -1: no limit. */
  readonly maximumLagOnFailover: number;
  readonly onRoleChange: string;
  readonly prePromote: string;
  /** Facts about the server the supervisor runs in. */
  readonly server: {
    readonly pgdata: string;
    readonly bindir: string;
    readonly port: number;
    readonly socketDirectory: string;
    readonly versionNum: number;
    readonly systemIdentifier: string;
    readonly postmasterPid: number;
    readonly dataChecksums: boolean;
    readonly configFile: string;
  };
  /** Opens the marker session past the fence; never logged. */
  readonly markerKey: string;
}
