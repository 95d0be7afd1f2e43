/**
 * The agent: puts the pure core, the control machine, storage, transport and the local server together. This file only
 * wires; what is decided stands in src/control, what is done to PostgreSQL in src/postgres.
 */
import { join } from "node:path";
import { compareTokens, leaseTimings, tokensEqual } from "../control/index.js";
import type { AgentConfig, CommandBody, Gossip, Lsn, Member, NodeView, Report, Token } from "../control/types.js";
import { createHttpServer, type HttpServer } from "../http/server.js";
import { createLocalServer, readControlFile, stopServer, waitForShutdownCheckpoint } from "../postgres/index.js";
import type { LocalServer } from "../postgres/types.js";
import { oldestWalLsn } from "../postgres/wal-files.js";
import { createRaftNode } from "../raft/index.js";
import type { NodeId } from "../raft/types.js";
import { lockStateDir, readNodeState, writeFileAtomically, writeNodeState } from "../storage/index.js";
import { createTransport, requireFreePort } from "../transport/index.js";
import type { AppMessage, GuestRequest, GuestResponse, PeerIdentity, Transport } from "../transport/types.js";
import { delay, monotonicMs, wallClockMs } from "./clock.js";
import { changingCommands, handleCommand } from "./commands.js";
import { type Credentials, loadCredentials } from "./credentials.js";
import { CommandError, describeError } from "./errors.js";
import { Executor, memberSlotName } from "./executor.js";
import { Hooks } from "./hooks.js";
import { describeSelf, establishIdentity, founderId, type Identity, type KnownPeer, serverMajor } from "./identity.js";
import { LeaderLoop } from "./leader-loop.js";
import { LeaseKeeper } from "./lease-keeper.js";
import { LocalSocket, localSocketPath } from "./local-socket.js";
import { Logger } from "./logger.js";
import { RaftDriver } from "./raft-driver.js";
import { compactEvery, raftSettings, reconnectDelays, tickIntervalMs } from "./raft-settings.js";
import { controlMachine } from "./state-machine.js";
import { Submitter } from "./submitter.js";
import type { SupervisorLink } from "./supervisor-link.js";
import { agentVersion, buildGossip, buildView } from "./view.js";

/** How long a dead server's agent goes on, to hand over, before it makes room for the next one. */
const lingerMs = 3000;
/** How long the next agent waits for that. */
const lockWaitMs = 10_000;
/** A little more than the supervisor takes at most to see the orphans end. */
const proofWaitMs = 1000;
const slotsEveryMs = 3000;
const supervisorGoneMs = 1000;
/** A fast shutdown waits for the standbys and writes a checkpoint. */
const supervisorGoneStoppingMs = 120_000;

type PeerGossip = { readonly receivedAtMs: number; readonly gossip: Gossip };

export class Agent {
  readonly #link: SupervisorLink;
  readonly #exit: (code: 0 | 1) => void;
  readonly #log: Logger;
  readonly #gossip = new Map<NodeId, PeerGossip>();
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #startedAtMs = monotonicMs();
  #config: AgentConfig;
  #parts: Parts | null = null;
  #transport: Transport | null = null;
  #stopping = false;
  #ending = false;
  #backendsGone: boolean | null = null;
  #loopAtMs = monotonicMs();
  #peersKey = "";
  #leaderSeenAtMs = 0;
  #removalSaid = false;
  #submitting = false;
  #oldestLsn: Lsn | null = null;

  constructor(link: SupervisorLink, config: AgentConfig, exit: (code: 0 | 1) => void) {
    this.#link = link;
    this.#config = config;
    this.#exit = exit;
    this.#log = new Logger((level, message) => link.log(level, message), config.logLevel);
  }

  /** @throws when this node's identity, secrets, ports or files do not allow it to run; the message says what to do. */
  async start(): Promise<void> {
    const config = this.#config;
    await lockStateDir(config.stateDir, lockWaitMs);
    const socket = new LocalSocket(
      localSocketPath(config.server.socketDirectory, config.server.port),
      (command, args) => this.#command(command, args),
      (text) => this.#log.warning(text),
    );
    await socket.start();
    const credentials = await loadCredentials(config);
    await this.#requireFreePorts();
    const identity = await establishIdentity({
      config,
      credentials,
      log: this.#log,
      ownMarker: () => this.#ownMarker(),
    });
    const parts = await this.#assemble(identity);
    await this.#openTransport(parts, identity, credentials);
    await this.#openHttp();
    this.#parts = parts;
    parts.driver.start();
    this.#startTimers(parts);
    this.#log.info(
      `agent ${agentVersion} of node ${config.nodeId} (member ${identity.meta.raftId}) is up on port ${config.raftPort}`,
    );
    this.#applied();
    if (identity.meta.raftId === founderId && parts.driver.state.members.length === 0) parts.driver.campaign();
  }

  configChanged(config: AgentConfig): void {
    const before = this.#config;
    this.#config = config;
    this.#log.level = config.logLevel;
    const state = this.#parts?.driver.state;
    if (
      state !== undefined &&
      config.failoverTimeoutMs !== before.failoverTimeoutMs &&
      state.leaseMs !== config.failoverTimeoutMs
    ) {
      this.#log.warning(
        `pg_replica.failover_timeout_ms was fixed for the cluster at ${state.leaseMs} ms when it was made; the new value of this node is not used`,
      );
    }
    if (
      config.raftPort !== before.raftPort ||
      config.httpPort !== before.httpPort ||
      config.listenAddresses !== before.listenAddresses
    ) {
      this.#log.info("a port or listen address changed: starting this agent again");
      this.terminate();
    }
  }

  /** The server stops in good order; this agent goes on until it is gone, to hand over. */
  serverStopping(): void {
    this.#stopping = true;
  }

  backendsEnded(gone: boolean): void {
    this.#backendsGone = gone;
  }

  supervisorGone(): void {
    if (this.#ending) return;
    // In a server that stops, or that crashes, the postmaster's own end comes next, and that is what counts. A worker that
    // ended alone is started again after a second, and its agent needs this one's place.
    const patienceMs = this.#stopping ? supervisorGoneStoppingMs : supervisorGoneMs;
    setTimeout(() => {
      if (!this.#ending) this.#end(1, "the supervisor is gone and the postmaster is not");
    }, patienceMs).unref();
  }

  /** The postmaster is gone: give the lease back if it is sure that nobody writes any more, hand over, and end. */
  postmasterGone(): void {
    if (this.#ending) return;
    this.#ending = true;
    const parts = this.#parts;
    if (parts === null) {
      this.#end(0, null);
      return;
    }
    parts.executor.serverDied();
    this.#handOverAfterDeath(parts).then(
      () => this.#end(0, null),
      (error: unknown) => this.#end(1, `handing over failed: ${describeError(error)}`),
    );
  }

  /** SIGTERM: at once, unless the server is stopping; then its end decides. */
  terminate(): void {
    if (this.#stopping || this.#ending) return;
    this.#end(0, null);
  }

  async #handOverAfterDeath(parts: Parts): Promise<void> {
    const until = monotonicMs() + lingerMs;
    const token = parts.lease.token;
    if (token !== null) {
      const proof = await this.#nobodyWrites();
      // Forgotten before the release is sent: a confirmation that is still on its way moves nothing.
      parts.lease.forget();
      if (proof.sure) {
        await parts.executor.renounce(token);
        const outcome = await parts.submitter.submit({
          type: "release",
          token,
          shutdownLsn: proof.shutdownLsn,
          text: proof.text,
        });
        if (!outcome.ok) this.#log.warning(`the lease was not given back: ${outcome.message}; the others wait it out`);
      } else {
        this.#log.warning("not every backend of the dead server was seen to have ended: the lease has to run out");
      }
    }
    while (monotonicMs() < until && !this.#handedOver(parts)) await delay(20);
  }

  #handedOver(parts: Parts): boolean {
    const { role } = parts.driver.status();
    const { phase, lastGranted } = parts.driver.state;
    const otherHolds = lastGranted !== null && lastGranted.holder !== parts.selfId && phase.kind === "steady";
    return role !== "leader" && otherHolds;
  }

  /** Whether it is certain that no backend of the dead server acknowledges anything any more. */
  async #nobodyWrites(): Promise<{ sure: boolean; shutdownLsn: string | null; text: string }> {
    const name = this.#config.nodeId;
    if (this.#stopping) {
      const shutdownLsn = await waitForShutdownCheckpoint(this.#config.server.pgdata, 200).catch(() => null);
      if (shutdownLsn !== null) {
        return { sure: true, shutdownLsn, text: `${name} was shut down in good order at ${shutdownLsn}.` };
      }
    }
    const until = monotonicMs() + proofWaitMs;
    while (this.#backendsGone === null && monotonicMs() < until) await delay(2);
    return {
      sure: this.#backendsGone === true,
      shutdownLsn: null,
      text: `The postmaster of ${name} died and all of its backends were seen to have ended.`,
    };
  }

  #end(code: 0 | 1, problem: string | null): void {
    this.#ending = true;
    if (problem !== null) this.#log.error(problem);
    for (const timer of this.#timers) clearInterval(timer);
    this.#exit(code);
  }

  #localServer(): LocalServer {
    const config = this.#config;
    return createLocalServer({
      socketDirectory: config.server.socketDirectory,
      port: config.server.port,
      dsn: config.advertiseDsn,
      markerKey: config.markerKey,
      bindir: config.server.bindir,
      pgdata: config.server.pgdata,
      log: (level, message) => this.#log[level](message),
    });
  }

  /** Asked for once, before a node that has no identity makes a cluster: waits until the server can be read. */
  async #ownMarker(): Promise<Token | null> {
    const server = this.#localServer();
    try {
      for (let last = ""; ; await delay(100)) {
        const { reachable, markerToken, why } = await server.observe();
        if (reachable) return markerToken;
        if (why !== null && why !== last) this.#log.info(`waiting for the local server to be readable: ${why}`);
        last = why ?? last;
      }
    } finally {
      await server.close();
    }
  }

  async #assemble(identity: Identity): Promise<Parts> {
    const config = this.#config;
    const selfId = identity.meta.raftId;
    const nodeState = await readNodeState(config.stateDir);
    const initialLeaseMs = config.failoverTimeoutMs;
    const timings = leaseTimings(initialLeaseMs);
    const raft = createRaftNode({
      id: selfId,
      ...raftSettings(timings),
      random: Math.random,
      initial: identity.storage.initial,
    });
    const driver = new RaftDriver({
      node: raft,
      storage: identity.storage,
      machine: controlMachine,
      send: (message) => this.#transport?.sendRaft(message),
      onApplied: () => this.#applied(),
      onReadState: (readState) => this.#parts?.leader.roundConfirmed(readState),
      onFatal: (error) => this.#end(1, `the control plane of this node can not go on: ${describeError(error)}`),
      tickIntervalMs: tickIntervalMs(timings),
      compactEvery,
    });
    const leaseMs = () => (driver.state.leaseMs > 0 ? driver.state.leaseMs : initialLeaseMs);
    const submitter = new Submitter(selfId, config.nodeId, driver, () => this.#transport);
    const server = this.#localServer();
    const lease: LeaseKeeper = new LeaseKeeper({
      link: this.#link,
      log: this.#log,
      leaseMs,
      unfit: () => executor.unfit(leaseMs()),
      sendRenewal: (token, stampNs) => this.#sendRenewal(token, stampNs),
    });
    const executor = new Executor({
      selfId,
      selfName: config.nodeId,
      log: this.#log,
      server,
      lease,
      hooks: new Hooks({
        nodeName: config.nodeId,
        log: this.#log,
        onRoleChange: () => this.#config.onRoleChange,
        prePromote: () => this.#config.prePromote,
      }),
      state: () => driver.state,
      primaryOldestLsn: () => this.#primaryOldestLsn(driver.state.lastGranted?.holder),
      markerKey: config.markerKey,
      submit: (command) => submitter.submit(command),
      sendReport: (token, report) => this.#sendReport(token, report),
      nodeState,
      saveNodeState: (state) => writeNodeState(config.stateDir, state),
      saveRejoinIntent: (intent) =>
        writeFileAtomically(join(config.stateDir, "rejoin.json"), `${JSON.stringify(intent, null, 2)}\n`, 0o600),
      expireWord: async () => {
        await this.#link.expire();
      },
      stopServer: (mode) => this.#stopServer(mode),
      waitForShutdownCheckpoint: (deadlineMs) => waitForShutdownCheckpoint(config.server.pgdata, deadlineMs),
      onObserved: () => {
        this.#loopAtMs = monotonicMs();
      },
    });
    const leader = new LeaderLoop({
      selfId,
      selfName: config.nodeId,
      driver,
      log: this.#log,
      gossip: this.#gossip,
      answerRenewal: (to, token, stampNs, refusal) => this.#answerRenewal(to, token, stampNs, refusal),
      maximumLagOnFailover: () => this.#config.maximumLagOnFailover,
    });
    return { identity, selfId, driver, submitter, server, lease, executor, leader, leaseMs };
  }

  async #openTransport(parts: Parts, identity: Identity, credentials: Credentials): Promise<void> {
    const config = this.#config;
    const timings = leaseTimings(parts.leaseMs());
    const transport = createTransport({
      self: {
        clusterId: identity.meta.clusterId,
        id: parts.selfId,
        name: config.nodeId,
        incarnation: identity.meta.incarnation,
      },
      listenAddresses: config.listenAddresses,
      port: config.raftPort,
      secret: credentials.secret,
      tls: credentials.tls,
      accepts: (peer) => this.#accepts(parts, peer),
      ...reconnectDelays(timings),
      events: {
        onRaft: (message) => parts.driver.step(message),
        onApp: (from, message) => this.#app(parts, from, message),
        onGuest: (request) => this.#guest(parts, credentials, request),
        onDisconnect: (peer) => parts.driver.reportUnreachable(peer),
        onProblem: (text) => this.#log.warning(text),
      },
    });
    await transport.start();
    this.#transport = transport;
    this.#connectPeers(parts, identity.knownPeers);
  }

  /** Before this node makes or joins a cluster: one that can not be reached would only be counted as missing. */
  async #requireFreePorts(): Promise<void> {
    await requireFreePort(this.#config.listenAddresses, this.#config.raftPort);
    const http = this.#httpServer();
    await http?.start();
    await http?.stop();
  }

  async #openHttp(): Promise<void> {
    await this.#httpServer()?.start();
  }

  #httpServer(): HttpServer | null {
    const { httpPort, listenAddresses } = this.#config;
    if (httpPort === 0) return null;
    return createHttpServer({
      host: listenAddresses,
      port: httpPort,
      view: () => this.view(),
      onRequestError: (text) => this.#log.warning(text),
    });
  }

  #startTimers(parts: Parts): void {
    const timings = leaseTimings(parts.leaseMs());
    const every = (ms: number, action: () => void) => this.#timers.push(setInterval(action, ms));
    every(tickIntervalMs(timings), () => {
      this.#noteLeader(parts);
      parts.leader.evaluate();
    });
    every(Math.max(50, timings.gossipEveryMs), () => {
      parts.executor.kick();
      this.#sendGossip(parts);
      if (parts.driver.state.phase.kind === "recruit") parts.executor.repeatReport();
    });
    every(timings.probeEveryMs, () => parts.executor.probe());
    every(slotsEveryMs, () => {
      this.#noteOldestWal();
      this.#maintainSlots(parts);
    });
    every(2000, () => this.#keepMemberRecord(parts));
  }

  /** The replicated state may have changed: everything that acts on it looks again. */
  #applied(): void {
    const parts = this.#parts;
    if (parts === null) return;
    this.#connectPeers(parts, []);
    this.#followLease(parts);
    if (parts.driver.state.clusterId === "") this.#keepMemberRecord(parts);
    parts.leader.evaluate();
    parts.executor.kick();
  }

  /** Renews the lease while this node is its committed holder; stops the moment the state moved on. */
  #followLease(parts: Parts): void {
    const { lastGranted, current, released } = parts.driver.state;
    const held = parts.lease.token;
    if (held === null) return;
    const still =
      lastGranted !== null &&
      lastGranted.holder === parts.selfId &&
      tokensEqual(lastGranted.token, held) &&
      current !== null &&
      tokensEqual(current, held) &&
      (released === null || compareTokens(released.token, held) < 0);
    if (!still) {
      this.#log.info(`this node no longer holds the lease of token ${held.term}.${held.index}`);
      parts.lease.forget();
    }
  }

  #connectPeers(parts: Parts, known: readonly KnownPeer[]): void {
    const { members } = parts.driver.state;
    const peers = (members.length > 0 ? members : known)
      .filter((peer) => peer.id !== parts.selfId)
      .map((peer) => ({ id: peer.id, address: peer.address }));
    const key = JSON.stringify(peers);
    if ((peers.length === 0 && members.length === 0) || key === this.#peersKey) return;
    this.#peersKey = key;
    this.#transport?.setPeers(peers);
    // A new member can not stream before its slot is there.
    if (this.#parts !== null) this.#maintainSlots(this.#parts);
    const ids = new Set(peers.map((peer) => peer.id));
    for (const id of [...this.#gossip.keys()]) if (!ids.has(id)) this.#gossip.delete(id);
  }

  #accepts(parts: Parts, peer: PeerIdentity): { readonly ok: true } | { readonly ok: false; readonly why: string } {
    const { members } = parts.driver.state;
    // A node that has not replayed the membership yet (just joined) knows nobody: the cluster id is what it has.
    if (members.length === 0) return { ok: true };
    const member = members.find((candidate) => candidate.id === peer.id);
    // Not known here does not mean not a member: this node may be behind. The Raft core answers such peers safely.
    if (member === undefined || member.incarnation === peer.incarnation) return { ok: true };
    return {
      ok: false,
      why: `member ${peer.id} is known here as ${member.name} with another state directory (${member.incarnation}, not ${peer.incarnation}): its state directory was copied or replaced`,
    };
  }

  #app(parts: Parts, from: NodeId, message: AppMessage): void {
    switch (message.kind) {
      case "gossip":
        this.#gossip.set(from, { receivedAtMs: monotonicMs(), gossip: message.gossip });
        return;
      case "renew":
        parts.leader.renewal(from, message.token, message.stampNs);
        return;
      case "renewed":
        parts.lease.confirmed(message.token, message.stampNs);
        return;
      case "renewRefused":
        parts.lease.refused(message.token, message.why);
        return;
      case "report":
        parts.leader.report(from, message.token, message.report);
        return;
      case "propose":
        parts.submitter
          .forward(from, message.requestId, message.command)
          .catch((error: unknown) => this.#log.warning(`a forwarded command failed: ${describeError(error)}`));
        return;
      case "proposed":
        parts.submitter.answered(message.requestId, message.outcome);
        return;
    }
  }

  async #guest(parts: Parts, credentials: Credentials, request: GuestRequest): Promise<GuestResponse> {
    const { state } = parts.driver;
    switch (request.kind) {
      case "clusterInfo":
        return { ok: true, result: state.clusterId === "" ? null : this.#clusterInfo(parts) };
      case "register": {
        const namesake = this.#livingNamesake(parts, request.member);
        if (namesake !== null) {
          return {
            ok: false,
            code: "duplicate-node",
            message: `the cluster has a node "${namesake.name}" already, and it is alive at ${namesake.address}: give this node another pg_replica.node_id`,
          };
        }
        const outcome = await parts.submitter.submit({
          type: "addMember",
          systemIdentifier: request.systemIdentifier,
          serverMajor: request.serverMajor,
          member: request.member,
        });
        if (!outcome.ok) return { ok: false, code: outcome.code, message: outcome.message };
        return { ok: true, result: { id: outcome.nodeId } };
      }
      case "command":
        if (changingCommands.has(request.command) && credentials.secret === null && credentials.tls === null) {
          return {
            ok: false,
            code: "not-authenticated",
            message: `${request.command} is not accepted from elsewhere, since this cluster has no secret`,
            hint: "Run it on a node, or set pg_replica.secret_file on all nodes.",
          };
        }
        try {
          return { ok: true, result: await this.#command(request.command, request.args) };
        } catch (error) {
          if (!(error instanceof CommandError)) throw error;
          return { ok: false, code: error.code, message: error.message, hint: error.hint };
        }
    }
  }

  /** A node that comes back with a new disk replaces its old self; it does not replace one that is alive. */
  #livingNamesake(parts: Parts, { name, incarnation }: { name: string; incarnation: string }): Member | null {
    const { members } = parts.driver.state;
    const others = members.filter((member) => member.name === name && member.incarnation !== incarnation);
    return others.find(({ id }) => id === parts.selfId || this.#heardWithin(id, parts.leaseMs())) ?? null;
  }

  #clusterInfo(parts: Parts): unknown {
    const { state } = parts.driver;
    const holder = state.members.find((member) => member.id === state.lastGranted?.holder);
    return {
      clusterId: state.clusterId,
      systemIdentifier: state.systemIdentifier,
      serverMajor: state.serverMajor,
      leaseMs: state.leaseMs,
      primary: holder === undefined ? null : { name: holder.name, dsn: holder.dsn },
      members: state.members.map(({ id, name, address, dsn }) => ({
        id,
        name,
        address,
        dsn,
        alive: id === parts.selfId || this.#heardWithin(id, parts.leaseMs()),
      })),
    };
  }

  #command(command: string, args: Readonly<Record<string, unknown>>): Promise<unknown> {
    const parts = this.#parts;
    if (parts === null) {
      return Promise.reject(
        new CommandError(
          "starting",
          "this node has not joined its cluster yet",
          "See the server's log for what it waits for.",
        ),
      );
    }
    return handleCommand(
      {
        view: () => this.view(),
        state: () => parts.driver.state,
        primaryHealthy: () => this.#primaryHealthy(parts),
        submit: (body) => parts.submitter.submit(body),
      },
      command,
      args,
    );
  }

  #primaryHealthy(parts: Parts): boolean {
    const { lastGranted, phase } = parts.driver.state;
    if (lastGranted === null || phase.kind !== "steady") return false;
    if (lastGranted.holder === parts.selfId) return parts.lease.live;
    return (
      this.#heardWithin(lastGranted.holder, parts.leaseMs()) &&
      this.#gossip.get(lastGranted.holder)?.gossip.lease !== null
    );
  }

  #primaryOldestLsn(holder: NodeId | undefined): Lsn | null {
    return holder === undefined ? null : (this.#gossip.get(holder)?.gossip.oldestLsn ?? null);
  }

  #heardWithin(id: NodeId, ms: number): boolean {
    const heard = this.#gossip.get(id);
    return heard !== undefined && monotonicMs() - heard.receivedAtMs <= ms;
  }

  #sendRenewal(token: Token, stampNs: string): boolean {
    const parts = this.#parts;
    if (parts === null) return false;
    const { role, leader } = parts.driver.status();
    if (role === "leader") parts.leader.renewal(parts.selfId, token, stampNs);
    else if (leader !== 0) this.#transport?.sendApp(leader, { kind: "renew", token, stampNs });
    else return false;
    return true;
  }

  #answerRenewal(to: NodeId, token: Token, stampNs: string, refusal: string | null): void {
    const parts = this.#parts;
    if (parts === null) return;
    if (to === parts.selfId) {
      if (refusal === null) parts.lease.confirmed(token, stampNs);
      else parts.lease.refused(token, refusal);
    } else if (refusal === null) this.#transport?.sendApp(to, { kind: "renewed", token, stampNs });
    else this.#transport?.sendApp(to, { kind: "renewRefused", token, why: refusal });
  }

  #sendReport(token: Token, report: Report): void {
    const parts = this.#parts;
    if (parts === null) return;
    const { role, leader } = parts.driver.status();
    if (role === "leader") parts.leader.report(parts.selfId, token, report);
    else if (leader !== 0) this.#transport?.sendApp(leader, { kind: "report", token, report });
  }

  #stopServer(mode: "fast" | "immediate"): void {
    this.#link.stopServer(mode);
    // The worker may be frozen or gone; the postmaster takes the signal from here as well.
    stopServer(this.#config.server.pgdata, mode, this.#config.server.postmasterPid).catch((error: unknown) =>
      this.#log.warning(`stopping the server: ${describeError(error)}`),
    );
  }

  #sendGossip(parts: Parts): void {
    const gossip = buildGossip(this.#viewSources(parts));
    this.#gossip.set(parts.selfId, { receivedAtMs: monotonicMs(), gossip });
    for (const id of this.#transport?.connected() ?? []) this.#transport?.sendApp(id, { kind: "gossip", gossip });
  }

  #noteLeader(parts: Parts): void {
    const { leader, removedAt } = parts.driver.status();
    if (leader !== 0) this.#leaderSeenAtMs = monotonicMs();
    if (removedAt === 0 || this.#removalSaid) return;
    this.#removalSaid = true;
    this.#log.error(
      `this node was removed from the cluster while it was away (log index ${removedAt}): it takes no part in elections any more. Stop its server; or remove its state directory ${this.#config.stateDir}, so that it joins again as a new member`,
    );
  }

  #noteOldestWal(): void {
    oldestWalLsn(this.#config.server.pgdata).then(
      (lsn) => {
        this.#oldestLsn = lsn;
      },
      (error: unknown) => this.#log.warning(`looking at pg_wal: ${describeError(error)}`),
    );
  }

  #maintainSlots(parts: Parts): void {
    const { observation } = parts.executor;
    if (!observation?.reachable || parts.executor.leaving || observation.markerToken === null) return;
    const { state } = parts.driver;
    const wanted = state.members
      .filter((member) => member.kind === "data" && member.id !== parts.selfId)
      .map((member) => ({ slotName: memberSlotName(member.id), confirmedLsn: this.#confirmedLsn(member.id) }));
    parts.server
      .maintainSlots(wanted)
      .catch((error: unknown) => this.#log.warning(`member slots: ${describeError(error)}`));
  }

  /**
   * Up to where a member certainly needs nothing more from this node. For the primary that is this node's own restart
   * point: a rewind of the primary, should it lose, starts from the last common checkpoint.
   */
  #confirmedLsn(id: NodeId): string | null {
    const gossip = this.#gossip.get(id)?.gossip;
    if (gossip === undefined) return null;
    if (gossip.role !== "primary") return gossip.replayLsn;
    try {
      return readControlFile(this.#config.server.pgdata).redoLsn;
    } catch (error) {
      // The server writes it without a lock against readers; the slot is moved on at the next look.
      this.#log.debug(`pg_control: ${describeError(error)}`);
      return null;
    }
  }

  /** Announces a changed address, DSN or tag; also proposes the cluster's first entry on the node that made it. */
  #keepMemberRecord(parts: Parts): void {
    const { state } = parts.driver;
    const { meta } = parts.identity;
    const config = this.#config;
    const wanted = describeSelf(config, meta.incarnation);
    if (state.clusterId === "") {
      if (parts.selfId !== founderId || parts.driver.status().role !== "leader") return;
      this.#submit(parts, {
        type: "bootstrap",
        clusterId: meta.clusterId,
        systemIdentifier: config.server.systemIdentifier,
        serverMajor: serverMajor(config.server.versionNum),
        leaseMs: config.failoverTimeoutMs,
        member: wanted,
      });
      return;
    }
    const own = state.members.find((member) => member.id === parts.selfId);
    if (own === undefined) return;
    const record = { ...wanted, id: parts.selfId };
    if (JSON.stringify(sorted(record)) !== JSON.stringify(sorted(own))) {
      this.#submit(parts, { type: "updateMember", member: record });
    }
  }

  /** One at a time: the next look comes in two seconds. */
  #submit(parts: Parts, command: CommandBody): void {
    if (this.#submitting) return;
    this.#submitting = true;
    parts.submitter
      .submit(command)
      .then((outcome) => {
        if (!outcome.ok) this.#log.warning(`${command.type} was not accepted: ${outcome.message}`);
      })
      .finally(() => {
        this.#submitting = false;
      });
  }

  view(): NodeView {
    if (this.#parts === null) throw new CommandError("starting", "this node has not joined its cluster yet");
    return buildView(this.#viewSources(this.#parts));
  }

  #viewSources(parts: Parts): Parameters<typeof buildView>[0] {
    return {
      config: this.#config,
      selfId: parts.selfId,
      raft: parts.driver.status(),
      state: parts.driver.state,
      gossip: this.#gossip,
      observation: parts.executor.observation,
      oldestLsn: this.#oldestLsn,
      serverGone: parts.executor.serverGone,
      leaving: parts.executor.leaving,
      action: parts.executor.action,
      lease: { token: parts.lease.token, remainingMs: parts.lease.remainingMs(), open: parts.lease.open },
      leaderSeenAgoMs: monotonicMs() - this.#leaderSeenAtMs,
      loopAgeMs: monotonicMs() - this.#loopAtMs,
      startedAgoMs: monotonicMs() - this.#startedAtMs,
      nowMs: monotonicMs(),
      wallMs: wallClockMs(),
    };
  }
}

interface Parts {
  readonly identity: Identity;
  readonly selfId: NodeId;
  readonly driver: RaftDriver;
  readonly submitter: Submitter;
  readonly server: LocalServer;
  readonly lease: LeaseKeeper;
  readonly executor: Executor;
  readonly leader: LeaderLoop;
  readonly leaseMs: () => number;
}

function sorted(record: object): unknown {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}
