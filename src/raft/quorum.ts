/** Majority arithmetic, of one configuration or of both halves of a joint one (dissertation 4.3). Pure. */
import type { Configuration, LogIndex, NodeId } from "./types.js";

/** What each voter has acknowledged; a `Map` is one. A voter without a value has acknowledged nothing (0). */
export interface Acknowledgements {
  get(id: NodeId): number | undefined;
}

export type VoteResult = "won" | "lost" | "pending";

/**
 * The highest value that a majority of the voters has reached; while joint, a majority of both halves. 0 when there are
 * no voters: a node without a configuration can commit nothing.
 */
export function committedIndex(config: Configuration, acked: Acknowledgements): LogIndex {
  const incoming = majorityValue(config.voters, acked);
  if (config.votersOutgoing.length === 0) return incoming;
  return Math.min(incoming, majorityValue(config.votersOutgoing, acked));
}

/** The state of an election: won by a majority of every half, lost as soon as one half can no longer be won. */
export function tallyVotes(config: Configuration, votes: ReadonlyMap<NodeId, boolean>): VoteResult {
  const incoming = tallyMajority(config.voters, votes);
  if (config.votersOutgoing.length === 0) return incoming;
  const outgoing = tallyMajority(config.votersOutgoing, votes);
  if (incoming === "lost" || outgoing === "lost") return "lost";
  return incoming === "won" && outgoing === "won" ? "won" : "pending";
}

function majorityValue(voters: readonly NodeId[], acked: Acknowledgements): number {
  const count = voters.length;
  if (count === 0) return 0;
  // Insertion sort, descending: a handful of numbers, and the default sort() is lexicographic (R63).
  const values: number[] = [];
  for (const id of voters) {
    const value = acked.get(id) ?? 0;
    let place = values.length;
    while (place > 0 && (values[place - 1] as number) < value) {
      values[place] = values[place - 1] as number;
      place -= 1;
    }
    values[place] = value;
  }
  return values[count >> 1] as number;
}

function tallyMajority(voters: readonly NodeId[], votes: ReadonlyMap<NodeId, boolean>): VoteResult {
  const needed = (voters.length >> 1) + 1;
  let granted = 0;
  let refused = 0;
  for (const id of voters) {
    const vote = votes.get(id);
    if (vote === true) granted += 1;
    else if (vote === false) refused += 1;
  }
  if (granted >= needed) return "won";
  return voters.length - refused < needed ? "lost" : "pending";
}
