/** What the surfaces show of each member: the committed members, the Raft status and the latest gossip put together. */
import type { Millis, NodeId, Status } from "../raft/types.js";
import { lsnDifference } from "./lsn.js";
import { currentHolder } from "./membership.js";
import type { ControlState, Gossip, Lsn, Member, MemberView } from "./types.js";

export type HeardGossip = ReadonlyMap<NodeId, { readonly receivedAtMs: Millis; readonly gossip: Gossip }>;

/** `gossip` holds this node's own too. A node that was not heard of for a lease is shown as unreachable. */
export function memberViews(state: ControlState, raft: Status | null, gossip: HeardGossip, now: Millis): MemberView[] {
  const holder = currentHolder(state);
  const written = holder === null ? null : (gossip.get(holder)?.gossip.writeLsn ?? null);
  return state.members.map((member) => memberView(member, state, raft, gossip, now, written));
}

function memberView(
  member: Member,
  state: ControlState,
  raft: Status | null,
  gossip: HeardGossip,
  now: Millis,
  written: Lsn | null,
): MemberView {
  const heard = gossip.get(member.id);
  const said = heard?.gossip;
  const lastSeenMs = heard === undefined ? null : Math.max(0, now - heard.receivedAtMs);
  const isSilent = lastSeenMs === null || lastSeenMs > state.leaseMs;
  const lsn = said === undefined ? null : said.role === "primary" ? said.writeLsn : (said.replayLsn ?? said.receiveLsn);
  const isStreaming = !isSilent && said?.state === "streaming";
  return {
    id: member.id,
    name: member.name,
    ...splitAddress(member.address),
    dsn: member.dsn,
    apiUrl: member.httpAddress === null ? null : `http://${member.httpAddress}/patroni`,
    role: member.kind === "witness" ? "witness" : isSilent ? "stopped" : (said?.role ?? "stopped"),
    raftRole: raftRole(member.id, raft),
    state: isSilent ? "unreachable" : (said?.state ?? "unreachable"),
    timeline: said?.timeline ?? null,
    lsn,
    lagBytes: member.kind === "data" ? lagBytes(said, lsn, written) : null,
    syncState: isStreaming ? (acknowledges(state, member.id) ? "quorum" : "async") : null,
    tags: member.tags,
    lastSeenMs,
    pendingRestart: said?.pendingRestart ?? false,
  };
}

/** Its acknowledgement counts, and the promise is in force. */
function acknowledges({ durability }: ControlState, id: NodeId): boolean {
  return durability.inForce !== null && (durability.target ?? durability).members.includes(id);
}

function lagBytes(said: Gossip | undefined, lsn: Lsn | null, written: Lsn | null): number | null {
  if (said === undefined || said.role === "primary" || lsn === null || written === null) return null;
  // The primary's gossip may be older than the standby's.
  return Math.max(0, lsnDifference(written, lsn));
}

function raftRole(id: NodeId, raft: Status | null): MemberView["raftRole"] {
  if (raft === null) return "none";
  if (raft.leader === id) return "leader";
  if (raft.config.voters.includes(id) || raft.config.votersOutgoing.includes(id)) return "voter";
  return raft.config.learners.includes(id) || raft.config.learnersNext.includes(id) ? "learner" : "none";
}

/** "host:port", with brackets around an IPv6 address. A port that is not there is shown as 0. */
export function splitAddress(address: string): { readonly host: string; readonly port: number } {
  const match = /^(?:\[(.+)\]|([^:]*)):([0-9]+)$/.exec(address);
  if (match === null) return { host: address, port: 0 };
  return { host: match[1] ?? match[2] ?? "", port: Number(match[3]) };
}
