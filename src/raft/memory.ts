/**
 * What nodes remember of each other's disks (R51). A disk that comes back older than it was (a restored backup, a rolled
 * back volume) has forgotten votes and acknowledged entries; its node must not vote or acknowledge again under its id.
 * It can not know that by itself, but its peers can tell:
 *
 *     reachedTerm  a term that the receiver had durable when it answered the sender: its term is never below that again
 *     heldIndex    the receiver held the log durably up to here: from this very leader's log while the term lasts
 *                  (heartbeats), or committed entries, which are never cut off again (requests for votes, answers)
 *     holdings     a leader's list of what is committed and held by whom, so that others remember it when it is gone
 *
 * All of it is memory of this life. Both claims hold for an honest node whatever is late, repeated or reordered, so that
 * whoever finds itself behind them stops. A node that stops counts as crashed: what it acknowledged before is one of the
 * failures that a majority outlives.
 */
import { membersOf } from "./configuration.js";
import { RolledBackError } from "./errors.js";
import type { NodeState } from "./state.js";
import type { Holding, LogIndex, Message, NodeId, Term } from "./types.js";

export interface PeerMemory {
  term: Term;
  index: LogIndex;
}

/** What vote requests and their answers tell the receiver about itself; nothing when nothing is known. */
export function memoryOf(s: NodeState, id: NodeId): { reachedTerm?: Term; heldIndex?: LogIndex } {
  const memory = s.remembered.get(id);
  return memory === undefined ? {} : { reachedTerm: memory.term, heldIndex: memory.index };
}

/** Stops this node when the message proves that its disk has forgotten something. */
export function checkOwnDisk(s: NodeState, m: Message): void {
  if (!("heldIndex" in m || "reachedTerm" in m)) return;
  const { reachedTerm = 0, heldIndex = 0 } = m;
  if (s.term < reachedTerm) {
    throw new RolledBackError(
      `node ${m.from} knows that this node was in term ${reachedTerm}, its disk says ${s.term}`,
    );
  }
  // What an uncommitted entry of an older term claims may be cut off by now.
  if (m.type === "Heartbeat" && m.term < s.term) return;
  if (s.log.lastIndex < heldIndex) {
    const { lastIndex } = s.log;
    throw new RolledBackError(
      `node ${m.from} knows that this node held the log up to ${heldIndex}, it ends at ${lastIndex}`,
    );
  }
}

/** A message that leaves only when the term in it is durable: its sender will not be in an older one again. */
export function noteDurableTerm(s: NodeState, m: Message): void {
  switch (m.type) {
    case "AppendEntriesResponse":
    case "HeartbeatResponse":
    case "RequestVoteResponse":
    case "InstallSnapshotResponse":
      break;
    case "PreVoteResponse":
      if (m.granted) return;
      break;
    default:
      return;
  }
  const memory = memoryOfMember(s, m.from);
  if (memory !== undefined && memory.term < m.term) memory.term = m.term;
}

/** What this leader's followers hold of what is committed; every follower gets the list with each heartbeat. */
export function holdingsOf(s: NodeState): readonly Holding[] {
  const holdings: Holding[] = [];
  for (const { id, match } of s.peers) {
    const index = Math.min(match, s.log.commit);
    if (index > 0) holdings.push({ id, index });
  }
  return holdings;
}

/** Keeps what a leader knows of its followers, heard of or its own, for the terms to come. */
export function noteHoldings(s: NodeState, holdings: readonly Holding[]): void {
  for (const { id, index } of holdings) {
    const memory = memoryOfMember(s, id);
    if (memory !== undefined && memory.index < index) memory.index = index;
  }
}

/** Strangers are not remembered: there is no bound to their number. */
function memoryOfMember(s: NodeState, id: NodeId): PeerMemory | undefined {
  const known = s.remembered.get(id);
  if (known !== undefined || id === s.id || !membersOf(s.log.config).includes(id)) return known;
  const memory = { term: 0, index: 0 };
  s.remembered.set(id, memory);
  return memory;
}

/** Of nodes that are gone nothing need be remembered: their ids never come back (R39). */
export function forgetStrangers(s: NodeState): void {
  const members = membersOf(s.log.config);
  for (const id of s.remembered.keys()) if (!members.includes(id)) s.remembered.delete(id);
}
