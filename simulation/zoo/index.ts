/** The bug zoo: a checker that never saw a bug proves nothing. */
import { elections } from "./elections.js";
import { failover } from "./failover.js";
import { lease } from "./lease.js";
import { membership } from "./membership.js";
import type { Mutant } from "./mutant.js";
import { persistence } from "./persistence.js";
import { reads } from "./reads.js";
import { replication } from "./replication.js";
import { snapshots } from "./snapshots.js";
import { storage } from "./storage.js";

export type { Mutant } from "./mutant.js";

export const mutants: readonly Mutant[] = [
  ...persistence,
  ...replication,
  ...elections,
  ...membership,
  ...snapshots,
  ...storage,
  ...reads,
  ...lease,
  ...failover,
];

/**
 * Not killed so far: bugs for which the simulator still lacks a fault, an invariant or the patience. They are hunted only
 * when they are named; one that is killed leaves this list.
 */
export const unkilled: ReadonlySet<string> = new Set([
  "pledge-volatile",
  "follows-past-pledge",
  "lsn-only",
  "target-kept",
  "fork-of-last-timeline",
]);
