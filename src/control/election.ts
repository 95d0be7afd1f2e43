/**
 * Who is promoted (async mode): whether enough nodes have reported, and which of them is the best. A report is a frozen
 * position: its node has pledged and follows nobody any more.
 */
import type { Millis, NodeId } from "../raft/types.js";
import type { LeaderInput } from "./decisions.js";
import { compareLsn, lsnDifference } from "./lsn.js";
import { isElectable, majorityOf, memberById, nodeName, showToken } from "./membership.js";
import { compareTokens, tokensEqual } from "./token.js";
import type { FailoverReason, Lsn, Member, Phase, Report, Token } from "./types.js";

export type Recruit = Extract<Phase, { kind: "recruit" }>;
type Position = Extract<Report, { kind: "position" }>;

export interface Candidate {
  readonly member: Member;
  readonly report: Position;
}

export type Election =
  | { readonly ready: true; readonly best: Candidate; readonly text: string }
  | { readonly ready: false; readonly why: string };

/** How long a planned step may take before it is given up. */
export function plannedLimitMs(leaseMs: Millis): Millis {
  return Math.max(2 * leaseMs, 10_000);
}

/** After a total restart: how long the old primary is waited for, since it alone is sure to have everything. */
export function holderWaitMs(leaseMs: Millis): Millis {
  return Math.max(3 * leaseMs, 10_000);
}

function graceMs(leaseMs: Millis): Millis {
  return Math.min(leaseMs / 10, 200);
}

export function elect(input: LeaderInput, recruit: Recruit): Election {
  const missing = whatIsMissing(input, recruit);
  if (missing !== null) return { ready: false, why: missing };
  return choose(input, recruit);
}

/** The voters that hold data; a learner's data is not trusted yet, a witness has none. */
export function dataVoters(input: LeaderInput): readonly Member[] {
  const { voters, votersOutgoing } = input.raft;
  return input.state.members.filter(
    ({ id, kind }) => kind === "data" && (voters.includes(id) || votersOutgoing.includes(id)),
  );
}

export function isActive(input: LeaderInput, id: NodeId): boolean {
  return id === input.selfId || input.raft.progress.some((one) => one.id === id && one.recentActive);
}

/** Positions needed so that, with the witnesses, a majority of all voters has spoken: r = majority - others. */
function neededReports(input: LeaderInput): number {
  const of = (voters: readonly NodeId[]) => {
    if (voters.length === 0) return 0;
    const data = voters.filter((id) => memberById(input.state, id)?.kind === "data").length;
    return majorityOf(voters.length) - (voters.length - data);
  };
  return Math.max(1, of(input.raft.voters), of(input.raft.votersOutgoing));
}

function positions(input: LeaderInput): readonly Candidate[] {
  return dataVoters(input).flatMap((member) => {
    const report = input.reports.get(member.id);
    return report?.kind === "position" ? [{ member, report }] : [];
  });
}

function isIntactHolder(input: LeaderInput, { member, report }: Candidate): boolean {
  return report.wasHolder || input.state.lastGranted?.holder === member.id;
}

/** Why no choice can be made yet, in words that name the nodes; null: the reports are sufficient. */
function whatIsMissing(input: LeaderInput, recruit: Recruit): string | null {
  const found = positions(input);
  const waitedMs = input.now - input.phaseSinceMs;
  if (found.length === 0) return `no data node has reported its position yet; waiting for ${absent(input)}`;
  const hasHolder = found.some((candidate) => isIntactHolder(input, candidate));
  return (
    tooFew(input, found, hasHolder, waitedMs) ??
    holderAfterRestart(input, recruit, found, hasHolder, waitedMs) ??
    stragglers(input) ??
    plannedTarget(input, recruit, waitedMs)
  );
}

function tooFew(input: LeaderInput, found: readonly Candidate[], hasHolder: boolean, waitedMs: Millis): string | null {
  if (hasHolder) return null;
  const needed = neededReports(input);
  const others = dataVoters(input).filter(({ id }) => {
    const kind = input.reports.get(id)?.kind;
    // A server that is down may be back in a moment with more than the others have; it is not waited for for ever.
    return kind === "rejoining" || (kind === "unable" && waitedMs > holderWaitMs(input.state.leaseMs));
  });
  const answered = found.length + others.length;
  return answered >= needed
    ? null
    : `${answered} of ${needed} needed data nodes have answered; waiting for ${absent(input)}`;
}

function holderAfterRestart(
  input: LeaderInput,
  recruit: Recruit,
  found: readonly Candidate[],
  hasHolder: boolean,
  waitedMs: Millis,
): string | null {
  const { lastGranted, leaseMs } = input.state;
  if (lastGranted === null || hasHolder || recruit.reason === "switchover") return null;
  if (found.some(({ report }) => report.followedSinceStart)) return null;
  if (memberById(input.state, lastGranted.holder) === undefined) return null;
  if (input.reports.get(lastGranted.holder)?.kind === "rejoining") return null;
  if (waitedMs > holderWaitMs(leaseMs)) return null;
  return `every data node was restarted; waiting for ${nodeName(input.state, lastGranted.holder)}, the last primary`;
}

function stragglers(input: LeaderInput): string | null {
  const silent = dataVoters(input).filter(({ id }) => isActive(input, id) && !input.reports.has(id));
  if (silent.length === 0 || input.firstReportMs === null) return null;
  if (input.now - input.firstReportMs >= graceMs(input.state.leaseMs)) return null;
  return `waiting a moment for ${names(silent)}`;
}

function plannedTarget(input: LeaderInput, recruit: Recruit, waitedMs: Millis): string | null {
  const target = recruit.target === null ? undefined : memberById(input.state, recruit.target);
  if (target === undefined || input.reports.get(target.id)?.kind === "position") return null;
  // Begun because the old primary was restarted while paused: as long as that lasts, nobody else is promoted.
  if (input.state.paused && recruit.reason === "released") {
    return `automatic failover is paused; waiting for ${target.name}, the last primary`;
  }
  if (recruit.reason !== "switchover" || waitedMs > plannedLimitMs(input.state.leaseMs)) return null;
  if (!isElectable(target) || !isActive(input, target.id) || input.reports.has(target.id)) return null;
  return `waiting for ${target.name}, the target of the switchover`;
}

function choose(input: LeaderInput, recruit: Recruit): Election {
  const electable = positions(input).filter(({ member }) => isElectable(member));
  const waitedMs = input.now - input.phaseSinceMs;
  if (electable.length === 0) return { ready: false, why: "every data node that reported is tagged nofailover" };
  const complete = electable.filter(({ report }) => hasReached(report, recruit.waitLsn));
  if (complete.length === 0 && waitedMs <= holderWaitMs(input.state.leaseMs)) {
    return { ready: false, why: `no node has replayed ${recruit.waitLsn}, where the old primary shut down` };
  }
  const eligible = complete.length > 0 ? complete : electable;
  const best = preferred(input, recruit, eligible);
  const lag = judgeLag(input, recruit, best);
  if (lag.tooFar && !recruit.allowDataLoss) return { ready: false, why: lag.text };
  return { ready: true, best, text: describeChoice(input, recruit, best, lag.text) };
}

function hasReached(report: Position, waitLsn: Lsn | null): boolean {
  return waitLsn === null || compareLsn(report.lsn, waitLsn) >= 0;
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
  const best = ranked[0] as Candidate;
  const target = ranked.find(({ member }) => member.id === recruit.target);
  if (target === undefined) return best;
  return recruit.allowDataLoss || comparePositions(target.report, best.report) === 0 ? target : best;
}

/** Among equals, another node than the one that was just promoted in vain. */
function holderThatNeverOpened(input: LeaderInput, recruit: Recruit): NodeId | null {
  const last = input.state.promotions.find(({ token }) => tokensEqual(token, recruit.from));
  return last !== undefined && last.forkLsn === null ? last.holder : null;
}

/** (token of the last marker, LSN); no marker is older than any. */
export function comparePositions(a: Position, b: Position): number {
  const byToken = compareMarkers(a.token, b.token);
  return byToken !== 0 ? byToken : compareLsn(a.lsn, b.lsn);
}

function compareMarkers(a: Token | null, b: Token | null): number {
  if (a === null || b === null) return Number(a !== null) - Number(b !== null);
  return compareTokens(a, b);
}

function judgeLag(input: LeaderInput, recruit: Recruit, best: Candidate): { tooFar: boolean; text: string } {
  if (recruit.reason === "bootstrap" || isIntactHolder(input, best)) return { tooFar: false, text: "" };
  const known = lastPrimaryPosition(input, recruit);
  if (known === null) return { tooFar: false, text: "the last position of the old primary is not known" };
  const lag = Math.max(0, lsnDifference(known, best.report.lsn));
  const limit = input.maximumLagOnFailover;
  const tooFar = limit >= 0 && lag > limit;
  if (!tooFar) return { tooFar, text: lag === 0 ? "" : `${lag} bytes behind the old primary's last known position` };
  const text =
    `the best node, ${best.member.name}, is ${lag} bytes behind the old primary's last known position ${known}, ` +
    `more than pg_replica.maximum_lag_on_failover (${limit}) allows`;
  return { tooFar, text };
}

function lastPrimaryPosition(input: LeaderInput, recruit: Recruit): Lsn | null {
  const holder = input.state.lastGranted?.holder;
  const gossiped = holder === undefined ? null : (input.gossip.get(holder)?.gossip.writeLsn ?? null);
  const known = positions(input).map(({ report }) => report.lastPrimaryLsn);
  return [recruit.waitLsn, gossiped, ...known].reduce(
    (best, lsn) => (lsn !== null && (best === null || compareLsn(lsn, best) > 0) ? lsn : best),
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

function describeChoice(input: LeaderInput, recruit: Recruit, { member, report }: Candidate, lag: string): string {
  const others = input.state.members.length === 1 ? "the only node" : `the best of ${positions(input).length} reports`;
  const target =
    recruit.target !== null && recruit.target !== member.id ? memberById(input.state, recruit.target) : null;
  const notes = [
    `${others} at (${showToken(report.token)}, ${report.lsn})`,
    ...(lag === "" ? [] : [lag]),
    ...(target ? [`${target.name}, which was asked for, has not got everything`] : []),
  ];
  return `Node ${member.name} is promoted because ${reasonTexts[recruit.reason]}: ${notes.join("; ")}.`;
}

function absent(input: LeaderInput): string {
  const missing = dataVoters(input).flatMap((member) => {
    const report = input.reports.get(member.id);
    if (report === undefined) return [member.name];
    if (report.kind === "unable") return [`${member.name} (${report.why})`];
    return report.kind === "rejoining" ? [`${member.name} (rejoining)`] : [];
  });
  return missing.length === 0 ? "other nodes" : missing.join(", ");
}

function names(members: readonly Member[]): string {
  return members.map(({ name }) => name).join(", ");
}
