/** A node of the cluster in words, for the report of a failure. */
import { formatToken } from "../../src/control/token.js";
import type { Token } from "../../src/control/types.js";
import type { NodeId } from "../../src/raft/types.js";
import type { Cluster } from "./cluster.js";

export function dumpNode(cluster: Cluster, id: NodeId): string {
  const server = cluster.servers[id];
  const file = cluster.files[id];
  if (server === undefined || file === undefined) return "no server";
  const { word, branch } = server;
  const show = (token: Token | null): string => (token === null ? "-" : formatToken(token));
  const agent = cluster.agents[id];
  const state = agent?.state;
  return [
    `server ${server.phase}${server.orphans ? " with orphans" : ""} timeline ${branch.timeline} of node ${branch.writer} ` +
      `from ${branch.forkAt}, written ${server.written} flushed ${server.flushed} replayed ${server.replayed} marker ` +
      `${show(server.markerToken)} conninfo ${server.conninfo} streaming from ${server.upstream?.upstream.id ?? "-"} ` +
      `rejoin ${JSON.stringify(server.rejoin)} list ${JSON.stringify(server.listOnDisk)} waiters ${server.waiters.length}`,
    `  word ${show(word.token)} for ${(word.deadlineMs - cluster.clock(id)).toFixed(3)} ms${word.open ? " open" : ""}; ` +
      `pledge ${show(file.pledge)} pointedAt ${show(file.pointedAt)} promotedUnder ${show(file.promotedUnder)}`,
    agent === undefined || state === undefined
      ? "  no agent"
      : `  agent holds ${show(agent.token)} does ${agent.lastAction}${agent.leaving ? " leaving" : ""}; applied ` +
        `${agent.slot.index} phase ${JSON.stringify(state.phase)} current ${show(state.current)} granted ` +
        `${JSON.stringify(state.lastGranted)} released ${JSON.stringify(state.released)} durability ` +
        `${JSON.stringify(state.durability)} promotions ${JSON.stringify(state.promotions.slice(-4))} leader waits: ${agent.leader.waitingFor}`,
    agent === undefined || agent.leader.reports.size === 0
      ? ""
      : `  reports ${JSON.stringify([...agent.leader.reports])} members ${JSON.stringify(agent.state.members)}`,
  ].join("\n  ");
}
