/** What a cluster without faults owes: one open primary, everybody else streaming from it, nothing half done. */
import { currentHolder } from "../../src/control/membership.js";
import { tokensEqual } from "../../src/control/token.js";
import type { NodeId } from "../../src/raft/types.js";
import type { Cluster } from "./cluster.js";
import { foreverMs } from "./profiles.js";
import type { Server } from "./server.js";

/** Records that may be under way while clients go on writing. */
const slack = 20;

/** Null when all is well; otherwise the first thing that is missing. */
export function whatIsMissing(cluster: Cluster): string | null {
  const { truth } = cluster;
  if (truth.phase.kind !== "steady") return `the phase is ${truth.phase.kind}: ${waiting(cluster)}`;
  if (truth.handover !== null) return "a switchover is still in progress";
  const holder = currentHolder(truth);
  const primary = holder === null ? undefined : cluster.servers[holder];
  if (primary === undefined) return "there is no primary";
  if (!primary.mayWrite() || !tokensEqual(primary.word.token, truth.current)) {
    return `node ${primary.id} is the primary but not writable (${primary.phase}): ${waiting(cluster)}`;
  }
  const others = cluster.servers.filter((server) => server?.phase === "primary" && server !== primary);
  if (others.length > 0) return `node ${others[0]?.id} is out of recovery beside the primary`;
  for (const { id, kind } of truth.members) {
    const problem = kind === "witness" || id === primary.id ? null : standbyProblem(cluster, primary, id);
    if (problem !== null) return problem;
  }
  if (cluster.checker.acknowledgedSinceHeal === 0) return "no write was acknowledged";
  return promiseProblem(cluster);
}

function standbyProblem(cluster: Cluster, primary: Server, id: NodeId): string | null {
  const server = cluster.servers[id];
  if (server === undefined) return `node ${id} has no machine`;
  // A promotion that hangs for longer than anybody waits is a server that only a person can mend.
  if (server.phase === "promoting" && cluster.knobs.promoteHangMs >= foreverMs) return null;
  if (server.rejoin !== null) return `node ${id} is still in its rejoin (${server.rejoin.phase})`;
  if (server.upstream?.upstream !== primary) {
    const action = cluster.agents[id]?.lastAction ?? "no agent";
    return `node ${id} does not stream from the primary ${primary.id} (${server.phase}, ${action})`;
  }
  if (server.flushed < primary.flushed - slack) {
    return `node ${id} is at ${server.flushed}, the primary ${primary.id} at ${primary.flushed}`;
  }
  return null;
}

function promiseProblem({ truth: { durability } }: Cluster): string | null {
  if (durability.mode === "async") return null;
  if (durability.inForce === null) return "quorum mode was asked for but is not in force";
  return durability.target === null ? null : "a set change is still under way";
}

function waiting(cluster: Cluster): string {
  const leader = cluster.agents.find((agent) => agent?.machine.leads === true);
  return leader === undefined ? "no leader" : leader.leader.waitingFor;
}
