/** The Raft core's public surface. */
export {
  configurationProblem,
  emptyConfiguration,
  enterJoint,
  isJoint,
  isLearner,
  isVoter,
  leaveJoint,
  membersOf,
  simpleChange,
} from "./configuration.js";
export {
  ConfigurationChangeError,
  invariant,
  MalformedMessageError,
  RaftInvariantError,
  RaftOptionsError,
  RolledBackError,
} from "./errors.js";
export { emptyState } from "./log.js";
export { createRaftNode } from "./node.js";
export { type Acknowledgements, committedIndex, tallyVotes, type VoteResult } from "./quorum.js";
export type * from "./types.js";
export { validateMessage } from "./validate.js";
