/**
 * Inputs and outputs of the two decision functions of the control plane. Both are pure: `decideLeader` (failover.ts)
 * says what the Raft leader should propose next, `decideNode` (follow.ts) says what a node should do to its local
 * PostgreSQL to converge on the committed state.
 */
import type { ConfChange, LogIndex, Millis, NodeId, Term } from "../raft/types.js";
import type { GrantAnswer } from "./lease.js";
import type { CommandBody, ControlState, Gossip, Lsn, Member, Report, SyncList, Token } from "./types.js";

export interface LeaderInput {
  readonly now: Millis;
  readonly selfId: NodeId;
  readonly state: ControlState;
  readonly raft: {
    readonly term: Term;
    /** Decisions are made only when this is true and everything committed is applied. */
    readonly termCommitted: boolean;
    readonly electedAtMs: Millis;
    readonly electionElapsedMs: Millis;
    readonly lastIndex: LogIndex;
    readonly voters: readonly NodeId[];
    readonly votersOutgoing: readonly NodeId[];
    readonly learners: readonly NodeId[];
    readonly progress: ReadonlyArray<{ readonly id: NodeId; readonly match: LogIndex; readonly recentActive: boolean }>;
  };
  /** When a renewal of the newest granted token was last accepted in this term; null: not yet. */
  readonly lastAcceptedMs: Millis | null;
  /** `LeaseGrantor.suspectAtMs(state)`: from when on silence of the holder starts a failover. */
  readonly suspectAtMs: Millis;
  /** `LeaseGrantor.mayGrant(state, now)`: whether no earlier lease can still be running. */
  readonly mayGrant: GrantAnswer;
  /** Answers to the recruit of `state.current`. */
  readonly reports: ReadonlyMap<NodeId, Report>;
  readonly gossip: ReadonlyMap<NodeId, { readonly receivedAtMs: Millis; readonly gossip: Gossip }>;
  /** When this leader first saw the present phase of the present token (its own clock). */
  readonly phaseSinceMs: Millis;
  /** When this leader first saw `state.handover` of the present token (its own clock); null: none in progress. */
  readonly handoverSinceMs: Millis | null;
  /** When the first report of the present recruit arrived; null: none yet. */
  readonly firstReportMs: Millis | null;
  /** How many promotions in a row were begun again because they did not open. */
  readonly openAttempts: number;
  /** Bytes; -1: no limit. Counts in asynchronous mode only. */
  readonly maximumLagOnFailover: number;
  /** `trackUnsynced`: since when each data node was not heard of as streaming from the current primary. */
  readonly unsyncedSinceMs: ReadonlyMap<NodeId, Millis>;
}

export type LeaderAction =
  /** `next` is proposed right behind it, without waiting for its commit: refused when it is applied, if the first was. */
  | { readonly type: "propose"; readonly command: CommandBody; readonly next?: CommandBody }
  | { readonly type: "confChange"; readonly change: ConfChange; readonly text: string }
  | { readonly type: "transfer"; readonly to: NodeId; readonly text: string }
  /** Nothing to do now; `text` says what is being waited for (empty in the steady state). */
  | { readonly type: "wait"; readonly text: string };

export interface NodeInput {
  readonly now: Millis;
  readonly selfId: NodeId;
  readonly state: ControlState;
  /** Durable node state, parsed; null: never. */
  readonly pledge: Token | null;
  readonly pointedAt: Token | null;
  readonly promotedUnder: Token | null;
  readonly server: {
    readonly reachable: boolean;
    readonly inRecovery: boolean | null;
    readonly timeline: number | null;
    readonly replayLsn: Lsn | null;
    readonly markerToken: Token | null;
    /** Token of the promotion whose primary this standby streams from or tries to, in this life of the server. */
    readonly followingToken: Token | null;
    readonly streaming: boolean;
    /** Following, but not streaming for a while, and the primary no longer has the WAL that comes next here. */
    readonly upstreamLacksWal?: boolean;
    /** Replay of everything local is done (the startup process waits for more WAL). */
    readonly replayDone: boolean;
    /** A rejoin is not complete: local WAL was destroyed, and the node is not consistent past the source's marker yet. */
    readonly rejoining?: boolean;
  };
  /** The list of synchronous standbys that the agent has set in this life of the server. */
  readonly sync: {
    /** In force: the checkpointer and every walsender have acknowledged it. Null: none of ours, or not known yet. */
    readonly list: SyncList | null;
    /**
     * Position of a record that was written after `list` was in force and is flushed by `list.acks` of its members (for
     * a list of none: flushed here). Null: not yet. Forgotten whenever the list is set anew.
     */
    readonly provenLsn: Lsn | null;
  };
  /** The lease word as the supervisor last reported it. */
  readonly lease: { readonly token: Token | null; readonly live: boolean; readonly open: boolean };
  /** The pledge for this token is durable and proven in this life of the agent, and its report is made. */
  readonly pledgedFor: Token | null;
}

export type NodeAction =
  | { readonly type: "pledge"; readonly token: Token; readonly waitLsn: Lsn | null; readonly text: string }
  /**
   * Renew under the token until the lease is live and promote. Without `list` (asynchronous mode) go on: write the
   * marker, open, say `opened`. With one: set it before the promotion and stop there; the steps to the opening are
   * actions of their own, since the list may have to change between them. Idempotent.
   */
  | {
      readonly type: "promote";
      readonly token: Token;
      readonly parent: Token | null;
      readonly list: SyncList | null;
      readonly text: string;
    }
  /** Primary: set this list, reload, and wait until the checkpointer and all walsenders have acknowledged it. */
  | { readonly type: "setSyncList"; readonly token: Token; readonly list: SyncList; readonly text: string }
  /** Write the marker unless it is there, by a commit that waits for nobody, and propose `marked`. */
  | { readonly type: "mark"; readonly token: Token; readonly parent: Token | null; readonly text: string }
  /** Write a record now and see it flushed by `list.acks` of `list.members`. May take long; ends when asked for else. */
  | { readonly type: "proveSyncList"; readonly token: Token; readonly list: SyncList; readonly text: string }
  /** Propose `settleSetChange`. */
  | {
      readonly type: "settle";
      readonly token: Token;
      readonly version: number;
      readonly lsn: Lsn;
      readonly text: string;
    }
  /** Open the lease word and propose `opened`. */
  | {
      readonly type: "open";
      readonly token: Token;
      readonly timeline: number;
      readonly forkLsn: Lsn;
      readonly text: string;
    }
  | { readonly type: "follow"; readonly token: Token; readonly primary: Member; readonly text: string }
  | {
      readonly type: "rejoin";
      readonly token: Token;
      readonly primary: Member;
      readonly method: "rewind" | "rebuild";
      readonly timeline: number;
      readonly text: string;
    }
  /** Writable or not, this server must not be out of recovery: expire the word and stop it. */
  | { readonly type: "demote"; readonly text: string }
  /** This node holds the newest granted token but can not go on with it. */
  | { readonly type: "release"; readonly token: Token; readonly text: string }
  /** Checkpoint, expire the word, fast stop, release with the shutdown checkpoint's end. */
  | { readonly type: "handover"; readonly token: Token; readonly text: string }
  | { readonly type: "none"; readonly text: string };
