/** A view of a healthy three-node cluster a, b, c with a as the primary, as node `name` sees it; tests change it. */
import type { MemberView, NodeView } from "../../../src/control/types.js";

const tags = { nofailover: false, failoverPriority: 100, nosync: false, noloadbalance: false };

export function fakeMember(id: number, name: string, changes: Partial<MemberView> = {}): MemberView {
  const primary = id === 1;
  return {
    id,
    name,
    host: "10.0.0.1",
    port: 5430 + id,
    dsn: `host=10.0.0.${id} port=${5430 + id}`,
    apiUrl: `http://10.0.0.${id}:8008/patroni`,
    role: primary ? "primary" : "standby",
    raftRole: primary ? "leader" : "voter",
    state: primary ? "running" : "streaming",
    timeline: 3,
    lsn: "0/3000148",
    lagBytes: primary ? 0 : 16,
    syncState: primary ? null : "async",
    tags,
    lastSeenMs: 1500,
    pendingRestart: false,
    ...changes,
  };
}

interface Changes extends Omit<Partial<NodeView>, "self"> {
  readonly self?: Partial<NodeView["self"]>;
}

export function primaryView(changes: Changes = {}): NodeView {
  const { self, ...rest } = changes;
  return {
    clusterId: "6b1c",
    systemIdentifier: "7300000000000000001",
    self: {
      id: 1,
      name: "a",
      role: "primary",
      state: "running",
      raftRole: "leader",
      term: 4,
      timeline: 3,
      receiveLsn: null,
      replayLsn: null,
      flushLsn: "0/3000148",
      lagBytes: 0,
      lagSeconds: null,
      serverVersion: "15.18",
      serverVersionNum: 150018,
      postmasterStartTime: "2026-01-02T03:04:05.000Z",
      pendingRestart: false,
      replayPaused: false,
      writable: true,
      leaseRemainingMs: 2500,
      token: { term: 4, index: 17 },
      tags,
      loopAgeMs: 20,
      ...self,
    },
    leader: "a",
    primary: "a",
    token: { term: 4, index: 17 },
    phase: "steady",
    synchronous: "async",
    paused: false,
    quorum: true,
    leaseMs: 3000,
    commit: 40,
    applied: 40,
    members: [fakeMember(1, "a"), fakeMember(2, "b"), fakeMember(3, "c")],
    history: [
      { index: 5, atMs: 1_700_000_000_000, kind: "bootstrap", token: null, node: "a", text: "The cluster was made." },
      {
        index: 17,
        atMs: 1_700_000_100_000,
        kind: "opened",
        token: { term: 4, index: 17 },
        node: "a",
        text: "a is open for writes.",
      },
    ],
    version: "0.1.0",
    ...rest,
  };
}

export function standbyView(changes: Changes = {}): NodeView {
  return primaryView({
    ...changes,
    self: {
      id: 2,
      name: "b",
      role: "standby",
      state: "streaming",
      raftRole: "follower",
      receiveLsn: "0/3000148",
      replayLsn: "0/3000138",
      flushLsn: null,
      lagBytes: 16,
      lagSeconds: 0.1,
      writable: false,
      leaseRemainingMs: null,
      ...changes.self,
    },
  });
}
