/** The reports that count in an election, and how positions compare. */
import type { NodeId } from "../raft/types.js";
import type { LeaderInput } from "./decisions.js";
import { hasSet } from "./durability.js";
import { compareLsn } from "./lsn.js";
import { compareTokens, tokensEqual } from "./token.js";
import type { Lsn, Member, Phase, Report, Token } from "./types.js";

export type Recruit = Extract<Phase, { kind: "recruit" }>;
export type Position = Extract<Report, { kind: "position" }>;

export interface Candidate {
  readonly member: Member;
  readonly report: Position;
}

/** The voters that hold data; a learner's data is not trusted yet, a witness has none. */
export function dataVoters(input: LeaderInput): readonly Member[] {
  const { voters, votersOutgoing } = input.raft;
  return input.state.members.filter(
    ({ id, kind }) => kind === "data" && (voters.includes(id) || votersOutgoing.includes(id)),
  );
}

/** Whose positions count: the durability set once there is one, the data voters else. */
export function electors(input: LeaderInput): readonly Member[] {
  const { durability, members } = input.state;
  if (!hasSet(durability)) return dataVoters(input);
  return members.filter(({ id, kind }) => kind === "data" && durability.members.includes(id));
}

export function isActive(input: LeaderInput, id: NodeId): boolean {
  return id === input.selfId || input.raft.progress.some((one) => one.id === id && one.recentActive);
}

export function positionsOf(input: LeaderInput, members: readonly Member[]): readonly Candidate[] {
  return members.flatMap((member) => {
    const report = input.reports.get(member.id);
    return report?.kind === "position" ? [{ member, report }] : [];
  });
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

/** In the history of `token`, up to `lsn` at least. */
export function hasReached(report: Position, token: Token | null, lsn: Lsn): boolean {
  return tokensEqual(report.token, token) && compareLsn(report.lsn, lsn) >= 0;
}

/**
 * The last primary, or a node with all of the WAL that it shut down with: whatever was acknowledged is there. Its marker
 * is not asked for, since it may have been granted without ever writing one.
 */
export function hasEverything(input: LeaderInput, { member, report }: Candidate): boolean {
  const { lastGranted, released } = input.state;
  if (lastGranted === null) return false;
  if (lastGranted.holder === member.id) return true;
  if (released === null || released.shutdownLsn === null) return false;
  return tokensEqual(released.token, lastGranted.token) && hasReached(report, released.token, released.shutdownLsn);
}
