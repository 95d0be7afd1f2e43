/**
 * Bugs of the failover protocol (docs/protocol.md): each rule of it removed once. What the product decides is changed in
 * its own code; what agent and server do is played by the simulator's cluster layer, and broken there.
 */
import { type ClusterFaults, soundCluster } from "../cluster/faults.js";
import { soundLease } from "../lease-agent.js";
import type { Mutant } from "./mutant.js";

function cluster(name: string, rule: string, text: string, fault: keyof ClusterFaults): Mutant {
  const faults = { lease: soundLease, cluster: { ...soundCluster, [fault]: true } };
  return { name, rule, text, stack: "whole", patches: [], faults };
}

export const failover: readonly Mutant[] = [
  cluster(
    "grant-to-promoted",
    "protocol 4.4",
    "A new leader takes the promoted node for the current holder and grants without any wait.",
    "grantToPromoted",
  ),
  cluster(
    "failover-without-hold",
    "protocol 4.2",
    "A new leader does not wait for leases of its predecessors.",
    "noHold",
  ),
  cluster(
    "no-hold-in-quorum-mode",
    "protocol 4",
    "In quorum mode nobody waits for the old lease.",
    "noHoldInQuorumMode",
  ),
  cluster("no-pledge", "protocol 3", "A recruit reads the position and lets the receiver go on.", "noPledge"),
  cluster("pledge-volatile", "protocol 7", "A pledge is not on disk.", "pledgeVolatile"),
  cluster(
    "conninfo-kept",
    "protocol 7",
    "A pledge ends the receiver, and a start of the server makes it connect again.",
    "conninfoKept",
  ),
  cluster("follows-past-pledge", "protocol 5", "A node follows a primary older than its pledge.", "followsPastPledge"),
  cluster("lsn-only", "protocol 3", "The best position is the highest LSN, whatever its marker.", "lsnOnly"),
  cluster(
    "repointed-counts",
    "protocol 3",
    "Being pointed at a primary counts as having its marker.",
    "repointedCounts",
  ),
  cluster("one-fewer-position", "protocol 3", "An election is content with one position less.", "oneFewerPosition"),
  cluster(
    "list-before-commit",
    "durability sets",
    "The primary takes a new list of standbys before the change is committed.",
    "listBeforeCommit",
  ),
  cluster(
    "no-proof-in-set-change",
    "durability sets",
    "A set change settles without a proof that the old commits have arrived.",
    "noProofInSetChange",
  ),
  cluster(
    "opens-before-marker",
    "I21",
    "The word is opened with the promotion, before the marker.",
    "opensBeforeMarker",
  ),
  cluster(
    "opens-before-proof",
    "I21",
    "The server opens without waiting until its marker is on k standbys.",
    "opensBeforeProof",
  ),
  cluster(
    "list-after-opening",
    "durability sets",
    "The list of standbys is set after the opening.",
    "listAfterOpening",
  ),
  {
    name: "rejoining-counts",
    rule: "I14",
    text: "In quorum mode the answer of a node in rejoin counts as a position.",
    stack: "whole",
    patches: [
      {
        file: "src/control/sufficiency.js",
        find: "const missing = neededPositions(durability) - found.length;",
        replace: `const answers = [...input.reports.values()].filter(({ kind }) => kind !== "unable").length;
          const missing = neededPositions(durability) - (found.length > 0 ? answers : 0);`,
      },
    ],
  },
  cluster(
    "no-holder-rule",
    "protocol 3",
    "The intact holder of the newest granted token is not sufficient alone.",
    "noHolderRule",
  ),
  cluster(
    "target-kept",
    "durability sets",
    "A promotion outside the target of a set change leaves the change as it is.",
    "targetKept",
  ),
  cluster(
    "nofailover-skipped",
    "protocol 3",
    "The best position is passed over when its node is tagged nofailover.",
    "nofailoverSkipped",
  ),
  cluster(
    "judges-by-timeline",
    "protocol 5",
    "Whether a node may follow is judged by timeline numbers.",
    "judgesByTimeline",
  ),
  cluster("releases-live-word", "I22", "The lease is released while the word is still live.", "releasesLiveWord"),
  cluster(
    "waits-for-opened",
    "protocol 5a",
    "Nobody rejoins or follows before the primary has opened.",
    "waitsForOpened",
  ),
  cluster("no-open-timeout", "protocol 2", "A promotion that does not open is waited for for ever.", "noOpenTimeout"),
  cluster("marker-unreadable", "protocol 3", "A standby can not read the marker in its own data.", "markerUnreadable"),
  cluster("holds-released-token", "I20", "A node that gave a token back takes it up again.", "holdsReleasedToken"),
  cluster(
    "keeps-old-reports",
    "protocol 3",
    "Reports of an earlier recruit count for the present one.",
    "keepsOldReports",
  ),
  cluster(
    "fork-of-last-timeline",
    "protocol 5",
    "The fork of a promotion is where its own timeline begins, whatever unmarked promotions lie before it.",
    "forkOfLastTimeline",
  ),
];
