/** Bugs of log replication and of the commit rule (R9 to R17, R29). */
import { alsoRaft, type Mutant, raft } from "./mutant.js";

export const replication: readonly Mutant[] = [
  raft(
    "commit-old-term",
    "R9",
    "A leader commits entries of earlier terms by counting.",
    "replication",
    `if (index <= before || log.term(index) !== s.term)`,
    `if (index <= before)`,
  ),
  raft(
    "no-noop",
    "R10",
    "A new leader appends no entry of its own.",
    "roles",
    `appendEntry(s, { term: s.term, index: s.termStartIndex, type: "noop" });`,
    `s.termStartIndex = 0;`,
  ),
  raft(
    "truncate-after-prev",
    "R11",
    "A follower deletes everything behind the entries of any append.",
    "log",
    `if (fresh === entries.length) return;`,
    `if (fresh === entries.length) {
       const next = (entries[fresh - 1]?.index ?? this.lastIndex) + 1;
       if (next <= this.lastIndex && next > this.#commit) this.#truncateFrom(next);
       return;
     }`,
  ),
  raft(
    "commit-beyond-match",
    "R13",
    "A follower commits up to the end of its log, and not of what the append proved equal; leaders probe lower than need be.",
    "replication",
    `log.commitTo(Math.min(m.commit, matched));`,
    `log.commitTo(Math.min(m.commit, log.lastIndex));`,
    // A first append that begins exactly where the logs part cuts the tail off itself: alone the bug would not show.
    alsoRaft(
      "replication",
      `if (peer.reject(m.rejectedIndex, probeAt))`,
      `if (peer.reject(m.rejectedIndex, Math.max(probeAt - 3, Math.min(probeAt, s.log.firstIndex - 1))))`,
    ),
  ),
  raft(
    "commit-unproven",
    "R13",
    "Heartbeats carry the leader's commit index, and followers take as much of it as they have log.",
    "replication",
    `commit: Math.min(peer.match, s.log.commit),`,
    `commit: s.log.commit,`,
    alsoRaft("replication", `s.log.commitTo(m.commit);`, `s.log.commitTo(Math.min(m.commit, s.log.lastIndex));`),
  ),
  raft(
    "match-is-next",
    "R14",
    "An acknowledgement counts for everything sent so far.",
    "replication",
    `acknowledge(s, peer, m.matchIndex); return; }`,
    `acknowledge(s, peer, Math.max(m.matchIndex, peer.next - 1)); return; }`,
  ),
  raft(
    "window-wedges",
    "R16",
    "A heartbeat's answer sends nothing: a window full of lost appends stays full.",
    "replication",
    `if (peer.match < s.log.lastIndex || peer.state === "probe") replicateTo(s, peer, true);`,
    `if (peer.match < s.log.lastIndex || peer.state === "probe") replicateTo(s, peer, false);`,
  ),
  raft(
    "probe-wedges",
    "R16",
    "A probe that got lost is never repeated.",
    "replication",
    `peer.probePaused = false; // A snapshot`,
    `// A snapshot`,
  ),
  raft(
    "uncommitted-never-freed",
    "R17",
    "Bytes count as uncommitted for ever.",
    "replication",
    `s.uncommittedBytes -= payloadBytes(entry);`,
    `;`,
  ),
  raft(
    "term-read-late",
    "R29",
    "A second path takes over a higher term and leaves the role as it is: a leader stamps its entries with it.",
    "node",
    `if (m.term > s.term && !isHypothetical(m)) becomeFollower(s, m.term, isFromLeader(m) ? m.from : 0);`,
    `if (m.term > s.term && m.type === "AppendEntriesResponse" && s.role === "leader") { s.term = m.term; s.vote = 0; }
     if (m.term > s.term && !isHypothetical(m)) becomeFollower(s, m.term, isFromLeader(m) ? m.from : 0);`,
  ),
  raft(
    "quorum-rounded-down",
    "R32",
    "Half of an even number of voters commits.",
    "quorum",
    `return values[count >> 1];`,
    `return values[(count - 1) >> 1];`,
  ),
  raft(
    "quorum-sorted-as-text",
    "R63",
    "Acknowledged indexes are sorted as text: 9 is more than 10.",
    "quorum",
    `return values[count >> 1];`,
    `return values.sort().reverse()[count >> 1];`,
  ),
];
