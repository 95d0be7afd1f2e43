/**
 * A modelled PostgreSQL server with the extension in it: WAL, recovery, promotion, the lease word and its fence, orphan
 * backends, restarts by an outside supervisor, and the rejoin that runs before a start. Replication is replication.ts.
 */
import { compareTokens, tokensEqual } from "../../src/control/token.js";
import type { SyncList, Token } from "../../src/control/types.js";
import type { NodeId } from "../../src/raft/types.js";
import type { Cluster } from "./cluster.js";
import { foreverMs } from "./profiles.js";
import type { Session } from "./replication.js";
import { type Branch, Branch as BranchOf, branchAt, commonEnd, markerAt } from "./wal.js";

export type ServerPhase = "down" | "preparing" | "starting" | "recovery" | "promoting" | "primary" | "stopping";

/** In shared memory: it outlives the agent and, for orphans, the postmaster; not the next start. */
export interface LeaseWord {
  token: Token | null;
  /** On the machine's boot clock. */
  deadlineMs: number;
  open: boolean;
}

export interface Rejoin {
  readonly token: Token | null;
  method: "rewind" | "rebuild";
  readonly source: NodeId;
  /** due: nothing destroyed. destroyed: local WAL is gone. catching: copied, but not past the source's marker. */
  phase: "due" | "destroyed" | "catching";
}

interface Waiter {
  readonly at: number;
}

export class Server {
  // ---- on disk
  branch: Branch;
  /** Newest record written; what is past `flushed` is lost with the machine. */
  written: number;
  flushed: number;
  /** Newest timeline of which a history file is known here. */
  newestTimeline = 1;
  conninfoOnDisk: NodeId = 0;
  listOnDisk: SyncList | null = null;
  rejoin: Rejoin | null = null;
  /** A primary makes a replication slot for each member; a rejoin leaves none, and without one nobody streams from here. */
  hasSlots = false;
  /** End of the shutdown checkpoint, while pg_control says that the server was shut down. */
  shutdownAt: number | null = null;
  /** This machine has no server: a witness. */
  readonly absent: boolean;

  // ---- in memory
  phase: ServerPhase = "down";
  /** Counts starts of the postmaster. */
  life = 0;
  orphans = false;
  /** The dead postmaster's backends were all seen to have ended; null: not known (yet). */
  backendsGone: boolean | null = null;
  word: LeaseWord = { token: null, deadlineMs: 0, open: false };
  replayed: number;
  conninfo: NodeId = 0;
  upstream: Session | null = null;
  readonly downstreams = new Map<NodeId, Session>();
  /** What the checkpointer has acknowledged: whether commits wait at all. */
  waitsForStandbys = false;
  listGeneration = 0;
  checkpointerGeneration = 0;
  waiters: Waiter[] = [];
  hungUntilMs = 0;
  /** Where this life of the server was promoted; everything up to there is visible at once. */
  visible = 0;
  #reconnecting = false;
  #flushing = false;
  #replaying = false;

  constructor(
    readonly cluster: Cluster,
    readonly id: NodeId,
    branch: Branch,
    end: number,
    absent: boolean,
  ) {
    this.branch = branch;
    this.written = end;
    this.flushed = end;
    this.replayed = end;
    this.absent = absent;
  }

  get alive(): boolean {
    return this.phase !== "down" && this.phase !== "preparing";
  }

  /** Accepts connections. */
  get reachable(): boolean {
    return this.phase === "recovery" || this.phase === "promoting" || this.phase === "primary";
  }

  get timeline(): number {
    return branchAt(this.branch, this.replayed).timeline;
  }

  get markerToken(): Token | null {
    return markerAt(this.branch, this.replayed);
  }

  get replayDone(): boolean {
    return this.phase === "recovery" && this.upstream === null && this.replayed === this.written;
  }

  /** Calls `run` later unless the server has died or started again in between. */
  later(afterMs: number, name: string, run: () => void): void {
    const { life } = this;
    this.cluster.later(this.id, afterMs, name, () => {
      if (this.life === life) run();
    });
  }

  // ---- the fence

  /** The word as a backend reads it, by this machine's clock. */
  isLive(): boolean {
    if (this.word.token === null || !(this.alive || this.orphans)) return false;
    return this.word.deadlineMs > this.cluster.clock(this.id);
  }

  mayWrite(): boolean {
    const outOfRecovery = this.phase === "primary" || this.orphans;
    return outOfRecovery && this.word.open && this.isLive();
  }

  /** The supervisor takes a token only if it is newer than the word's; the same one leaves the word as it is. */
  grantWord(token: Token): boolean {
    const { word } = this;
    if (!this.alive) return false;
    if (word.token !== null && tokensEqual(word.token, token)) return true;
    if (word.token !== null && compareTokens(token, word.token) < 0) return false;
    this.word = { token, deadlineMs: 0, open: false };
    return true;
  }

  extendWord(token: Token, deadlineMs: number): void {
    if (!this.alive || !tokensEqual(this.word.token, token)) return;
    this.word.deadlineMs = Math.max(this.word.deadlineMs, deadlineMs);
  }

  openWord(token: Token): boolean {
    if (!this.alive || !tokensEqual(this.word.token, token)) return false;
    this.word.open = true;
    this.cluster.checker.opening(this);
    return true;
  }

  expireWord(): void {
    this.word.deadlineMs = 0;
    this.word.open = false;
  }

  // ---- writing

  /** Appends one record; it is not on disk yet. */
  append(): number {
    this.branch.end += 1;
    this.written = this.branch.end;
    this.replayed = this.written;
    return this.written;
  }

  /** Flushes what is written and goes on with `then`, one fsync later. */
  flush(then: () => void): void {
    const upTo = this.written;
    const hungMs = Math.max(0, this.hungUntilMs - this.cluster.host.nowMs);
    this.later(hungMs + this.cluster.delay(this.cluster.knobs.flushMeanMs), "flush", () => {
      if (this.flushed < upTo) this.flushed = upTo;
      this.cluster.ship(this);
      then();
    });
  }

  /** A client's commit: checked at its execution and again before it is acknowledged. */
  write(): void {
    const { marks } = this.cluster;
    if (!this.mayWrite()) {
      marks.writeRefusedByFence++;
      return;
    }
    if (this.orphans) marks.orphansWrote++;
    const at = this.append();
    this.flush(() => {
      if (!this.waitsForStandbys) {
        this.acknowledge(at);
        return;
      }
      marks.writeWaitedForStandbys++;
      this.waiters.push({ at });
      this.cluster.releaseWaiters(this);
    });
  }

  acknowledge(at: number): void {
    const { marks, checker } = this.cluster;
    if (!(this.phase === "primary" || this.phase === "stopping" || this.orphans) || !this.word.open || !this.isLive()) {
      marks.ackRefusedByFence++;
      return;
    }
    marks.writeAcked++;
    this.visible = Math.max(this.visible, at);
    checker.acknowledged(this, at);
  }

  /** Whoever waits for a position up to `upTo` goes on. */
  release(upTo: number): void {
    const ready = this.waiters.filter(({ at }) => at <= upTo);
    if (ready.length === 0) return;
    this.waiters = this.waiters.filter(({ at }) => at > upTo);
    for (const { at } of ready) this.acknowledge(at);
  }

  /** The marker, by a session that may write before the word is open; it waits for its own flush only. */
  writeMarker(token: Token, then: (ok: boolean) => void): void {
    const present = this.markerToken;
    if (present !== null && compareTokens(present, token) > 0) {
      then(false);
      return;
    }
    const at = this.append();
    this.branch.markers.push({ at, token });
    this.cluster.checker.marked(this, token);
    this.flush(() => then(true));
  }

  // ---- recovery

  /** New WAL is on disk here: replays it, after a while. */
  replay(): void {
    const { replayMeanMs } = this.cluster.knobs;
    if (replayMeanMs === 0 || this.cluster.host.healed) {
      this.replayed = this.flushed;
      return;
    }
    if (this.#replaying) return;
    this.#replaying = true;
    this.later(this.cluster.delay(replayMeanMs), "replay", () => {
      this.#replaying = false;
      this.replayed = this.flushed;
    });
  }

  promote(): void {
    const { cluster } = this;
    if (this.phase !== "recovery") return;
    this.phase = "promoting";
    cluster.endUpstream(this);
    const finish = (): void => {
      if (this.replayed < this.flushed) {
        this.replay();
        this.later(cluster.knobs.stepMeanMs + 1, "promotion waits for replay", finish);
        return;
      }
      this.leaveRecovery();
      if (hangsAfter) this.hungUntilMs = cluster.host.nowMs + foreverMs;
    };
    const hangs = cluster.mayHang(this) && cluster.chance(cluster.knobs.hangingPromoteChance);
    if (hangs) cluster.marks.promotionHung++;
    // Out of recovery, and then its disk is silent: it goes on renewing, and only the open timeout ends that.
    const hangsAfter = hangs && cluster.knobs.promoteHangMs >= foreverMs;
    const takesMs = hangs && !hangsAfter ? cluster.knobs.promoteHangMs : cluster.delay(cluster.knobs.promoteMeanMs);
    this.later(takesMs, "promotion", finish);
  }

  leaveRecovery(): void {
    const { cluster } = this;
    const timeline = this.newestTimeline + 1;
    this.newestTimeline = timeline;
    this.flushed = this.written;
    // What was streamed may not have reached the newest branch of the upstream yet.
    this.branch = new BranchOf(branchAt(this.branch, this.written), this.written, timeline, this.id);
    this.visible = this.written;
    this.phase = "primary";
    this.hasSlots = true;
    this.conninfo = 0;
    cluster.checker.promoted(this);
    this.append();
    this.flush(() => {});
  }

  // ---- stopping and starting

  stop(mode: "fast" | "immediate"): void {
    const { cluster } = this;
    if (!this.alive) return;
    if (mode === "immediate") {
      this.#end(true);
      return;
    }
    if (this.phase === "stopping") return;
    const wasPrimary = this.phase === "primary";
    this.phase = "stopping";
    if (cluster.chance(cluster.knobs.hangingStopChance)) {
      cluster.marks.stopHung++;
      // The agent insists earlier; when it dies meanwhile, only a person is left.
      this.later(12 * cluster.host.knobs.leaseMs, "somebody kills it", () => this.stop("immediate"));
      return;
    }
    const slow = cluster.chance(cluster.knobs.slowStopChance) ? cluster.delay(cluster.knobs.slowStopMs) : 0;
    cluster.endUpstream(this);
    this.later(cluster.delay(cluster.knobs.flushMeanMs) + slow, "shutdown checkpoint", () => {
      if (wasPrimary) this.append();
      this.flushed = this.written;
      this.shutdownAt = this.flushed;
      cluster.ship(this);
      // Walsenders go on until their standbys have everything, or for a while.
      this.later(cluster.delay(cluster.knobs.shipMeanMs) * 2 + 1, "postmaster ends", () => this.#end(true));
    });
  }

  /** The postmaster dies; the backends notice later, or never while nobody ends them. */
  killPostmaster(): void {
    const { cluster } = this;
    if (!this.alive) return;
    const mayWriteOn = this.phase === "primary";
    this.#end(!mayWriteOn);
    if (!mayWriteOn) return;
    this.orphans = true;
    const linger = cluster.chance(cluster.knobs.orphansLinger);
    const { life } = this;
    if (linger) cluster.marks.orphansOutlivedTheWait++;
    const afterMs = linger ? cluster.delay(cluster.knobs.orphanMs) + 300 : cluster.delay(5);
    cluster.later(this.id, afterMs, "orphans end", () => {
      if (this.life !== life || !this.orphans) return;
      this.expireWord();
      this.orphans = false;
      this.waiters = [];
      this.backendsGone = !linger;
    });
  }

  /** The machine dies: what was not flushed is lost. */
  crashHost(): void {
    const { cluster } = this;
    if (this.flushed < this.written) {
      cluster.marks.unflushedLost++;
      this.written = this.flushed;
      this.replayed = Math.min(this.replayed, this.flushed);
    }
    this.orphans = false;
    this.#noteInterrupted();
    if (this.alive) this.#end(true);
    else {
      this.life++;
      this.phase = "down";
      this.#scheduleStart();
    }
    this.backendsGone = null;
    this.word = { token: null, deadlineMs: 0, open: false };
  }

  #noteInterrupted(): void {
    const { marks } = this.cluster;
    if (this.rejoin === null) return;
    if (this.rejoin.phase === "due") marks.rejoinInterruptedBefore++;
    else if (this.rejoin.phase === "destroyed") marks.rejoinInterruptedDestroyed++;
    else marks.rejoinInterruptedCatching++;
    // What was half done is not trusted: the whole copy is made again.
    if (this.rejoin.phase === "destroyed") this.rejoin.method = "rebuild";
  }

  #end(gone: boolean): void {
    const { cluster } = this;
    cluster.endUpstream(this);
    for (const session of [...this.downstreams.values()]) cluster.endSession(session);
    this.phase = "down";
    this.life++;
    this.conninfo = 0;
    this.hungUntilMs = 0;
    this.#reconnecting = false;
    this.#flushing = false;
    this.#replaying = false;
    this.backendsGone = gone ? true : null;
    if (gone) {
      this.waiters = [];
      this.expireWord();
    }
    this.#scheduleStart();
  }

  /** systemd, or whoever keeps it running. */
  #scheduleStart(): void {
    const { cluster } = this;
    const meanMs = cluster.host.healed ? 20 : cluster.knobs.serverRestartMeanMs;
    this.later(1 + cluster.delay(meanMs), "start", () => this.start());
  }

  start(): void {
    const { cluster } = this;
    if (this.absent || this.phase !== "down") return;
    if (this.orphans) {
      // The old shared memory is still in use.
      this.later(20, "start", () => this.start());
      return;
    }
    if (this.rejoin !== null && this.rejoin.phase !== "catching") {
      this.phase = "preparing";
      this.later(cluster.delay(cluster.knobs.recoveryMeanMs), "prepare", () => this.#prepare());
      return;
    }
    this.life++;
    this.phase = "starting";
    this.flushed = this.written;
    this.shutdownAt = null;
    this.backendsGone = null;
    this.word = { token: null, deadlineMs: 0, open: false };
    this.waitsForStandbys = this.listOnDisk !== null && this.listOnDisk.acks > 0;
    this.listGeneration = 1;
    this.checkpointerGeneration = 1;
    const conninfo = cluster.faults.conninfoKept ? this.conninfoOnDisk : 0;
    this.conninfoOnDisk = conninfo;
    this.later(cluster.delay(cluster.knobs.recoveryMeanMs), "recovery", () => {
      this.phase = "recovery";
      this.replayed = this.flushed;
      this.conninfo = conninfo;
      this.reconnect(0);
    });
  }

  // ---- rejoin, before a start

  #prepare(): void {
    const { cluster } = this;
    const { rejoin } = this;
    if (rejoin === null) return;
    const source = cluster.rejoinSource(this, rejoin);
    if (source === null) {
      cluster.marks.rejoinWaitedForSource++;
      this.later(cluster.knobs.reconnectMs * 2, "prepare again", () => this.#prepare());
      return;
    }
    if (rejoin.phase === "due") {
      rejoin.phase = "destroyed";
      if (rejoin.method === "rewind") cluster.marks.rewindStarted++;
      else cluster.marks.rebuildStarted++;
      const kept = rejoin.method === "rebuild" ? 0 : cluster.random.between(0, 1);
      const common = Math.min(this.written, commonEnd(this.branch, source.branch));
      this.written = Math.floor(common * kept);
      this.flushed = this.written;
      this.replayed = this.written;
    }
    const { life } = source;
    this.later(1 + cluster.delay(cluster.knobs.copyMeanMs), "copy", () => {
      if (source.life !== life || source.phase !== "primary" || !cluster.dataLinked(source.id, this.id)) {
        this.#prepare();
        return;
      }
      this.branch = source.branch;
      this.written = source.flushed;
      this.flushed = source.flushed;
      this.replayed = source.flushed;
      this.newestTimeline = source.newestTimeline;
      this.listOnDisk = null;
      this.hasSlots = false;
      rejoin.phase = "catching";
      this.phase = "down";
      cluster.marks.rejoinDone++;
      this.start();
    });
  }

  /** The rejoin is complete when the source's marker is here; the agent removes its mark. */
  settleRejoin(): void {
    if (this.rejoin?.phase !== "catching") return;
    const { token } = this.rejoin;
    const marker = this.markerToken;
    if (token === null || (marker !== null && compareTokens(marker, token) >= 0)) this.rejoin = null;
  }

  // ---- receiving

  /** Points the receiver somewhere (0: nowhere), on disk and in memory. */
  point(to: NodeId): void {
    this.conninfoOnDisk = to;
    if (this.conninfo === to) return;
    this.conninfo = to;
    this.cluster.endUpstream(this);
    if (to !== 0) this.reconnect(0);
  }

  /** One attempt is scheduled at a time. */
  reconnect(afterMs: number): void {
    if (this.#reconnecting || this.conninfo === 0) return;
    this.#reconnecting = true;
    this.later(afterMs + 1, "receiver", () => {
      this.#reconnecting = false;
      if (this.phase !== "recovery" || this.conninfo === 0 || this.upstream !== null) return;
      if (!this.cluster.connect(this)) this.reconnect(this.cluster.knobs.reconnectMs);
    });
  }

  /** WAL has arrived. */
  receive(branch: Branch, upTo: number, then: () => void): void {
    this.branch = branch;
    this.written = Math.max(this.written, upTo);
    const { standbyFlushMeanMs } = this.cluster.knobs;
    const done = (): void => {
      this.flushed = this.written;
      this.replay();
      this.cluster.ship(this);
      then();
    };
    if (standbyFlushMeanMs === 0) {
      done();
      return;
    }
    if (this.#flushing) return;
    this.#flushing = true;
    this.later(this.cluster.delay(standbyFlushMeanMs), "standby flush", () => {
      this.#flushing = false;
      done();
    });
  }

  /** A receiver flushes what it has written when it ends. */
  receiverEnded(): void {
    if (this.flushed === this.written) return;
    this.flushed = this.written;
    this.replay();
  }
}
