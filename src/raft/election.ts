/** Elections: timers, pre-vote, votes, stickiness (paper 5.2, 5.4.1; dissertation 4.2.3, 9.6). */
import { isVoter, membersOf } from "./configuration.js";
import { memoryOf } from "./memory.js";
import { tallyVotes } from "./quorum.js";
import { becomeCandidate, becomeFollower, becomeLeader, becomePreCandidate } from "./roles.js";
import type { MessageOf, NodeState } from "./state.js";
import type { LogIndex, NodeId } from "./types.js";

/** The election timer ran out. */
export function electionTimeout(s: NodeState): void {
  if (s.promotable()) {
    preCampaign(s);
    return;
  }
  s.leader = 0;
  s.forwardedReads.clear();
  s.drawElectionTimer();
}

export function preCampaign(s: NodeState): void {
  becomePreCandidate(s);
  for (const to of votersBesides(s)) {
    s.send({
      type: "PreVote",
      from: s.id,
      to,
      term: s.term + 1,
      lastIndex: s.log.lastIndex,
      lastTerm: s.log.lastTerm,
      ...memoryOf(s, to),
    });
  }
  countVotes(s);
}

/** Campaigns in the next term; `transfer` when the leader itself asked for it. */
export function campaign(s: NodeState, transfer: boolean): void {
  becomeCandidate(s);
  // A request says how long this log is. Were part of it lost in a crash, the grant must not outlive it: then it waits.
  const durable = s.log.stable === s.log.lastIndex;
  for (const to of votersBesides(s)) {
    const request: MessageOf<"RequestVote"> = {
      type: "RequestVote",
      from: s.id,
      to,
      term: s.term,
      lastIndex: s.log.lastIndex,
      lastTerm: s.log.lastTerm,
      transfer,
      ...memoryOf(s, to),
    };
    if (durable) s.send(request);
    else s.sendAfterPersist(request);
  }
}

/** This node's vote for itself became durable (R4); one of an earlier term never gets here. */
export function countSelfVote(s: NodeState): void {
  s.selfVotePending = false;
  s.votes.set(s.id, true);
  countVotes(s);
}

/**
 * While a live leader was heard within the minimum election timeout, requests of others are not even looked at (R19);
 * waived when that leader's connection ended, or for a candidate that the leader named itself.
 */
export function isSticky(s: NodeState): boolean {
  if (s.role === "leader") return true;
  return s.leader !== 0 && !s.stickinessWaived && s.now - s.leaderContactMs < s.options.electionTimeoutMs;
}

/** This life is young, and a leader may still have to say what the disk must hold (R51). */
export function inRestartGrace(s: NodeState): boolean {
  return s.now - s.startedAtMs < (s.options.restartGraceMs ?? 0);
}

/** To a candidate that is not listened to: nothing, unless it is one that was removed and does not know it (R38). */
export function tellIfRemoved(s: NodeState, m: MessageOf<"PreVote"> | MessageOf<"RequestVote">): void {
  const told = removalOf(s, m.from);
  if (told.removedAt === undefined) return;
  const base = { from: s.id, to: m.from, term: s.term, granted: false, ...told };
  if (m.type === "PreVote") s.sendAfterPersist({ type: "PreVoteResponse", ...base });
  else s.sendAfterPersist({ type: "RequestVoteResponse", elapsedMs: s.elapsedSinceAck(), ...base });
}

/** The index of the committed configuration when `id` is in neither that one nor the newest. */
function removalOf(s: NodeState, id: NodeId): { removedAt?: LogIndex } {
  const { index, config } = s.log.configAt(s.log.commit);
  if (index === 0 || config.voters.length === 0) return {};
  return membersOf(config).includes(id) || membersOf(s.log.config).includes(id) ? {} : { removedAt: index };
}

/**
 * A peer says that the configuration committed at `removedAt` lacks this node. The conclusion is this node's own: only if
 * an older one that it knows committed had it in, it was removed, and that for good (R39). Who is in no committed
 * configuration that it knows may be about to become a member.
 */
export function onToldRemoved(s: NodeState, removedAt: LogIndex): void {
  if (removedAt <= s.log.commit || !membersOf(s.log.committedConfig).includes(s.id)) return;
  s.removedAt = Math.max(s.removedAt, removedAt);
  if (s.role === "preCandidate" || s.role === "candidate") becomeFollower(s, s.term, 0);
}

/** The caller has adopted a higher term already. Votes are given whatever the own configuration says (R36). */
export function onRequestVote(s: NodeState, m: MessageOf<"RequestVote">): void {
  const free = s.vote === m.from || (s.vote === 0 && s.leader === 0);
  const granted = m.term === s.term && free && s.log.isUpToDate(m.lastIndex, m.lastTerm);
  if (granted && s.vote === 0) {
    if (s.role !== "follower") becomeFollower(s, s.term, 0);
    s.vote = m.from;
    s.shortTimersLeft = 0;
    s.drawElectionTimer();
  }
  s.sendAfterPersist({
    type: "RequestVoteResponse",
    from: s.id,
    to: m.from,
    term: s.term,
    granted,
    elapsedMs: s.elapsedSinceAck(),
    ...memoryOf(s, m.from),
    ...(granted ? {} : removalOf(s, m.from)),
  });
}

/** A granted answer carries the term that was asked for, a refusal our own (R20). */
export function onPreVote(s: NodeState, m: MessageOf<"PreVote">): void {
  const granted = m.term > s.term && s.log.isUpToDate(m.lastIndex, m.lastTerm);
  const term = granted ? m.term : s.term;
  const told = granted ? {} : removalOf(s, m.from);
  const response = { type: "PreVoteResponse", from: s.id, to: m.from, term, granted } as const;
  s.sendAfterPersist({ ...response, ...memoryOf(s, m.from), ...told });
}

export function onRequestVoteResponse(s: NodeState, m: MessageOf<"RequestVoteResponse">): void {
  if (s.role !== "candidate" || !isVoter(s.log.config, m.from) || s.votes.has(m.from)) return;
  s.votes.set(m.from, m.granted);
  if (m.granted) s.grantedElapsedMs = Math.min(s.grantedElapsedMs, m.elapsedMs);
  countVotes(s);
}

export function onPreVoteResponse(s: NodeState, m: MessageOf<"PreVoteResponse">): void {
  if (s.role !== "preCandidate" || !isVoter(s.log.config, m.from) || s.votes.has(m.from)) return;
  if (m.term !== (m.granted ? s.term + 1 : s.term)) return;
  s.votes.set(m.from, m.granted);
  countVotes(s);
}

function countVotes(s: NodeState): void {
  const result = tallyVotes(s.log.config, s.votes);
  if (result === "lost") becomeFollower(s, s.term, 0);
  else if (result === "won" && s.role === "preCandidate") campaign(s, false);
  // Nobody leads on an own vote that a crash could take back.
  else if (result === "won" && !s.selfVotePending) becomeLeader(s);
}

function votersBesides(s: NodeState): NodeId[] {
  return membersOf(s.log.config).filter((id) => id !== s.id && isVoter(s.log.config, id));
}
