/** Coverage marks: how often each rare branch ran. A schedule set that leaves one at zero does not prove much about it. */
export class Marks {
  messageLost = 0;
  messageInTail = 0;
  messageDuplicated = 0;
  partitionSymmetric = 0;
  partitionOneWay = 0;
  partitionPartial = 0;
  partitionBridge = 0;
  partitionIsolate = 0;
  partitionJoint = 0;
  connectionReset = 0;
  crashBeforeWrite = 0;
  crashBeforeSync = 0;
  crashBeforeSend = 0;
  crash = 0;
  machineCrash = 0;
  crashInSnapshot = 0;
  writeFailed = 0;
  syncFailed = 0;
  diskStalled = 0;
  tornTail = 0;
  unsyncedSurvived = 0;
  diskLost = 0;
  damageRefused = 0;
  damageHarmless = 0;
  snapshotDamageRefused = 0;
  diskRolledBack = 0;
  rolledBackStopped = 0;
  rolledBackUnproven = 0;
  memberReplaced = 0;
  unsyncedLost = 0;
  restart = 0;
  pause = 0;
  suspend = 0;
  clockRateChanged = 0;
  elected = 0;
  steppedDown = 0;
  committed = 0;
  proposalAcknowledged = 0;
  proposalLost = 0;
  proposalRefused = 0;
  readServed = 0;
  readForwarded = 0;
  transferAsked = 0;
  campaignAsked = 0;
  configurationProposed = 0;
  configurationRefused = 0;
  configurationCommitted = 0;
  jointCommitted = 0;
  leaderRemoved = 0;
  deafAfterFaults = 0;
  logTruncated = 0;
  compacted = 0;
  snapshotInstalled = 0;
  leaseRenewed = 0;
  leaseRefused = 0;
  leaseGranted = 0;
  leaseReleased = 0;
  leaseTakenOver = 0;
  leaseHeldOverElection = 0;

  /** Names of what never happened. */
  unseen(): string[] {
    return Object.entries(this)
      .filter(([, count]) => count === 0)
      .map(([name]) => name);
  }

  add(other: Marks): void {
    const mine = this as unknown as Record<string, number>;
    for (const [name, count] of Object.entries(other) as Array<[string, number]>)
      mine[name] = (mine[name] ?? 0) + count;
  }
}
