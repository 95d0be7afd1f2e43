/**
 * How a mutant breaks the failover protocol around an otherwise sound product. Every one sits at an edge: it changes what
 * goes into or comes out of the product's decision functions, or what the modelled agent and server do. None is a switch
 * in `src/`. All are false in the product.
 */
export interface ClusterFaults {
  /** A leader elected after `promote` takes the promoted node for the current holder: it grants without any wait. */
  readonly grantToPromoted: boolean;
  /** A new leader does not wait for leases that an earlier one may have confirmed. */
  readonly noHold: boolean;
  /** In quorum mode nobody waits for the old lease: "the old primary can not acknowledge anything anyway". */
  readonly noHoldInQuorumMode: boolean;
  /** A recruit reads the position but lets the receiver go on. */
  readonly noPledge: boolean;
  /** The pledge is not on disk. */
  readonly pledgeVolatile: boolean;
  /** A pledge ends the receiver but leaves primary_conninfo on disk, and a start of the server reads it again. */
  readonly conninfoKept: boolean;
  /** A node follows a primary older than its pledge. */
  readonly followsPastPledge: boolean;
  /** The best position is the highest LSN. */
  readonly lsnOnly: boolean;
  /** Being pointed at a primary counts as having its marker. */
  readonly repointedCounts: boolean;
  /** Elections are content with one position less. */
  readonly oneFewerPosition: boolean;
  /** The primary takes a new list of standbys as soon as the change is proposed. */
  readonly listBeforeCommit: boolean;
  /** A set change settles without a proof that the old commits have arrived. */
  readonly noProofInSetChange: boolean;
  /** The word is opened together with the promotion, before the marker. */
  readonly opensBeforeMarker: boolean;
  /** The server opens without waiting until the marker is on k standbys. */
  readonly opensBeforeProof: boolean;
  /** The list of standbys is set after the opening. */
  readonly listAfterOpening: boolean;
  /** The intact holder of the newest granted token is not sufficient alone. */
  readonly noHolderRule: boolean;
  /** A promotion outside the target of a set change leaves the change as it is. */
  readonly targetKept: boolean;
  /** The best position is passed over when its node is tagged nofailover. */
  readonly nofailoverSkipped: boolean;
  /** Whether a node may follow is judged by timeline numbers. */
  readonly judgesByTimeline: boolean;
  /** The lease is released while the word is still live. */
  readonly releasesLiveWord: boolean;
  /** Nobody rejoins or follows before `opened`. */
  readonly waitsForOpened: boolean;
  /** A promotion that does not open is waited for for ever. */
  readonly noOpenTimeout: boolean;
  /** The marker can not be read on a standby, as if it were a logical message alone. */
  readonly markerUnreadable: boolean;
  /** A node that gave a token back takes it up again. */
  readonly holdsReleasedToken: boolean;
  /** Reports of an earlier recruit are counted for the present one. */
  readonly keepsOldReports: boolean;
  /** The fork of a promotion is where its own timeline begins, whatever unmarked promotions lie before it. */
  readonly forkOfLastTimeline: boolean;
}

export const soundCluster: ClusterFaults = {
  grantToPromoted: false,
  noHold: false,
  noHoldInQuorumMode: false,
  noPledge: false,
  pledgeVolatile: false,
  conninfoKept: false,
  followsPastPledge: false,
  lsnOnly: false,
  repointedCounts: false,
  oneFewerPosition: false,
  listBeforeCommit: false,
  noProofInSetChange: false,
  opensBeforeMarker: false,
  opensBeforeProof: false,
  listAfterOpening: false,
  noHolderRule: false,
  targetKept: false,
  nofailoverSkipped: false,
  judgesByTimeline: false,
  releasesLiveWord: false,
  waitsForOpened: false,
  noOpenTimeout: false,
  markerUnreadable: false,
  holdsReleasedToken: false,
  keepsOldReports: false,
  forkOfLastTimeline: false,
};
