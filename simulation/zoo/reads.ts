/** Bugs of linearizable reads (R54). */
import { type Mutant, raft } from "./mutant.js";

export const reads: readonly Mutant[] = [
  raft(
    "read-before-noop",
    "R54",
    "A new leader serves reads before it knows what was committed before it.",
    "read-index",
    `const index = s.termCommitted() ? s.log.commit : 0;`,
    `const index = s.log.commit;`,
  ),
  raft(
    "read-without-round",
    "R54",
    "A leader serves reads without asking whether it still leads.",
    "read-index",
    `const confirmed = committedIndex(s.log.config, rounds);`,
    `const confirmed = s.readSequence;`,
  ),
  raft(
    "old-round-confirms",
    "R54",
    "The answer to an older round counts for the newest one.",
    "read-index",
    `peer.ackedRound = round;`,
    `peer.ackedRound = s.readSequence;`,
  ),
  raft(
    "reuse-read-ctx",
    "R54",
    "A follower numbers its forwarded reads from 1 in each of its lives.",
    "read-index",
    `s.nextRequestId = 1 + Math.floor(s.options.random() * requestIdSpan);`,
    `s.nextRequestId = 1;`,
  ),
];
