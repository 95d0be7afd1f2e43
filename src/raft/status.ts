/** A deep copy of what a node may be asked about. */
import { isLearner, isVoter } from "./configuration.js";
import type { NodeState } from "./state.js";
import type { Status } from "./types.js";

export function statusOf(s: NodeState): Status {
  const { log } = s;
  const { voters, votersOutgoing, learners, learnersNext, autoLeave } = log.config;
  const leads = s.role === "leader";
  return {
    id: s.id,
    role: s.role,
    term: s.term,
    vote: s.vote,
    leader: s.leader,
    commit: log.commit,
    applied: log.applied,
    firstIndex: log.firstIndex,
    lastIndex: log.lastIndex,
    lastTerm: log.lastTerm,
    config: {
      voters: [...voters],
      votersOutgoing: [...votersOutgoing],
      learners: [...learners],
      learnersNext: [...learnersNext],
      autoLeave,
    },
    progress: leads ? progressOf(s) : [],
    termCommitted: s.termCommitted(),
    electedAtMs: leads ? s.electedAtMs : 0,
    electionElapsedMs: leads ? s.electionElapsedMs : 0,
    removedAt: s.removedAt,
  };
}

/** Of every member, this node included; of removed nodes no more. */
function progressOf(s: NodeState): Status["progress"] {
  const { log } = s;
  const rows: Status["progress"] = [];
  for (const peer of s.peers) {
    if (peer.departingIndex !== 0) continue;
    const { id, match, next, state, paused } = peer;
    const recentActive = s.now - peer.contactMs < s.options.electionTimeoutMs;
    rows.push({ id, match, next, state, paused, recentActive });
  }
  if (isVoter(log.config, s.id) || isLearner(log.config, s.id)) {
    const next = log.lastIndex + 1;
    rows.push({ id: s.id, match: log.stable, next, state: "replicate", paused: false, recentActive: true });
    rows.sort((a, b) => a.id - b.id);
  }
  return rows;
}
