/**
 * When streaming has ended for good and replay is finished: the proof, as a pure function of
 * what was seen, look after look.
 *
 * A. The startup process has read the configuration without an upstream: it can not ask for a receiver with the old
 *    one any more. It says so itself (`pg_replica.startup_generation()`).
 * B. There is no receiver.
 * C. After A and B the startup process is parked in its retry sleep. It goes there only with no receiver running or
 *    requested, so C also means that no receiver comes back.
 *
 * C alone leaves one gap: the startup process may go to sleep right after its receiver has died, before it has read the
 * rest of what that receiver wrote (only when the attempt before failed less than wal_retrieve_retry_interval ago). So
 * C counts when replay has reached the end of what was received; otherwise (the end may lie inside a record, then it is
 * never reached) it is woken once more and must be seen parked again: between two sleeps it reads all of pg_wal.
 */

export interface PledgeLook {
  /** The generation that the startup process acknowledged; null when this server can not tell. */
  readonly startupGeneration: number | null;
  readonly configurationCleared: boolean;
  readonly receiverPid: number | null;
  readonly startupWaitEvent: string | null;
  /** Nothing was received since the server started, or replay has reached the end of it. */
  readonly replayedAllReceived: boolean;
}

export type PledgeStage =
  | { readonly kind: "ending" }
  /** A and B were seen in an earlier look. */
  | { readonly kind: "ended" }
  /** Parked with an unreplayed tail: woken by a second reload. */
  | { readonly kind: "woken"; readonly generation: number; readonly sinceMs: number }
  | { readonly kind: "proven" };

export interface PledgeRules {
  readonly generation: number;
  /** How long one sleep of the startup process can last (wal_retrieve_retry_interval). */
  readonly retrySleepMs: number;
  readonly parkedWaitEvent: string;
}

export type PledgeStep = { readonly stage: PledgeStage; readonly wake: boolean };

/** What a look means. `wake`: reload once more with generation + 1, then go on from the returned stage. */
export function nextPledgeStage(stage: PledgeStage, look: PledgeLook, rules: PledgeRules, nowMs: number): PledgeStep {
  const stay = { stage, wake: false };
  const ended = look.configurationCleared && look.receiverPid === null && acknowledged(look, rules.generation);
  if (stage.kind === "proven") return stay;
  if (!ended) return { stage: { kind: "ending" }, wake: false };
  if (stage.kind === "ending") return { stage: { kind: "ended" }, wake: false };
  if (look.startupWaitEvent !== rules.parkedWaitEvent) return stay;
  if (look.replayedAllReceived) return { stage: { kind: "proven" }, wake: false };
  if (stage.kind === "ended") {
    return { stage: { kind: "woken", generation: rules.generation + 1, sinceMs: nowMs }, wake: true };
  }
  return wokenAgain(stage, look, rules, nowMs) ? { stage: { kind: "proven" }, wake: false } : stay;
}

function acknowledged(look: PledgeLook, generation: number): boolean {
  return look.startupGeneration === null || look.startupGeneration >= generation;
}

/** Without acknowledgements: no sleep lasts longer than its interval (twice, for a slow machine), so this is another. */
function wokenAgain(
  stage: Extract<PledgeStage, { kind: "woken" }>,
  look: PledgeLook,
  rules: PledgeRules,
  nowMs: number,
): boolean {
  if (look.startupGeneration !== null) return look.startupGeneration >= stage.generation;
  return nowMs - stage.sinceMs > 2 * rules.retrySleepMs;
}

/** What is still missing, for the error at the deadline. */
export function describeMissing(stage: PledgeStage, look: PledgeLook | null, rules: PledgeRules): string {
  if (look === null) return "the server was not looked at";
  const missing: string[] = [];
  if (!look.configurationCleared)
    missing.push("primary_conninfo or restore_command is still set (on the command line?)");
  if (!acknowledged(look, rules.generation)) {
    missing.push(`the startup process has not read the configuration (generation ${rules.generation})`);
  }
  if (look.receiverPid !== null) missing.push(`the WAL receiver ${look.receiverPid} is still there`);
  if (missing.length === 0) {
    const where = look.startupWaitEvent ?? "running";
    missing.push(`replay is not finished (startup process: ${where}; ${stage.kind})`);
  }
  return missing.join("; ");
}
