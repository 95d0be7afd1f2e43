/** Configurations and the legal steps between them (dissertation chapter 4). Pure; every result is frozen. */
import { ConfigurationChangeError } from "./errors.js";
import type { ConfChange, Configuration, ConfOp, NodeId } from "./types.js";

/** Of a node that has not been told any configuration yet. */
export const emptyConfiguration: Configuration = freezeConfiguration({
  voters: [],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
});

export function isJoint(config: Configuration): boolean {
  return config.votersOutgoing.length > 0;
}

/** Whether `id` votes in either half. */
export function isVoter(config: Configuration, id: NodeId): boolean {
  return config.voters.includes(id) || config.votersOutgoing.includes(id);
}

export function isLearner(config: Configuration, id: NodeId): boolean {
  return config.learners.includes(id);
}

/** Everybody the log is replicated to, ascending, each once. */
export function membersOf(config: Configuration): NodeId[] {
  return sortedIds([...config.voters, ...config.votersOutgoing, ...config.learners, ...config.learnersNext]);
}

/** A deep, frozen copy with sorted lists; the same object when it is one already. */
export function freezeConfiguration(config: Configuration): Configuration {
  if (Object.isFrozen(config) && Object.isFrozen(config.voters)) return config;
  return Object.freeze({
    voters: Object.freeze(sortedIds(config.voters)),
    votersOutgoing: Object.freeze(sortedIds(config.votersOutgoing)),
    learners: Object.freeze(sortedIds(config.learners)),
    learnersNext: Object.freeze(sortedIds(config.learnersNext)),
    autoLeave: config.autoLeave,
  });
}

/** What is wrong with a configuration, or null. */
export function configurationProblem(config: Configuration): string | null {
  const { voters, votersOutgoing, learners, learnersNext } = config;
  if (voters.length === 0 && membersOf(config).length > 0) return "has members but no voter";
  if (learners.some((id) => isVoter(config, id))) return "lists a node both as a voter and as a learner";
  if (learnersNext.some((id) => !votersOutgoing.includes(id) || voters.includes(id))) {
    return "demotes a node that is not only an outgoing voter";
  }
  if (!isJoint(config) && config.autoLeave) return "has autoLeave although it is not joint";
  return null;
}

/**
 * The configuration after a single-server change: the old and the new set of voters differ in at most one node, so that
 * their majorities meet (R32).
 *
 * @throws ConfigurationChangeError when the change needs joint consensus or leads to no legal configuration.
 */
export function simpleChange(config: Configuration, ops: readonly ConfOp[]): Configuration {
  if (isJoint(config)) throw new ConfigurationChangeError("the configuration is joint: leave it first");
  const next = applyOps(config, ops);
  const distance = votersApart(config.voters, next.voters);
  if (distance > 1) {
    throw new ConfigurationChangeError(`the voters would change by ${distance} nodes at once: use joint consensus`);
  }
  return freezeConfiguration({
    voters: [...next.voters],
    votersOutgoing: [],
    learners: [...next.learners],
    learnersNext: [],
    autoLeave: false,
  });
}

/**
 * The joint configuration on the way to `ops` (dissertation 4.3): decisions need a majority of the old and of the new
 * voters. Voters that become learners stay voters of the outgoing half and wait in `learnersNext`.
 *
 * @throws ConfigurationChangeError when already joint, when there is nothing to leave, or on an illegal result.
 */
export function enterJoint(config: Configuration, ops: readonly ConfOp[], autoLeave: boolean): Configuration {
  if (isJoint(config)) throw new ConfigurationChangeError("the configuration is joint already: leave it first");
  if (config.voters.length === 0) {
    throw new ConfigurationChangeError("there are no voters yet: the first one is added by a single-server change");
  }
  const next = applyOps(config, ops);
  const learners: NodeId[] = [];
  const learnersNext: NodeId[] = [];
  for (const id of next.learners) (config.voters.includes(id) ? learnersNext : learners).push(id);
  return freezeConfiguration({
    voters: [...next.voters],
    votersOutgoing: [...config.voters],
    learners,
    learnersNext,
    autoLeave,
  });
}

/**
 * The configuration after the joint one: its incoming half.
 *
 * @throws ConfigurationChangeError when it is not joint.
 */
export function leaveJoint(config: Configuration): Configuration {
  if (!isJoint(config)) throw new ConfigurationChangeError("the configuration is not joint: there is nothing to leave");
  return freezeConfiguration({
    voters: [...config.voters],
    votersOutgoing: [],
    learners: [...config.learners, ...config.learnersNext],
    learnersNext: [],
    autoLeave: false,
  });
}

/**
 * The configuration that a requested change appends.
 *
 * @throws ConfigurationChangeError as the three steps above do.
 */
export function changedConfiguration(config: Configuration, change: ConfChange): Configuration {
  if (change.transition === "leave") {
    if (change.ops.length > 0) throw new ConfigurationChangeError("leaving a joint configuration takes no operations");
    return leaveJoint(config);
  }
  if (change.transition === "jointExplicit") return enterJoint(config, change.ops, false);
  if (isJoint(config)) throw new ConfigurationChangeError("the configuration is joint: leave it first");
  const next = applyOps(config, change.ops);
  if (votersApart(config.voters, next.voters) <= 1) return simpleChange(config, change.ops);
  return enterJoint(config, change.ops, true);
}

function applyOps(config: Configuration, ops: readonly ConfOp[]): { voters: Set<NodeId>; learners: Set<NodeId> } {
  if (ops.length === 0) throw new ConfigurationChangeError("a membership change needs at least one operation");
  const voters = new Set(config.voters);
  const learners = new Set(config.learners);
  for (const { type, id } of ops) {
    if (!Number.isSafeInteger(id) || id < 1) throw new ConfigurationChangeError(`${id} is not a node id`);
    voters.delete(id);
    learners.delete(id);
    if (type === "addVoter") voters.add(id);
    else if (type === "addLearner") learners.add(id);
  }
  if (voters.size === 0) throw new ConfigurationChangeError("the change would leave no voter");
  return { voters, learners };
}

/** How many nodes vote in exactly one of the two sets. */
function votersApart(before: readonly NodeId[], after: ReadonlySet<NodeId>): number {
  let shared = 0;
  for (const id of before) if (after.has(id)) shared += 1;
  return before.length + after.size - 2 * shared;
}

function sortedIds(ids: readonly NodeId[]): NodeId[] {
  return [...new Set(ids)].sort((a, b) => a - b);
}
