/** Carries out one action of `decideNode` at a time, in durable steps; the order is that of src/agent/executor.ts. */
import type { NodeAction } from "../../src/control/decisions.js";
import { sameSet } from "../../src/control/durability.js";
import { promotionOf } from "../../src/control/membership.js";
import { newerToken, tokensEqual } from "../../src/control/token.js";
import type { Lsn, Report, SyncList, Token } from "../../src/control/types.js";
import type { NodeAgent, NodeFile, Observation } from "./agent.js";
import { confirmedBy, listInForce, setList } from "./replication.js";
import { forkFrom, toLsn } from "./wal.js";

type ActionOf<K extends NodeAction["type"]> = Extract<NodeAction, { type: K }>;

const pledgeDeadlineMs = 5000;
const handoverDeadlineMs = 10_000;

export class Executor {
  readonly #agent: NodeAgent;
  #busy = false;
  #again = false;
  /** Steps of an execution that was given up do nothing. */
  #run = 0;
  #seen: Observation | null = null;
  /** What is called when the lease word has moved. */
  #awaitsLease: (() => void) | null = null;
  /** An action that waits for others; it is given up as soon as something else is to be done. */
  #interruptible = false;
  /** The list that is being proven. */
  #proving: SyncList | null = null;

  constructor(agent: NodeAgent) {
    this.#agent = agent;
  }

  kick(): void {
    if (this.#busy) {
      this.#again = true;
      if (this.#interruptible) this.#reconsider();
      return;
    }
    const agent = this.#agent;
    if (agent.serverGone) {
      this.#reportUnable("the server is down");
      return;
    }
    const urgent = this.#urgent();
    if (urgent === null) this.#seen = agent.observe();
    this.#perform(urgent ?? agent.decide(this.#seen as Observation));
  }

  /** A recruit or promotion does not wait for another look: the last one will do. */
  #urgent(): NodeAction | null {
    if (this.#seen?.reachable !== true) return null;
    const action = this.#agent.decide(this.#seen);
    return action.type === "pledge" || action.type === "promote" ? action : null;
  }

  #reconsider(): void {
    const agent = this.#agent;
    this.#seen = agent.observe();
    const action = agent.decide(this.#seen);
    if (action.type === "proveSyncList" && this.#proving !== null && sameSet(action.list, this.#proving)) return;
    this.abandon();
    this.#perform(action);
  }

  abandon(): void {
    this.#run++;
    this.#busy = false;
    this.#interruptible = false;
    this.#proving = null;
    this.#awaitsLease = null;
  }

  leaseMoved(): void {
    const wake = this.#awaitsLease;
    if (wake === null || !this.#agent.isLeaseLive) return;
    this.#awaitsLease = null;
    wake();
  }

  /** One step later: here a crash of the agent, the server or the machine may come between. */
  step(name: string, afterMs: number, then: () => void): void {
    const run = this.#run;
    const { cluster, id } = this.#agent;
    cluster.agentLater(id, afterMs, name, () => {
      if (run !== this.#run || cluster.agents[id] !== this.#agent) return;
      if (cluster.crashInStep(this.#agent.machine, name)) return;
      then();
    });
  }

  save(name: string, change: Partial<NodeFile>, then: () => void): void {
    this.step(name, this.#agent.cluster.delay(this.#agent.cluster.knobs.stepMeanMs), () => {
      Object.assign(this.#agent.file, change);
      // Another step, so that a crash can come between it and what follows.
      this.step(`${name} is durable`, 0, then);
    });
  }

  #stepMs(): number {
    const { cluster } = this.#agent;
    return cluster.delay(cluster.knobs.stepMeanMs);
  }

  #done(): void {
    this.abandon();
    if (!this.#again) return;
    this.#again = false;
    // Through the queue, so that one kick never runs inside another.
    this.step("look again", 0, () => this.kick());
  }

  /** The server is not as it was seen last: it is looked at again before anything else. */
  #failed(): void {
    this.#seen = null;
    this.#done();
  }

  #perform(action: NodeAction): void {
    const agent = this.#agent;
    const { marks } = agent.cluster;
    if (action.type !== "none" || agent.lastAction !== "none") {
      marks[`node:${action.type}`] = (marks[`node:${action.type}`] ?? 0) + 1;
    }
    agent.lastAction = action.type;
    this.#again = false;
    if (agent.leaving || agent.handingOver) {
      agent.insistOnStop();
      if (action.type === "pledge") agent.sendReport(action.token, this.#leavingReport());
      return;
    }
    switch (action.type) {
      case "none":
        return;
      case "pledge":
        this.#pledge(action);
        return;
      case "promote":
        this.#promote(action);
        return;
      case "setSyncList":
        this.#setSyncList(action.list);
        return;
      case "mark":
        this.#mark(action.token, () => this.#done());
        return;
      case "proveSyncList":
        this.#prove(action.list);
        return;
      case "settle":
        this.#settle(action);
        return;
      case "open":
        this.#open(action.token, action.timeline, action.forkLsn);
        return;
      case "follow":
        this.#follow(action);
        return;
      case "rejoin":
        this.#rejoin(action);
        return;
      case "demote":
        this.#demote();
        return;
      case "release":
        this.#release(action);
        return;
      case "handover":
        this.#handOver(action.token);
        return;
    }
  }

  #begin(): void {
    this.#run++;
    this.#busy = true;
  }

  // ---- pledge

  #leavingReport(): Report {
    const { cluster, rejoining } = this.#agent;
    if (rejoining) cluster.marks.reportedRejoining++;
    return rejoining ? { kind: "rejoining" } : { kind: "unable", why: "the server is being stopped" };
  }

  #reportUnable(why: string): void {
    const { state, cluster } = this.#agent;
    if (state.phase.kind !== "recruit" || state.current === null) return;
    cluster.marks.reportedUnable++;
    this.#agent.sendReport(state.current, { kind: "unable", why });
  }

  #pledge({ token, waitLsn }: ActionOf<"pledge">): void {
    const agent = this.#agent;
    const { cluster, server } = agent;
    if (this.#seen?.reachable !== true) {
      this.#reportUnable("the server was not reachable");
      return;
    }
    this.#begin();
    const untilMs = cluster.host.nowMs + pledgeDeadlineMs;
    const waitPosition = waitLsn === null ? 0 : Number.parseInt(waitLsn.split("/")[1] as string, 16);
    const awaitReplay = (): void => {
      if (
        server.replayed < waitPosition &&
        cluster.host.nowMs < untilMs &&
        agent.isAttached &&
        server.phase === "recovery"
      ) {
        this.step("wait for the shutdown checkpoint", cluster.knobs.stepMeanMs * 2 + 5, awaitReplay);
        return;
      }
      // The configuration is written before the pledge is recorded; nobody reads it without a reload.
      if (agent.isAttached && !cluster.faults.conninfoKept && !cluster.faults.noPledge) server.conninfoOnDisk = 0;
      const recorded = (): void => this.#endReceiver(token, untilMs + pledgeDeadlineMs);
      if (cluster.faults.pledgeVolatile) this.step("pledge", this.#stepMs(), recorded);
      else this.save("pledge", { pledge: newerToken(agent.file.pledge, token) }, recorded);
    };
    awaitReplay();
  }

  #endReceiver(token: Token, untilMs: number): void {
    const agent = this.#agent;
    const { cluster, server } = agent;
    if (agent.isAttached && server.phase === "recovery" && !cluster.faults.noPledge) {
      const kept = server.conninfoOnDisk;
      server.point(0);
      server.conninfoOnDisk = cluster.faults.conninfoKept ? kept : 0;
    }
    const prove = (): void => {
      if (!agent.isAttached || server.phase !== "recovery") {
        this.#reportUnable("the server went away");
        this.#failed();
        return;
      }
      const done = cluster.faults.noPledge ? true : server.replayDone;
      if (done) {
        this.#report(token);
        return;
      }
      if (server.replayed < server.flushed) {
        cluster.marks.replayBacklog++;
        server.replay();
      }
      if (cluster.host.nowMs > untilMs) {
        this.#reportUnable("its pledge could not be proven");
        this.#failed();
        return;
      }
      this.step("prove the pledge", cluster.knobs.stepMeanMs * 2 + 5, prove);
    };
    this.step("end the receiver", this.#stepMs(), prove);
  }

  #report(token: Token): void {
    const agent = this.#agent;
    const { cluster, server, file } = agent;
    const { phase } = agent.state;
    const from = phase.kind === "recruit" ? phase.from : null;
    const { faults } = cluster;
    const isRejoining = server.rejoin !== null;
    if (isRejoining) cluster.marks.reportedRejoining++;
    let marker = server.markerToken;
    if (faults.lsnOnly || faults.markerUnreadable) marker = null;
    else if (faults.repointedCounts) marker = newerToken(marker, file.pointedAt);
    const report: Report = isRejoining
      ? { kind: "rejoining" }
      : {
          kind: "position",
          token: marker,
          lsn: toLsn(server.replayed),
          timeline: server.timeline,
          followedSinceStart: from !== null && tokensEqual(agent.followed, from),
          lastPrimaryLsn: agent.lastPrimary === null ? null : toLsn(agent.lastPrimary),
          wasHolder: from !== null && tokensEqual(file.promotedUnder, from) && tokensEqual(server.markerToken, from),
        };
    agent.pledgedFor = token;
    agent.report = { token, report };
    cluster.checker.reported(server, token);
    agent.sendReport(token, report);
    this.#done();
  }

  // ---- promotion and opening

  #promote({ token, list }: ActionOf<"promote">): void {
    const agent = this.#agent;
    const { cluster, server } = agent;
    this.#begin();
    if (!agent.hold(token)) {
      this.#done();
      return;
    }
    if (server.word.open && agent.state.phase.kind === "steady") {
      cluster.marks.openedAgainAfterAgentRestart++;
      agent.probeOkMs = agent.now;
      this.#done();
      return;
    }
    this.#awaitLive(token, () => {
      if (this.#seen?.inRecovery === false) {
        this.#promoted(token, list);
        return;
      }
      if (cluster.chance(cluster.knobs.vetoChance)) {
        cluster.marks.promotionRefusedByHook++;
        this.#veto(token);
        return;
      }
      if (!agent.stillHolds(token)) {
        this.#done();
        return;
      }
      const goOn = (): void =>
        this.save("promotion", { promotedUnder: token, pledge: newerToken(agent.file.pledge, token) }, () => {
          if (!agent.isAttached) {
            this.#done();
            return;
          }
          server.promote();
          this.#awaitPromotion(token, list, cluster.host.nowMs + Math.max(1000, agent.state.leaseMs));
        });
      if (list === null || cluster.faults.listAfterOpening) goOn();
      else this.#putList(list, goOn);
    });
  }

  #awaitLive(token: Token, then: () => void): void {
    const agent = this.#agent;
    if (agent.isLeaseLive) {
      then();
      return;
    }
    const give = Math.max(1000, agent.state.leaseMs);
    const run = this.#run;
    this.#awaitsLease = () => {
      if (run === this.#run) this.step("lease is live", 0, then);
    };
    this.step("lease did not come", give, () => {
      if (this.#awaitsLease === null) return;
      this.#awaitsLease = null;
      this.#done();
    });
    if (agent.token === null || !tokensEqual(agent.token, token)) this.#awaitsLease = null;
  }

  #veto(token: Token): void {
    const agent = this.#agent;
    agent.forget();
    this.save("renounce", { promotedUnder: token }, () => {
      if (!agent.cluster.faults.releasesLiveWord) agent.server.expireWord();
      agent.submit({ type: "release", token, shutdownLsn: null, text: "the pre_promote hook refused" });
      this.#done();
    });
  }

  #awaitPromotion(token: Token, list: SyncList | null, untilMs: number): void {
    const agent = this.#agent;
    const { server, cluster } = agent;
    const look = (): void => {
      if (!agent.isAttached || cluster.host.nowMs > untilMs) {
        this.#failed();
        return;
      }
      if (server.phase === "primary") this.#promoted(token, list);
      else this.step("promotion", cluster.knobs.stepMeanMs + 2, look);
    };
    this.step("promotion", 2, look);
  }

  /** Out of recovery. With a list the steps to the opening are actions of their own. */
  #promoted(token: Token, list: SyncList | null): void {
    const agent = this.#agent;
    if (!agent.isAttached || !agent.stillHolds(token)) {
      this.#done();
      return;
    }
    if (agent.cluster.faults.opensBeforeMarker) agent.server.openWord(token);
    if (list !== null) {
      this.#done();
      return;
    }
    const { timeline } = agent.server.branch;
    const forkLsn = this.#forkLsn(token);
    this.#mark(token, () => {
      if (agent.stillHolds(token)) this.#open(token, timeline, forkLsn);
      else this.#done();
    });
  }

  /** Where this server's history leaves the timeline of its last marker: others may be on that one. */
  #forkLsn(token: Token): Lsn {
    const { state, server, cluster } = this.#agent;
    if (cluster.faults.forkOfLastTimeline) return toLsn(server.branch.forkAt);
    const parent = promotionOf(state, promotionOf(state, token)?.parent ?? null);
    return toLsn(forkFrom(server.branch, parent?.timeline ?? null));
  }

  #mark(token: Token, then: () => void): void {
    const agent = this.#agent;
    const { server } = agent;
    this.#begin();
    this.step("marker", this.#stepMs(), () => {
      if (!agent.isAttached || server.phase !== "primary") {
        this.#done();
        return;
      }
      const run = this.#run;
      server.writeMarker(token, (ok) => {
        if (run !== this.#run || !ok) return;
        this.step("marker is written", 0, () => {
          const { timeline } = server.branch;
          if (agent.state.durability.members.length > 0) {
            agent.submit({ type: "marked", token, timeline, forkLsn: this.#forkLsn(token) });
          }
          then();
        });
      });
      // A server that hangs does not answer; the next look decides again.
      this.step("marker did not come", 10_000, () => this.#done());
    });
  }

  #open(token: Token, timeline: number, forkLsn: string): void {
    const agent = this.#agent;
    this.#begin();
    this.step("open", this.#stepMs(), () => {
      if (agent.isAttached && agent.stillHolds(token) && agent.server.openWord(token)) {
        agent.cluster.marks.opened++;
        agent.submit({ type: "opened", token, timeline, forkLsn });
      }
      this.#done();
    });
  }

  // ---- the list of synchronous standbys

  #setSyncList(list: SyncList): void {
    this.#begin();
    if (this.#agent.cluster.faults.listAfterOpening && this.#agent.state.phase.kind === "granted") {
      this.#agent.sync = { list, provenLsn: null };
      this.#done();
      return;
    }
    this.#putList(list, () => this.#done());
  }

  #putList(list: SyncList, then: () => void): void {
    const agent = this.#agent;
    const { cluster, server } = agent;
    agent.sync = { list: null, provenLsn: null };
    this.step("set the list", this.#stepMs(), () => {
      if (!agent.isAttached) {
        this.#done();
        return;
      }
      setList(cluster, server, list);
      const look = (): void => {
        if (!agent.isAttached) {
          this.#done();
          return;
        }
        if (!listInForce(server)) {
          this.step("list is in force", cluster.knobs.reloadMeanMs + 2, look);
          return;
        }
        agent.sync = { list, provenLsn: null };
        then();
      };
      this.step("list is in force", 1, look);
    });
  }

  #prove(list: SyncList): void {
    const agent = this.#agent;
    const { cluster, server } = agent;
    const { noProofInSetChange, opensBeforeProof } = cluster.faults;
    const isOpening = agent.state.phase.kind === "granted";
    if (isOpening ? opensBeforeProof : noProofInSetChange) {
      agent.sync = { list, provenLsn: toLsn(server.flushed) };
      return;
    }
    this.#begin();
    this.step("write a record", this.#stepMs(), () => {
      if (!agent.isAttached || server.phase !== "primary") {
        this.#done();
        return;
      }
      const at = server.append();
      this.#interruptible = true;
      this.#proving = list;
      server.flush(() => {});
      const look = (): void => {
        if (!agent.isAttached) {
          this.#done();
          return;
        }
        const confirmed = confirmedBy(server, list);
        if (server.flushed >= at && confirmed !== null && confirmed >= at) {
          agent.sync = { list, provenLsn: toLsn(at) };
          this.#done();
        } else this.step("proof", cluster.knobs.stepMeanMs * 2 + cluster.knobs.shipMeanMs, look);
      };
      look();
    });
  }

  #settle({ token, version, lsn }: ActionOf<"settle">): void {
    this.#agent.submit({ type: "settleSetChange", token, version, lsn });
    this.#begin();
    this.step("settle", this.#agent.state.leaseMs / 20, () => this.#done());
  }

  // ---- following and leaving

  #follow({ token, primary }: ActionOf<"follow">): void {
    const agent = this.#agent;
    const { cluster, server } = agent;
    this.#begin();
    const point = (): void =>
      this.step("point the receiver", this.#stepMs(), () => {
        if (agent.isAttached && server.phase === "recovery") {
          server.point(primary.id);
          cluster.checker.pointed(server, token, primary.id);
        }
        this.#done();
      });
    if (tokensEqual(agent.file.pointedAt, token)) point();
    else this.save("pointedAt", { pointedAt: token }, point);
  }

  #rejoin({ token, primary, method }: ActionOf<"rejoin">): void {
    const agent = this.#agent;
    const { server } = agent;
    this.#begin();
    this.step("rejoin intent", this.#stepMs(), () => {
      server.rejoin = { token, method, source: primary.id, phase: "due" };
      agent.leaving = true;
      agent.rejoining = true;
      agent.stopServer("fast");
      this.#done();
    });
  }

  #demote(): void {
    const agent = this.#agent;
    agent.leaving = true;
    agent.forget();
    this.#begin();
    this.step("expire the word", this.#stepMs(), () => {
      if (agent.isAttached) agent.server.expireWord();
      agent.stopServer("immediate");
      this.#done();
    });
  }

  #release({ token, text }: ActionOf<"release">): void {
    const agent = this.#agent;
    agent.forget();
    this.#begin();
    this.step("expire the word", this.#stepMs(), () => {
      if (agent.isAttached && !agent.cluster.faults.releasesLiveWord) agent.server.expireWord();
      agent.submit({ type: "release", token, shutdownLsn: null, text });
      this.step("release", agent.state.leaseMs / 20, () => this.#done());
    });
  }

  #handOver(token: Token): void {
    const agent = this.#agent;
    const { server, cluster } = agent;
    this.#begin();
    this.step("checkpoint", cluster.delay(cluster.knobs.stepMeanMs * 3), () => {
      const { handover } = agent.state;
      if (handover === null || !tokensEqual(handover.from, token) || !agent.isAttached) {
        this.#done();
        return;
      }
      agent.handingOver = true;
      agent.forget();
      this.step("expire the word", this.#stepMs(), () => {
        if (!cluster.faults.releasesLiveWord) server.expireWord();
        agent.stopServer("fast");
        this.#awaitShutdown(token, cluster.host.nowMs + Math.min(handoverDeadlineMs, 4 * agent.state.leaseMs));
      });
    });
  }

  #awaitShutdown(token: Token, untilMs: number): void {
    const agent = this.#agent;
    const { server, cluster } = agent;
    const look = (): void => {
      if (server.shutdownAt !== null) {
        agent.submit({
          type: "release",
          token,
          shutdownLsn: toLsn(server.shutdownAt),
          text: "shut down for the switchover",
        });
        this.#done();
      } else if (cluster.host.nowMs > untilMs) {
        agent.stopServer("immediate");
        this.#done();
      } else this.step("shutdown checkpoint", cluster.knobs.stepMeanMs + 5, look);
    };
    this.step("shutdown checkpoint", 1, look);
  }
}
