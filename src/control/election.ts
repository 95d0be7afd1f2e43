/**
 * Who is promoted: whether enough nodes have reported, and which of them is the best. A report is a frozen position: its
 * node has pledged and follows nobody any more.
 */
import type { Millis, NodeId } from "../raft/types.js";
import type { LeaderInput } from "./decisions.js";
import { hasSet } from "./durability.js";
import { compareLsn, lsnDifference } from "./lsn.js";
import { isElectable, memberById, showToken } from "./membership.js";
import {
  type Candidate,
  comparePositions,
  dataVoters,
  electors,
  hasEverything,
  hasReached,
  isActive,
  type Position,
  positionsOf,
  type Recruit,
} from "./positions.js";
import { absent, holderAfterRestart, holderWaitMs, stragglers, tooFew } from "./sufficiency.js";
import { tokensEqual } from "./token.js";
import type { FailoverReason, Lsn, Member } from "./types.js";

export type Election =
  | { readonly ready: true; readonly best: Candidate; readonly text: string }
  | { readonly ready: false; readonly why: string };

/** How long a planned step may take before it is given up. */
export function plannedLimitMs(leaseMs: Millis): Millis {
  return Math.max(2 * leaseMs, 10_000);
}

export function elect(input: LeaderInput, recruit: Recruit): Election {
  const electorate = electors(input);
  const found = positionsOf(input, electorate);
  const missing = tooFew(input, found);
  if (missing !== null) return acceptsLoss(input, recruit) ? electWithLoss(input, recruit, missing) : notYet(missing);
  const why =
    holderAfterRestart(input, recruit, found) ?? stragglers(input, electorate) ?? plannedTarget(input, recruit);
  if (why !== null) return notYet(why);
  return hasSet(input.state.durability) ? chooseOfSet(input, recruit, found) : choose(input, recruit, found);
}

function notYet(why: string): Election {
  return { ready: false, why };
}

/** Only in quorum mode is there a promise that an operator can give up. */
function acceptsLoss(input: LeaderInput, recruit: Recruit): boolean {
  return hasSet(input.state.durability) && recruit.allowDataLoss;
}

/** By the operator's word: the best position that can be had, in the set or not. What may be lost is said in history. */
function electWithLoss(input: LeaderInput, recruit: Recruit, missing: string): Election {
  const inSet = electors(input);
  const everybody = [...inSet, ...dataVoters(input).filter((member) => !inSet.includes(member))];
  const found = positionsOf(input, everybody).filter(({ member }) => isElectable(member));
  if (found.length === 0) return notYet(`nobody that can be promoted has reported; ${missing}`);
  const why = stragglers(input, everybody);
  if (why !== null) return notYet(why);
  const best = preferred(input, recruit, found);
  const loss = `an operator accepted the loss of acknowledged commits that only ${absent(input)} may have`;
  return { ready: true, best, text: describeChoice(input, recruit, best, found.length, loss) };
}

/** The highest position of all, since it alone is sure to hold everything; no lag is too long for that. */
function chooseOfSet(input: LeaderInput, recruit: Recruit, found: readonly Candidate[]): Election {
  const electable = found.filter(({ member }) => isElectable(member));
  const first = best(found);
  const waiting = shutdownNotReplayed(input, recruit, [first]);
  if (waiting !== null) return notYet(waiting);
  if (recruit.allowDataLoss && electable.length > 0) {
    const chosen = preferred(input, recruit, electable);
    const isBehind = comparePositions(chosen.report, first.report) < 0;
    const loss = isBehind ? `an operator accepted the loss of commits that ${first.member.name} has` : "";
    return { ready: true, best: chosen, text: describeChoice(input, recruit, chosen, found.length, loss) };
  }
  const level = electable.filter(({ report }) => comparePositions(report, first.report) === 0);
  if (level.length === 0) {
    return notYet(
      `${first.member.name} has the best position but is tagged nofailover; remove the tag or allow data loss`,
    );
  }
  const chosen = preferred(input, recruit, level);
  return { ready: true, best: chosen, text: describeChoice(input, recruit, chosen, found.length, "") };
}

function best(found: readonly Candidate[]): Candidate {
  return found.reduce((a, b) => (comparePositions(b.report, a.report) > 0 ? b : a));
}

function plannedTarget(input: LeaderInput, recruit: Recruit): string | null {
  const target = recruit.target === null ? undefined : memberById(input.state, recruit.target);
  if (target === undefined || input.reports.get(target.id)?.kind === "position") return null;
  // Begun because the old primary was restarted while paused: as long as that lasts, nobody else is promoted.
  if (input.state.paused && recruit.reason === "released") {
    return `automatic failover is paused; waiting for ${target.name}, the last primary`;
  }
  if (recruit.reason !== "switchover" || input.now - input.phaseSinceMs > plannedLimitMs(input.state.leaseMs)) {
    return null;
  }
  if (!isElectable(target) || !isActive(input, target.id) || input.reports.has(target.id)) return null;
  return `waiting for ${target.name}, the target of the switchover`;
}

function choose(input: LeaderInput, recruit: Recruit, found: readonly Candidate[]): Election {
  const electable = found.filter(({ member }) => isElectable(member));
  if (electable.length === 0) return notYet("every data node that reported is tagged nofailover");
  const waiting = shutdownNotReplayed(input, recruit, electable);
  if (waiting !== null) return notYet(waiting);
  const complete = electable.filter(({ report }) => isComplete(recruit, report));
  const chosen = preferred(input, recruit, complete.length > 0 ? complete : electable);
  const lag = judgeLag(input, recruit, chosen);
  if (lag.tooFar && !recruit.allowDataLoss) return notYet(lag.text);
  return { ready: true, best: chosen, text: describeChoice(input, recruit, chosen, found.length, lag.text) };
}

/** Everything up to the old primary's shutdown checkpoint, in its history: another one's LSN says nothing. */
function isComplete({ waitLsn, from }: Recruit, report: Position): boolean {
  return waitLsn === null || hasReached(report, from, waitLsn);
}

function shutdownNotReplayed(input: LeaderInput, recruit: Recruit, found: readonly Candidate[]): string | null {
  if (found.some(({ report }) => isComplete(recruit, report))) return null;
  if (input.now - input.phaseSinceMs > holderWaitMs(input.state.leaseMs)) return null;
  return `no node has replayed ${recruit.waitLsn}, where the old primary shut down`;
}

function preferred(input: LeaderInput, recruit: Recruit, eligible: readonly Candidate[]): Candidate {
  const unlucky = holderThatNeverOpened(input, recruit);
  const ranked = [...eligible].sort((a, b) => {
    const byPosition = comparePositions(b.report, a.report);
    if (byPosition !== 0) return byPosition;
    const byLuck = Number(a.member.id === unlucky) - Number(b.member.id === unlucky);
    if (byLuck !== 0) return byLuck;
    return b.member.tags.failoverPriority - a.member.tags.failoverPriority || a.member.id - b.member.id;
  });
  const first = ranked[0] as Candidate;
  const target = ranked.find(({ member }) => member.id === recruit.target);
  if (target === undefined) return first;
  return recruit.allowDataLoss || comparePositions(target.report, first.report) === 0 ? target : first;
}

/** Among equals, another node than the one that was just promoted in vain. */
function holderThatNeverOpened(input: LeaderInput, recruit: Recruit): NodeId | null {
  const last = input.state.promotions.find(({ token }) => tokensEqual(token, recruit.from));
  return last !== undefined && last.forkLsn === null ? last.holder : null;
}

function judgeLag(input: LeaderInput, recruit: Recruit, chosen: Candidate): { tooFar: boolean; text: string } {
  if (recruit.reason === "bootstrap" || chosen.report.wasHolder || hasEverything(input, chosen)) {
    return { tooFar: false, text: "" };
  }
  const known = lastPrimaryPosition(input, recruit);
  if (known === null) return { tooFar: false, text: "the last position of the old primary is not known" };
  const lag = Math.max(0, lsnDifference(known, chosen.report.lsn));
  const limit = input.maximumLagOnFailover;
  const tooFar = limit >= 0 && lag > limit;
  if (!tooFar) return { tooFar, text: lag === 0 ? "" : `${lag} bytes behind the old primary's last known position` };
  const text =
    `the best node, ${chosen.member.name}, is ${lag} bytes behind the old primary's last known position ${known}, ` +
    `more than pg_replica.maximum_lag_on_failover (${limit}) allows`;
  return { tooFar, text };
}

function lastPrimaryPosition(input: LeaderInput, recruit: Recruit): Lsn | null {
  const holder = input.state.lastGranted?.holder;
  const gossiped = holder === undefined ? null : (input.gossip.get(holder)?.gossip.writeLsn ?? null);
  const known = positionsOf(input, dataVoters(input)).map(({ report }) => report.lastPrimaryLsn);
  return [recruit.waitLsn, gossiped, ...known].reduce(
    (latest, lsn) => (lsn !== null && (latest === null || compareLsn(lsn, latest) > 0) ? lsn : latest),
    null,
  );
}

const reasonTexts: Readonly<Record<FailoverReason, string>> = {
  bootstrap: "the cluster has no primary yet",
  "lease-expired": "the old primary did not renew its lease",
  released: "the old primary gave its lease back",
  switchover: "a switchover was asked for",
  operator: "an operator asked for a failover",
  "open-timeout": "the last promoted node did not open in time",
  "not-renewed": "the last promoted node could not be reached",
};

function describeChoice(
  input: LeaderInput,
  recruit: Recruit,
  { member, report }: Candidate,
  reports: number,
  remark: string,
): string {
  const others = input.state.members.length === 1 ? "the only node" : `the best of ${reports} reports`;
  const target: Member | undefined | null =
    recruit.target !== null && recruit.target !== member.id ? memberById(input.state, recruit.target) : null;
  const notes = [
    `${others} at (${showToken(report.token)}, ${report.lsn})`,
    ...(remark === "" ? [] : [remark]),
    ...(target ? [`${target.name}, which was asked for, has not got everything`] : []),
  ];
  return `Node ${member.name} is promoted because ${reasonTexts[recruit.reason]}: ${notes.join("; ")}.`;
}
