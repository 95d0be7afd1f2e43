/**
 * What a node does to its local PostgreSQL to converge on the committed state. Idempotent: asked again after a restart
 * in the middle, it says how to go on. Whether local WAL belongs to the new primary's history is `lineage.ts`.
 */
import type { NodeAction, NodeInput } from "./decisions.js";
import { judgeLineage } from "./lineage.js";
import { currentHolder, isReleased, memberById, nodeName, promotionOf } from "./membership.js";
import { compareTokens, formatToken, tokensEqual } from "./token.js";
import type { ControlState, Member, Token } from "./types.js";

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
  // A node promotes only once `grant` is applied, and is pointed at a primary only once that has opened.
  if (tokensEqual(promotedUnder, current) && kind !== "granted" && kind !== "steady") return true;
  return tokensEqual(pointedAt, current) && kind !== "steady";
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
  return releaseOfOwn(input) ?? none("waiting until no earlier lease can be running");
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
    return promotion(state, token, `promoting this server under token ${formatToken(token)}`);
  }
  if (!tokensEqual(input.promotedUnder, token)) {
    return demote(`this server left recovery, but not by the promotion under ${formatToken(token)}`);
  }
  if (state.handover !== null && tokensEqual(state.handover.from, token)) {
    const to = state.handover.target === null ? "the most advanced node" : nodeName(state, state.handover.target);
    return { type: "handover", token, text: `handing over to ${to}` };
  }
  const isOpen = lease.open && tokensEqual(lease.token, token);
  if (state.phase.kind === "steady" && isOpen) return none("");
  return promotion(state, token, `opening this server under token ${formatToken(token)}`);
}

function promotion(state: ControlState, token: Token, text: string): NodeAction {
  return { type: "promote", token, parent: promotionOf(state, token)?.parent ?? null, list: null, text };
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
  if (state.phase.kind !== "steady" || timeline === null || forkLsn === null) {
    return none(`waiting for ${primary.name} to open under token ${formatToken(token)}`);
  }
  if (!server.reachable || server.inRecovery === null) return none("the local server does not answer");
  if (tokensEqual(server.followingToken, token)) {
    if (server.upstreamLacksWal !== true) return none("");
    const text = `${primary.name} no longer has the WAL that comes after ${server.replayLsn ?? "this node's position"}; rebuilding from it`;
    return { type: "rejoin", token, primary, method: "rebuild", timeline, text };
  }
  if (server.followingToken !== null && !tokensEqual(input.pledgedFor, token)) {
    // Judging a position that an old primary can still move would be judging nothing.
    const text = `leaving the primary of ${formatToken(server.followingToken)} before following ${primary.name}`;
    return { type: "pledge", token, waitLsn: null, text };
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
