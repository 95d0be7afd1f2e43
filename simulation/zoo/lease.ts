/** Bugs of the primary lease (R55 to R58, docs/protocol.md section 4): the leader's side, the holder's, the voters'. */
import { type LeaseFaults, soundLease } from "../lease-agent.js";
import { alsoRaft, control, type Mutant, raft } from "./mutant.js";

/** A bug of the holder's agent, which the simulator plays. */
function agent(name: string, rule: string, text: string, broken: Partial<LeaseFaults>): Mutant {
  return { name, rule, text, patches: [], faults: { lease: { ...soundLease, ...broken } } };
}

export const lease: readonly Mutant[] = [
  agent("lease-from-receipt", "R55", "The lease counts from the answer, and not from the question.", {
    countFromReceipt: true,
  }),
  agent("lease-without-round", "protocol 4.2", "Renewals are confirmed without a quorum round.", {
    replyWithoutRound: true,
  }),
  agent("release-without-stop", "protocol 4.3", "The lease is released while the server still runs.", {
    releaseWithoutStop: true,
  }),
  agent("lease-clock-stops", "protocol 4.2", "The holder's clock stops while its process is suspended.", {
    clockStopsInPause: true,
  }),
  control(
    "lease-without-drift",
    "protocol 4.1",
    "The grantor waits D, without the factor for clock rates.",
    "lease",
    `waitOutMs: Math.ceil((leaseMs * 101) / 99),`,
    `waitOutMs: leaseMs,`,
  ),
  control(
    "lease-without-hold",
    "protocol 4.2",
    "A new leader does not wait for leases of its predecessors.",
    "lease",
    `const holdUntilMs = electedAtMs + Math.max(0, waitOutMs - electionElapsedMs);`,
    `const holdUntilMs = electedAtMs + 0 * electionElapsedMs;`,
  ),
  raft(
    "lease-on-older-round",
    "protocol 4.2",
    "Whoever has answered within an election timeout counts as having confirmed the newest round.",
    "read-index",
    `return id === s.id ? s.readSequence : s.peerById.get(id)?.ackedRound;`,
    `const peer = s.peerById.get(id);
     const heard = peer !== undefined && s.now - peer.contactMs < s.options.electionTimeoutMs;
     return id === s.id || heard ? s.readSequence : peer?.ackedRound;`,
  ),
  control(
    "lease-accepted-not-counted",
    "protocol 4.1",
    "A leader grants another node without waiting for the renewals that it accepted itself.",
    "lease",
    `(this.#lastAcceptedMs ?? Number.NEGATIVE_INFINITY) + waitOutMs);`,
    `Number.NEGATIVE_INFINITY);`,
  ),
  control(
    "lease-granted-on-suspicion",
    "protocol 4.6",
    "Silence that starts a failover also ends the wait for the old lease.",
    "lease",
    `if (now > waitUntilMs) return`,
    `if (now > waitUntilMs || now > this.suspectAtMs(state)) return`,
  ),
  raft(
    "hold-by-maximum",
    "protocol 4.2",
    "The hold takes the largest elapsed time of the votes, and not the smallest.",
    "election",
    `s.grantedElapsedMs = Math.min(s.grantedElapsedMs, m.elapsedMs);`,
    `s.grantedElapsedMs = s.grantedElapsedMs === Number.MAX_SAFE_INTEGER ? m.elapsedMs : Math.max(s.grantedElapsedMs, m.elapsedMs);`,
    alsoRaft(
      "roles",
      `Math.min(s.grantedElapsedMs, s.elapsedSinceAck())`,
      `s.grantedElapsedMs < 1e9 ? Math.max(s.grantedElapsedMs, s.elapsedSinceAck()) : s.elapsedSinceAck()`,
    ),
  ),
  raft(
    "hold-without-own-promise",
    "protocol 4.9",
    "A new leader does not count when it last acknowledged a leader itself.",
    "roles",
    `s.electionElapsedMs = Math.min(s.grantedElapsedMs, s.elapsedSinceAck());`,
    `s.electionElapsedMs = s.grantedElapsedMs;`,
  ),
  raft(
    "hold-by-first-contact",
    "protocol 4.2",
    "A voter tells how long ago it first acknowledged a leader, and not how long ago it did so last.",
    "replication",
    `s.lastAckMs = s.now;`,
    `;`,
  ),
];
