/** The errors of the core, each with a stable `code`, and the assertion that stays on in production. */

/** The core, its storage or the cluster broke a rule that safety rests on: the process must stop, nothing else is safe. */
export class RaftInvariantError extends Error {
  readonly code: string = "RAFT_INVARIANT";
  override readonly name: string = "RaftInvariantError";
}

/**
 * This node's disk is older than what its peers remember of it: it has forgotten votes or entries that it acknowledged.
 * It must never vote or acknowledge under its id again.
 */
export class RolledBackError extends RaftInvariantError {
  override readonly code = "RAFT_ROLLED_BACK";
  override readonly name = "RolledBackError";

  constructor(proof: string) {
    super(
      `this node's Raft state was rolled back (a restored backup or snapshot of the disk?): ${proof}. ` +
        "Remove its state directory, so that it joins again under a new id.",
    );
  }
}

/** A message that does not have the shape of the protocol. A peer's fault, never a reason to stop: drop it and say so. */
export class MalformedMessageError extends Error {
  readonly code = "RAFT_MALFORMED_MESSAGE";
  override readonly name = "MalformedMessageError";
  /** Path of the offending field, such as `entries[2].term`; empty for the message as a whole. */
  readonly field: string;

  constructor(field: string, problem: string) {
    super(`malformed Raft message: ${field === "" ? "the message" : `"${field}"`} ${problem}`);
    this.field = field;
  }
}

/** A membership change that does not lead to a legal configuration. */
export class ConfigurationChangeError extends Error {
  readonly code = "RAFT_CONFIGURATION_CHANGE";
  override readonly name = "ConfigurationChangeError";
}

/** Options or a persistent state that a node cannot be built from. */
export class RaftOptionsError extends Error {
  readonly code = "RAFT_OPTIONS";
  override readonly name = "RaftOptionsError";
}

/**
 * Asserts a rule of the protocol. Stays on in production: a node that stops is an outage, one that goes on is data loss.
 *
 * @throws RaftInvariantError when `condition` is false.
 */
export function invariant(condition: boolean, message: string): asserts condition {
  if (!condition) throw new RaftInvariantError(message);
}
