/**
 * What a node does to its local PostgreSQL to converge on the committed state. Idempotent: asked again after a restart
 * in the middle, it says how to go on. Whether local WAL belongs to the new primary's history is `lineage.ts`.
 */
import type { NodeAction, NodeInput } from "./decisions.js";
import { hasSet, sameSet, wantedList } from "./durability.js";
import { judgeLineage } from "./lineage.js";
import { currentHolder, isReleased, memberById, nodeName, promotionOf } from "./membership.js";
import { compareTokens, formatToken, tokensEqual } from "./token.js";
import type { ControlState, Member, SyncList, Token } from "./types.js";

export function decideNode(input: NodeInput): NodeAction {
  const { state } = input;
  if (state.clusterId === "" || state.current === null) {
    return isBehind(input) ? behind() : none("waiting for the cluster's first primary");
  }
  if (isBehind(input)) return behind();
  const member = memberById(state, input.selfId);
  if (member === undefined) return notMember(input);
  if (member.kind === "witness") return none("");
  switch (state.phase.kind) {
    case "empty":
      return none("waiting for the cluster's first primary");
    case "recruit":
      return whileRecruiting(input, state.current);
    case "promoted":
      return whilePromoted(input);
    case "granted":
    case "steady":
      return currentHolder(state) === input.selfId ? asHolder(input, state.current) : asStandby(input, state.current);
  }
}

/**
 * The node's own durable state knows of something newer than the log that is applied here: an agent that was just
 * started has not caught up yet. Acting on such a state could stop a healthy primary.
 */
function isBehind({ state, pledge, pointedAt, promotedUnder, server }: NodeInput): boolean {
  const { current } = state;
  const newer = (token: Token | null) => token !== null && (current === null || compareTokens(token, current) > 0);
  if (newer(pledge) || newer(pointedAt) || newer(promotedUnder)) return true;
  // So do its data: a marker is written only after its token is granted. A fresh clone that replays the log from its
  // beginning would else take an old primary for the present one, and its own data for strangers'.
  if (newer(server.markerToken)) return true;
  if (current === null) return false;
  const { kind } = state.phase;
  // A node promotes only once `grant` is applied, and is pointed at a primary only once that has written its marker.
  if (tokensEqual(promotedUnder, current) && kind !== "granted" && kind !== "steady") return true;
  return tokensEqual(pointedAt, current) && !isMarked(state);
}

/** The current promotion's fork is known: its node left recovery and wrote its marker. */
function isMarked(state: ControlState): boolean {
  return (promotionOf(state, state.current)?.forkLsn ?? null) !== null;
}

function behind(): NodeAction {
  return none("waiting to catch up with the replicated log: this node has acted on a newer token than it has applied");
}

function notMember(input: NodeInput): NodeAction {
  return input.server.inRecovery === false
    ? demote("this node is not a member of the cluster, but its server is not in recovery")
    : none("this node is not a member of the cluster");
}

function whileRecruiting(input: NodeInput, token: Token): NodeAction {
  const { state, server } = input;
  if (state.phase.kind !== "recruit") return none("");
  if (server.inRecovery === false) {
    return demote(
      `a failover is under way (token ${formatToken(token)}): this server stops and comes back as a standby`,
    );
  }
  if (!tokensEqual(input.pledgedFor, token)) {
    const text = `pledging to token ${formatToken(token)}: this node follows no older primary any more`;
    return { type: "pledge", token, waitLsn: state.phase.waitLsn, text };
  }
  return releaseOfOwn(input) ?? none(`pledged to ${formatToken(token)}, waiting for the choice of the new primary`);
}

function whilePromoted(input: NodeInput): NodeAction {
  if (input.server.inRecovery === false) return demote("another promotion has been committed; this server must stop");
  return latePledge(input) ?? releaseOfOwn(input) ?? none("waiting until no earlier lease can be running");
}

/** A node that missed the recruit leaves the old primary now: what it still received from there would be rewound. */
function latePledge({ state, server, pledgedFor }: NodeInput): NodeAction | null {
  const { current } = state;
  const { followingToken } = server;
  if (current === null || followingToken === null || tokensEqual(followingToken, current)) return null;
  if (tokensEqual(pledgedFor, current)) return null;
  // Judging a position that an old primary can still move would be judging nothing.
  const text = `leaving the primary of ${formatToken(followingToken)}: ${formatToken(current)} has replaced it`;
  return { type: "pledge", token: current, waitLsn: null, text };
}

/** This node held the newest granted token and is in recovery again: its lease is over, nobody need wait for it. */
function releaseOfOwn({ state, selfId, server, promotedUnder }: NodeInput): NodeAction | null {
  const { lastGranted } = state;
  if (lastGranted === null || lastGranted.holder !== selfId || isReleased(state)) return null;
  if (server.inRecovery !== true || !tokensEqual(promotedUnder, lastGranted.token)) return null;
  return releasing(state, lastGranted.token, selfId);
}

function releasing(state: ControlState, token: Token, selfId: number): NodeAction {
  const text = `Node ${nodeName(state, selfId)} was restarted and is in recovery: it gives back the lease of ${formatToken(token)}.`;
  return { type: "release", token, text };
}

function asHolder(input: NodeInput, token: Token): NodeAction {
  const { state, server, lease } = input;
  if (!server.reachable || server.inRecovery === null) return none("the local server does not answer");
  if (isReleased(state)) {
    return server.inRecovery
      ? none("the lease was given back; waiting for the next failover to begin")
      : demote("the lease of this server was given back");
  }
  if (server.inRecovery) {
    if (tokensEqual(input.promotedUnder, token)) return releasing(state, token, input.selfId);
    return promotion(input, token, `promoting this server under token ${formatToken(token)}`);
  }
  if (!tokensEqual(input.promotedUnder, token)) {
    return demote(`this server left recovery, but not by the promotion under ${formatToken(token)}`);
  }
  if (state.handover !== null && tokensEqual(state.handover.from, token)) {
    const to = state.handover.target === null ? "the most advanced node" : nodeName(state, state.handover.target);
    return { type: "handover", token, text: `handing over to ${to}` };
  }
  const list = listOf(input);
  // An agent that was just started takes up the renewals first: the steps to the opening may take long.
  if (list !== null && tokensEqual(lease.token, token)) return asPrimary(input, token, list);
  const leftover = list === null ? leftoverList(input, token) : null;
  if (leftover !== null) return leftover;
  const isOpen = lease.open && tokensEqual(lease.token, token);
  if (state.phase.kind === "steady" && isOpen) return none("");
  return promotion(input, token, `opening this server under token ${formatToken(token)}`);
}

/** The list that this primary has to have in force; null in asynchronous mode, or when no set was committed yet. */
function listOf({ state, selfId }: NodeInput): SyncList | null {
  return hasSet(state.durability) ? wantedList(state.durability, selfId) : null;
}

/** The promise has ended in the log: what is left of it in the server goes now, not earlier. */
function leftoverList({ sync }: NodeInput, token: Token): NodeAction | null {
  if (sync.list === null || sync.list.acks === 0) return null;
  const text = "commits of this server wait for no standby any more";
  return { type: "setSyncList", token, list: { members: [], acks: 0 }, text };
}

/** Out of recovery in quorum mode: list, marker, proof, opening, and the last step of a set change. */
function asPrimary({ state, server, lease, sync }: NodeInput, token: Token, list: SyncList): NodeAction {
  const promotion = promotionOf(state, token);
  const named = formatToken(token);
  if (sync.list === null || !sameSet(sync.list, list)) {
    const names = list.members.map((id) => nodeName(state, id)).join(", ");
    const text = list.acks === 0 ? "commits wait for no standby" : `commits wait for ${list.acks} of ${names}`;
    return { type: "setSyncList", token, list, text };
  }
  const { timeline = null, forkLsn = null, parent = null } = promotion ?? {};
  if (timeline === null || forkLsn === null || !tokensEqual(server.markerToken, token)) {
    return { type: "mark", token, parent, text: `writing the marker of ${named}` };
  }
  const isOpen = state.phase.kind === "steady" && lease.open;
  const { version, target } = state.durability;
  if (isOpen && target === null) return none("");
  if (sync.provenLsn === null) {
    return { type: "proveSyncList", token, list, text: "waiting until the synchronous standbys have what was written" };
  }
  if (!isOpen) return { type: "open", token, timeline, forkLsn, text: `opening this server under token ${named}` };
  return {
    type: "settle",
    token,
    version,
    lsn: sync.provenLsn,
    text: "the new list of synchronous standbys is in force",
  };
}

function promotion(input: NodeInput, token: Token, text: string): NodeAction {
  const parent = promotionOf(input.state, token)?.parent ?? null;
  return { type: "promote", token, parent, list: listOf(input), text };
}

function asStandby(input: NodeInput, token: Token): NodeAction {
  const { state, server } = input;
  const current = promotionOf(state, token);
  const primary = current === undefined ? undefined : memberById(state, current.holder);
  if (server.inRecovery === false) {
    return demote(
      `the primary is ${primary?.name ?? "another node"} under token ${formatToken(token)}; this server must stop`,
    );
  }
  if (current === undefined || primary === undefined) return none("the primary is not a member of the cluster");
  const { timeline, forkLsn } = current;
  if (timeline === null || forkLsn === null) {
    return (
      latePledge(input) ?? none(`waiting for ${primary.name} to write its marker under token ${formatToken(token)}`)
    );
  }
  if (!server.reachable || server.inRecovery === null) return none("the local server does not answer");
  if (tokensEqual(server.followingToken, token)) {
    if (server.upstreamLacksWal !== true) return none("");
    const text = `${primary.name} no longer has the WAL that comes after ${server.replayLsn ?? "this node's position"}; rebuilding from it`;
    return { type: "rejoin", token, primary, method: "rebuild", timeline, text };
  }
  const late = latePledge(input);
  if (late !== null) return late;
  // Rejoined from this primary, it streams from it until it is consistent; what it took from another one is half a node.
  if (server.rejoining === true && !tokensEqual(input.pointedAt, token)) {
    const text = `a rejoin was not completed before ${primary.name} became primary; rebuilding from it`;
    return { type: "rejoin", token, primary, method: "rebuild", timeline, text };
  }
  return joinPrimary(input, token, primary, timeline);
}

function joinPrimary(input: NodeInput, token: Token, primary: Member, timeline: number): NodeAction {
  const { state, server, pointedAt, promotedUnder } = input;
  if (!tokensEqual(pointedAt, token) && (!server.replayDone || server.replayLsn === null)) {
    return none("waiting until all local WAL is replayed before following the new primary");
  }
  const verdict = judgeLineage(state, token, {
    marker: server.markerToken,
    pointedAt,
    promotedUnder,
    replayLsn: server.replayLsn,
    timeline: server.timeline,
  });
  if (verdict.kind === "follow") {
    return { type: "follow", token, primary, text: `following ${primary.name} under token ${formatToken(token)}` };
  }
  const text = `${verdict.why}; ${verdict.kind === "rewind" ? "rewinding" : "rebuilding"} from ${primary.name}`;
  return { type: "rejoin", token, primary, method: verdict.kind, timeline, text };
}

function none(text: string): NodeAction {
  return { type: "none", text };
}

function demote(text: string): NodeAction {
  return { type: "demote", text };
}
