/**
 * The bug zoo: known ways to get consensus or the lease wrong, each put around the sound core from outside. A checker
 * that never saw a bug proves nothing; these show that it sees the ones the field has had.
 */
import { createRaftNode } from "../src/raft/index.js";
import type { Message, RaftNode, RaftOptions, Ready } from "../src/raft/types.js";
import { type LeaseFaults, soundLease } from "./lease-agent.js";
import { type Faults, sound } from "./world.js";

export interface Mutant {
  readonly name: string;
  /** What is wrong, in one sentence. */
  readonly text: string;
  readonly faults: Faults;
  /** Where the tests begin to hunt it: for rare ones shortly before a seed that killed it. */
  readonly seed: number;
}

const usualSeed = 20_000;

interface Overrides {
  readonly step?: (core: RaftNode, message: Message, now: number) => void;
  readonly outgoing?: (core: RaftNode, message: Message) => Message;
  readonly status?: (status: ReturnType<RaftNode["status"]>) => ReturnType<RaftNode["status"]>;
}

/** A node that does all that `core` does, but for the overrides. */
function around(core: RaftNode, { step, outgoing, status }: Overrides): RaftNode {
  const originals = new WeakMap<Ready, Ready>();
  const ready = (): Ready => {
    const original = core.ready();
    if (outgoing === undefined) return original;
    const altered: Ready = {
      ...original,
      messages: original.messages.map((message) => outgoing(core, message)),
      messagesAfterPersist: original.messagesAfterPersist.map((message) => outgoing(core, message)),
    };
    originals.set(altered, original);
    return altered;
  };
  return {
    tick: (now) => core.tick(now),
    step: (message, now) => (step === undefined ? core.step(message, now) : step(core, message, now)),
    propose: (data, now) => core.propose(data, now),
    proposeConfChange: (change, now) => core.proposeConfChange(change, now),
    readIndex: (now) => core.readIndex(now),
    transferLeadership: (to, now) => core.transferLeadership(to, now),
    campaign: (now) => core.campaign(now),
    reportUnreachable: (peer) => core.reportUnreachable(peer),
    reportSnapshot: (peer, outcome) => core.reportSnapshot(peer, outcome),
    hasReady: () => core.hasReady(),
    ready,
    advance: (done) => core.advance(originals.get(done) ?? done),
    compact: (upTo, data) => core.compact(upTo, data),
    status: () => (status === undefined ? core.status() : status(core.status())),
  };
}

function core(name: string, text: string, overrides: () => Overrides, seed = usualSeed): Mutant {
  const createNode = (options: RaftOptions): RaftNode => around(createRaftNode(options), overrides());
  return { name, text, seed, faults: { ...sound, createNode } };
}

function lease(name: string, text: string, broken: Partial<LeaseFaults>): Mutant {
  return { name, text, seed: usualSeed, faults: { ...sound, lease: { ...soundLease, ...broken } } };
}

function early(name: string, text: string, sendBeforeSync: (message: Message) => boolean): Mutant {
  return { name, text, seed: usualSeed, faults: { ...sound, sendBeforeSync } };
}

/** A vote confirms a lease as ended by the largest of the elapsed times in it, and not by the smallest. */
function maximumElapsed(): Overrides {
  let term = 0;
  let maximum = 0;
  return {
    step: (node, message, now) => {
      if (message.type === "RequestVoteResponse" && message.granted) {
        maximum = message.term === term ? Math.max(maximum, message.elapsedMs) : message.elapsedMs;
        term = message.term;
      }
      node.step(message, now);
    },
    status: (status) =>
      status.term === term ? { ...status, electionElapsedMs: Math.max(maximum, status.electionElapsedMs) } : status,
  };
}

/** Every heartbeat response counts for the newest round that was sent. */
function newestRound(): Overrides {
  let newest = 0;
  return {
    outgoing: (_node, message) => {
      if (message.type === "Heartbeat") newest = message.round;
      return message;
    },
    step: (node, message, now) => {
      if (message.type === "HeartbeatResponse") node.step({ ...message, round: newest }, now);
      else node.step(message, now);
    },
  };
}

export const mutants: readonly Mutant[] = [
  early(
    "vote-before-sync",
    "A vote leaves before it is durable.",
    (message) => message.type === "RequestVoteResponse" && message.granted,
  ),
  early(
    "ack-before-sync",
    "Entries are acknowledged before they are durable.",
    (message) => message.type === "AppendEntriesResponse" && message.success,
  ),
  {
    name: "vote-amnesia",
    text: "A restarted node has forgotten for whom it voted.",
    seed: usualSeed,
    faults: {
      ...sound,
      readBack: (state) => ({ ...state, hardState: { ...state.hardState, vote: 0 } }),
    },
  },
  {
    name: "log-amnesia",
    text: "A restarted node has lost the durable end of its log.",
    seed: usualSeed,
    faults: {
      ...sound,
      readBack: (state) => {
        const entries = state.entries.slice(0, -2);
        const lastIndex = state.snapshot.index + entries.length;
        return {
          ...state,
          entries,
          hardState: { ...state.hardState, commit: Math.min(state.hardState.commit, lastIndex) },
        };
      },
    },
  },
  core("vote-for-everybody", "Every vote that is asked for is granted.", () => ({
    outgoing: (node, message) =>
      message.type === "RequestVoteResponse" && message.term === node.status().term
        ? { ...message, granted: true }
        : message,
  })),
  core("any-log-may-lead", "Voters do not compare logs.", () => ({
    step: (node, message, now) => {
      if (message.type !== "RequestVote" && message.type !== "PreVote") node.step(message, now);
      else node.step({ ...message, lastIndex: Number.MAX_SAFE_INTEGER, lastTerm: message.term }, now);
    },
  })),
  core("commit-unproven", "Heartbeats carry the leader's commit index, whatever the follower holds.", () => ({
    outgoing: (node, message) =>
      message.type === "Heartbeat" ? { ...message, commit: node.status().commit } : message,
  })),
  core("old-round-confirms", "Acknowledgements of an older round count for the newest one.", newestRound, 20_940),
  lease("lease-from-receipt", "The lease counts from the answer, and not from the question.", {
    countFromReceipt: true,
  }),
  lease("lease-without-drift", "The grantor waits D, without the factor for clock rates.", { noDriftFactor: true }),
  lease("lease-without-round", "Renewals are confirmed without a quorum round.", { replyWithoutRound: true }),
  lease("lease-without-hold", "A new leader does not wait for leases of its predecessors.", { noHold: true }),
  lease("release-without-stop", "The lease is released while the server still runs.", { releaseWithoutStop: true }),
  core(
    "hold-by-maximum",
    "The hold takes the largest elapsed time of the votes, and not the smallest.",
    maximumElapsed,
    20_740,
  ),
];
