/** Whether enough nodes have reported, in words that name those who have not; null: enough have. */
import type { Millis, NodeId } from "../raft/types.js";
import type { LeaderInput } from "./decisions.js";
import { hasSet, neededPositions } from "./durability.js";
import { majorityOf, memberById, nodeName } from "./membership.js";
import { type Candidate, dataVoters, electors, hasEverything, isActive, type Recruit } from "./positions.js";
import type { Member } from "./types.js";

/** After a total restart: how long the old primary is waited for, since it alone is sure to have everything. */
export function holderWaitMs(leaseMs: Millis): Millis {
  return Math.max(3 * leaseMs, 10_000);
}

/** In quorum mode the positions prove that nothing is lost; the wait only saves rewinds. */
function courtesyMs(leaseMs: Millis): Millis {
  return Math.min(leaseMs, 3000);
}

function graceMs(leaseMs: Millis): Millis {
  return Math.min(leaseMs / 10, 200);
}

export function tooFew(input: LeaderInput, found: readonly Candidate[]): string | null {
  if (hasSet(input.state.durability)) return tooFewOfSet(input, found);
  if (found.length === 0) return `no data node has reported its position yet; waiting for ${absent(input)}`;
  return found.some((candidate) => candidate.report.wasHolder || hasEverything(input, candidate))
    ? null
    : tooFewVoters(input, found);
}

/** |R| >= N - k of the committed set, or somebody who has everything. A node in rejoin has destroyed WAL: it never counts. */
function tooFewOfSet(input: LeaderInput, found: readonly Candidate[]): string | null {
  const { durability, lastGranted } = input.state;
  if (found.some((candidate) => hasEverything(input, candidate))) return null;
  const missing = neededPositions(durability) - found.length;
  if (missing <= 0) return null;
  const alone = lastGranted === null ? "" : `, or ${nodeName(input.state, lastGranted.holder)} alone, the last primary`;
  const set = `the durability set has ${durability.members.length} nodes and ${durability.acks} acknowledgements`;
  return `need ${missing} more of ${absent(input)}${alone} (${set})`;
}

/** Positions needed so that, with the witnesses, a majority of all voters has spoken: r = majority - others. */
function neededVoters(input: LeaderInput): number {
  const of = (voters: readonly NodeId[]) => {
    if (voters.length === 0) return 0;
    const data = voters.filter((id) => memberById(input.state, id)?.kind === "data").length;
    return majorityOf(voters.length) - (voters.length - data);
  };
  return Math.max(1, of(input.raft.voters), of(input.raft.votersOutgoing));
}

function tooFewVoters(input: LeaderInput, found: readonly Candidate[]): string | null {
  const needed = neededVoters(input);
  const waitedMs = input.now - input.phaseSinceMs;
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

export function holderAfterRestart(input: LeaderInput, recruit: Recruit, found: readonly Candidate[]): string | null {
  const { lastGranted, leaseMs, durability } = input.state;
  if (lastGranted === null || recruit.reason === "switchover") return null;
  if (found.some((candidate) => candidate.report.wasHolder || hasEverything(input, candidate))) return null;
  if (found.some(({ report }) => report.followedSinceStart)) return null;
  if (memberById(input.state, lastGranted.holder) === undefined) return null;
  if (input.reports.get(lastGranted.holder)?.kind === "rejoining") return null;
  const limitMs = hasSet(durability) ? courtesyMs(leaseMs) : holderWaitMs(leaseMs);
  if (input.now - input.phaseSinceMs > limitMs) return null;
  return `every data node was restarted; waiting for ${nodeName(input.state, lastGranted.holder)}, the last primary`;
}

export function stragglers(input: LeaderInput, electorate: readonly Member[]): string | null {
  const silent = electorate.filter(({ id }) => isActive(input, id) && !input.reports.has(id));
  if (silent.length === 0 || input.firstReportMs === null) return null;
  if (input.now - input.firstReportMs >= graceMs(input.state.leaseMs)) return null;
  return `waiting a moment for ${silent.map(({ name }) => name).join(", ")}`;
}

/** Who has given no position, and why. Ids of the set that are no members any more are named too. */
export function absent(input: LeaderInput): string {
  const { state } = input;
  const ids = hasSet(state.durability) ? state.durability.members : electors(input).map(({ id }) => id);
  const missing = ids.flatMap((id) => {
    const report = input.reports.get(id);
    const name = nodeName(state, id);
    if (memberById(state, id) === undefined) return [`${name} (removed)`];
    if (report === undefined) return [name];
    if (report.kind === "unable") return [`${name} (${report.why})`];
    return report.kind === "rejoining" ? [`${name} (rejoining)`] : [];
  });
  return missing.length === 0 ? "other nodes" : missing.join(", ");
}
