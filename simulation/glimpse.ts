/** The few facts of a core that are looked at after every event, without the deep copy that `status()` makes. */
import { peek } from "../src/raft/node.js";
import type { Configuration, LogIndex, NodeId, RaftNode, Role, Term } from "../src/raft/types.js";

export class Glimpse {
  role: Role = "follower";
  term: Term = 0;
  vote: NodeId | 0 = 0;
  leader: NodeId | 0 = 0;
  commit: LogIndex = 0;
  applied: LogIndex = 0;
  firstIndex: LogIndex = 0;
  lastIndex: LogIndex = 0;
  lastTerm: Term = 0;
  config: Configuration = { voters: [], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };

  configIndex: LogIndex = 0;

  /** A configuration behind `index`, committed or not, is in force here. */
  configurationAfter(index: LogIndex): boolean {
    return this.configIndex > index;
  }

  take(core: RaftNode): void {
    const state = peek(core);
    // A mutant wraps its core: what it says of itself counts.
    const log = state === null ? { ...core.status(), configIndex: 0 } : state.log;
    const { role, term, vote, leader } = state ?? core.status();
    this.role = role;
    this.term = term;
    this.vote = vote;
    this.leader = leader;
    this.commit = log.commit;
    this.applied = log.applied;
    this.firstIndex = log.firstIndex;
    this.lastIndex = log.lastIndex;
    this.lastTerm = log.lastTerm;
    this.config = log.config;
    this.configIndex = log.configIndex;
  }
}
