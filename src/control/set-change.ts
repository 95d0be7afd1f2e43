/** Which data nodes the durability set should have, and the change that leads there. */
import type { Millis, NodeId } from "../raft/types.js";
import type { LeaderAction, LeaderInput } from "./decisions.js";
import { acksFor, canSync, describeSet, sameSet } from "./durability.js";
import { lsnDifference } from "./lsn.js";
import { currentHolder, isReleased, memberById, promotionOf } from "./membership.js";
import { isActive } from "./positions.js";
import { formatToken, tokensEqual } from "./token.js";
import type { ControlState, Gossip, SyncSet } from "./types.js";

/** This close to the primary's write position, in bytes, a standby has caught up: one WAL segment. */
const walSlackBytes = 16 * 1024 * 1024;

/** Step 1 of a change, when the set is not what it should be. The primary takes it from there. */
export function setChange(input: LeaderInput): LeaderAction | null {
  const { state } = input;
  const { durability, current } = state;
  const holder = currentHolder(state);
  if (durability.mode !== "quorum" || current === null || holder === null) return null;
  // A primary that leaves proves nothing any more, and what a joint configuration needs is not settled yet.
  if (state.handover !== null || isReleased(state) || input.raft.votersOutgoing.length > 0) return null;
  const wanted = wantedSet(input, holder);
  const aim = durability.target ?? (durability.inForce === null ? null : durability);
  if (aim !== null && sameSet(aim, wanted)) return null;
  const { members, acks } = wanted;
  const text = `Commits are to wait for ${describeSet(state, wanted)}.`;
  const { version } = durability;
  return { type: "propose", command: { type: "beginSetChange", token: current, version, members, acks, text } };
}

/**
 * Who is in the set stays as long as it may: a dead standby costs nothing while others can acknowledge. Only when the
 * living ones are too few do the dead leave, since every write would wait for good. Who streams and has caught up enters.
 */
export function wantedSet(input: LeaderInput, holder: NodeId): SyncSet {
  const { state, raft } = input;
  const present = (state.durability.target ?? state.durability).members;
  const standbys = state.members
    .filter((member) => member.id !== holder && canSync(member) && raft.voters.includes(member.id))
    .map(({ id }) => id)
    .filter((id) => present.includes(id) || hasCaughtUp(input, id));
  const withAll = setOf(input, holder, standbys);
  // Every standby has to acknowledge: then it is enough that one does not stream. Else only whole nodes are given up.
  const needsAll = withAll.acks === standbys.length;
  const living = standbys.filter((id) => !(isLate(input, id) && (needsAll || isSilent(input, id))));
  return living.length >= withAll.acks ? withAll : setOf(input, holder, living);
}

function setOf(input: LeaderInput, holder: NodeId, standbys: readonly NodeId[]): SyncSet {
  const members = [holder, ...standbys].sort((a, b) => a - b);
  return { members, acks: acksFor(input.raft.voters, members) };
}

/** Longer than a lease without streaming from a primary that could be streamed from. */
function isLate(input: LeaderInput, id: NodeId): boolean {
  const sinceMs = input.unsyncedSinceMs.get(id);
  return sinceMs !== undefined && input.now - sinceMs > input.state.leaseMs;
}

function isSilent(input: LeaderInput, id: NodeId): boolean {
  const heard = input.gossip.get(id);
  return !isActive(input, id) && (heard === undefined || input.now - heard.receivedAtMs > input.state.leaseMs);
}

/** It streams from the open primary, and is at most a segment behind what the primary last said. */
export function hasCaughtUp(input: Pick<LeaderInput, "state" | "gossip" | "now">, id: NodeId): boolean {
  const { state, gossip, now } = input;
  const holder = currentHolder(state);
  if (state.phase.kind !== "steady" || holder === null || memberById(state, id) === undefined) return false;
  const own = gossip.get(id);
  const primary = gossip.get(holder);
  if (own === undefined || primary === undefined || now - primary.receivedAtMs > state.leaseMs) return false;
  if (!isStreaming(state, own, now)) return false;
  const received = own.gossip.receiveLsn ?? own.gossip.replayLsn;
  const written = primary.gossip.writeLsn;
  return received !== null && written !== null && lsnDifference(written, received) <= walSlackBytes;
}

/** Since when data nodes were not heard of as streaming from the current primary, on the leader's clock. */
export interface Unsynced {
  /** The primary that they are to stream from; the waiting begins anew with each. */
  readonly key: string;
  readonly sinceMs: ReadonlyMap<NodeId, Millis>;
}

export const noneUnsynced: Unsynced = { key: "", sinceMs: new Map() };

/** To be called whenever the leader looks at the world; nobody is late before there is a primary to stream from. */
export function trackUnsynced(
  before: Unsynced,
  { state, gossip, now }: Pick<LeaderInput, "state" | "gossip" | "now">,
): Unsynced {
  const promotion = promotionOf(state, state.current);
  const holder = currentHolder(state);
  if (promotion === undefined || holder === null || promotion.forkLsn === null) return noneUnsynced;
  const key = formatToken(promotion.token);
  const earlier: ReadonlyMap<NodeId, Millis> = before.key === key ? before.sinceMs : new Map();
  const sinceMs = new Map<NodeId, Millis>();
  for (const { id, kind } of state.members) {
    if (kind !== "data" || id === holder || isStreaming(state, gossip.get(id), now)) continue;
    sinceMs.set(id, earlier.get(id) ?? now);
  }
  return { key, sinceMs };
}

type Heard = { readonly receivedAtMs: Millis; readonly gossip: Gossip };

/** Heard of within a lease, streaming, and with the current primary's marker replayed. */
export function isStreaming(state: ControlState, heard: Heard | undefined, now: Millis): boolean {
  if (heard === undefined || now - heard.receivedAtMs > state.leaseMs) return false;
  return heard.gossip.state === "streaming" && tokensEqual(heard.gossip.token, state.current);
}
