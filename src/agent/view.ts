/** Makes what the surfaces show (NodeView) and what the others are told (Gossip) out of the agent's parts. Pure. */

import type { NodeAction } from "../control/decisions.js";
import { lsnDifference, memberViews, tokensEqual } from "../control/index.js";
import type {
  AgentConfig,
  ControlState,
  Gossip,
  Lsn,
  MemberView,
  NodeView,
  ServerState,
  Token,
} from "../control/types.js";
import { parseConninfo } from "../postgres/conninfo.js";
import type { ServerObservation } from "../postgres/types.js";
import type { NodeId, Status } from "../raft/types.js";

/** Set by the bundle from package.json. */
export const agentVersion: string = (globalThis as { PG_REPLICA_VERSION?: string }).PG_REPLICA_VERSION ?? "development";

export interface ViewSources {
  readonly config: AgentConfig;
  readonly selfId: NodeId;
  readonly raft: Status;
  readonly state: ControlState;
  readonly gossip: ReadonlyMap<NodeId, { readonly receivedAtMs: number; readonly gossip: Gossip }>;
  readonly observation: ServerObservation | null;
  readonly oldestLsn: Lsn | null;
  readonly serverGone: boolean;
  readonly leaving: boolean;
  readonly action: NodeAction["type"];
  readonly lease: { readonly token: Token | null; readonly remainingMs: number; readonly open: boolean };
  /** Since a Raft leader was last known to this node. */
  readonly leaderSeenAgoMs: number;
  readonly loopAgeMs: number;
  readonly startedAgoMs: number;
  readonly nowMs: number;
  readonly wallMs: number;
}

export function buildGossip(sources: ViewSources): Gossip {
  const { observation, lease, state } = sources;
  return {
    id: sources.selfId,
    name: sources.config.nodeId,
    atMs: sources.wallMs,
    agentVersion,
    role: serverRole(sources),
    state: serverState(sources),
    timeline: observation?.timeline ?? null,
    receiveLsn: observation?.receiveLsn ?? null,
    replayLsn: observation?.replayLsn ?? null,
    writeLsn: observation?.writeLsn ?? null,
    oldestLsn: sources.oldestLsn,
    token: observation?.markerToken ?? null,
    upstream: observation?.receiver?.status === "streaming" ? holderName(state) : null,
    pendingRestart: observation?.pendingRestart ?? false,
    applied: sources.raft.applied,
    lease:
      lease.token === null || lease.remainingMs === 0 ? null : { token: lease.token, remainingMs: lease.remainingMs },
  };
}

export function buildView(sources: ViewSources): NodeView {
  const { config, raft, state, observation, lease } = sources;
  const own: Gossip = buildGossip(sources);
  const gossip = new Map(sources.gossip);
  gossip.set(sources.selfId, { receivedAtMs: sources.nowMs, gossip: own });
  const writable = lease.open && lease.remainingMs > 0 && observation?.inRecovery === false;
  const primaryLsn = primaryPosition(sources, own);
  const nameOf = (id: NodeId) => state.members.find((member) => member.id === id)?.name ?? null;
  return {
    clusterId: state.clusterId === "" ? null : state.clusterId,
    systemIdentifier: state.systemIdentifier === "" ? config.server.systemIdentifier : state.systemIdentifier,
    self: {
      id: sources.selfId,
      name: config.nodeId,
      role: own.role,
      state: own.state,
      raftRole: raftRole(raft),
      term: raft.term,
      timeline: own.timeline,
      receiveLsn: own.receiveLsn,
      replayLsn: own.replayLsn,
      flushLsn: observation?.flushLsn ?? null,
      lagBytes: own.role === "primary" ? 0 : difference(primaryLsn, own.replayLsn),
      lagSeconds: observation?.lagSeconds ?? null,
      serverVersion: versionText(config.server.versionNum),
      serverVersionNum: config.server.versionNum,
      postmasterStartTime: observation?.postmasterStartTime ?? null,
      pendingRestart: own.pendingRestart,
      replayPaused: observation?.replayPaused ?? false,
      writable,
      leaseRemainingMs: lease.token === null ? null : lease.remainingMs,
      token: own.token,
      tags: config.tags,
      loopAgeMs: sources.loopAgeMs,
    },
    leader: raft.leader === 0 ? null : nameOf(raft.leader),
    primary: holderName(state),
    token: state.current,
    phase: state.phase.kind,
    synchronous: state.durability.inForce === null ? "async" : "quorum",
    paused: state.paused,
    quorum:
      raft.leader !== 0 && sources.leaderSeenAgoMs <= (state.leaseMs > 0 ? state.leaseMs : config.failoverTimeoutMs),
    leaseMs: state.leaseMs,
    commit: raft.commit,
    applied: raft.applied,
    members: memberViews(state, raft, gossip, sources.nowMs).map(withServerAddress),
    history: state.history,
    version: agentVersion,
  };
}

/** Host and port of the PostgreSQL server, which is what people connect to. */
function withServerAddress(member: MemberView): MemberView {
  const parameters = parseConninfo(member.dsn);
  return {
    ...member,
    host: parameters.get("host") ?? member.host,
    port: Number(parameters.get("port") ?? defaultServerPort),
  };
}

const defaultServerPort = 5432;

function serverRole(sources: ViewSources): Gossip["role"] {
  const { observation, lease, state } = sources;
  if (sources.serverGone || observation === null || !observation.reachable) return "stopped";
  if (observation.inRecovery === true) {
    const phase = state.phase;
    const promoting = (phase.kind === "promoted" || phase.kind === "granted") && phase.holder === sources.selfId;
    return promoting ? "promoting" : "standby";
  }
  const holds = lease.token !== null && state.current !== null && tokensEqual(lease.token, state.current);
  if (!holds) return "stopped";
  return lease.open ? "primary" : "promoting";
}

function serverState(sources: ViewSources): ServerState {
  const { observation } = sources;
  if (sources.serverGone) return "stopped";
  if (sources.action === "rejoin" && sources.leaving) return "rejoining";
  if (sources.leaving) return "stopping";
  if (observation === null) return "starting";
  if (!observation.reachable) return sources.startedAgoMs < 10_000 ? "starting" : "unreachable";
  if (observation.inRecovery === false) return serverRole(sources) === "promoting" ? "promoting" : "running";
  return observation.receiver?.status === "streaming" ? "streaming" : "in recovery";
}

function raftRole(raft: Status): string {
  if (raft.role !== "follower") return raft.role;
  if (raft.config.voters.includes(raft.id)) return "follower";
  return raft.config.learners.includes(raft.id) ? "learner" : "none";
}

function holderName(state: ControlState): string | null {
  const { phase, lastGranted } = state;
  const holder = phase.kind === "promoted" || phase.kind === "granted" ? phase.holder : lastGranted?.holder;
  return state.members.find((member) => member.id === holder)?.name ?? null;
}

function primaryPosition(sources: ViewSources, own: Gossip): Lsn | null {
  if (own.role === "primary") return own.writeLsn;
  for (const { gossip } of sources.gossip.values()) if (gossip.role === "primary") return gossip.writeLsn;
  return null;
}

function difference(ahead: Lsn | null, behind: Lsn | null): number | null {
  return ahead === null || behind === null ? null : Math.max(0, lsnDifference(ahead, behind));
}

/** 150018 -> "15.18". */
function versionText(versionNum: number): string {
  return `${Math.floor(versionNum / 10_000)}.${versionNum % 10_000}`;
}
