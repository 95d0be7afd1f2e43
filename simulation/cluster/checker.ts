/** What the cluster promises, looked at after every event. */
import { compareTokens, formatToken, tokensEqual } from "../../src/control/token.js";
import type { ControlState, Token } from "../../src/control/types.js";
import type { NodeId } from "../../src/raft/types.js";
import { Violation } from "../violation.js";
import type { Cluster } from "./cluster.js";
import type { Server } from "./server.js";
import type { Slot } from "./states.js";
import { type Branch, commonEnd, fromLsn, holds, markerAt } from "./wal.js";

/** A record that somebody was told of. */
interface Told {
  readonly branch: Branch;
  readonly at: number;
  readonly what: "write" | "read";
}

export class Checker {
  readonly #cluster: Cluster;
  /** The newest record that is promised to survive; every earlier one is in its history. */
  #promised: Told | null = null;
  /** The newest acknowledged write, promised or not. */
  #acknowledged: Told | null = null;
  #newestAckToken: Token | null = null;
  readonly #holders = new Map<string, NodeId>();
  /** Token of a switchover whose chosen node has everything up to the shutdown. */
  #planned: Token | null = null;
  readonly #pledged = new Map<NodeId, Token>();
  acknowledgedSinceHeal = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  // ---- leases

  check(): void {
    let live = 0;
    let writable = 0;
    for (const server of this.#cluster.servers) {
      if (server === undefined || server.word.deadlineMs === 0 || !server.isLive()) continue;
      if (live !== 0) throw new Violation("two-leases", this.#bothLive(live, server.id));
      live = server.id;
      if (!server.mayWrite()) continue;
      if (writable !== 0) throw new Violation("two-writable", this.#bothLive(writable, server.id));
      writable = server.id;
    }
  }

  leaseMoved(): void {
    this.check();
  }

  #bothLive(a: NodeId, b: NodeId): string {
    const describe = (id: NodeId): string => {
      const { word } = this.#cluster.servers[id] as Server;
      const leftMs = word.deadlineMs - this.#cluster.clock(id);
      return `node ${id} (${show(word.token)}${word.open ? ", open" : ""}, ${leftMs.toFixed(3)} ms left)`;
    };
    return `at ${this.#cluster.host.nowMs.toFixed(3)} ms the lease is live on ${describe(a)} and ${describe(b)}`;
  }

  // ---- clients

  acknowledged(server: Server, at: number): void {
    const { token } = server.word;
    if (this.#newestAckToken !== null && token !== null && compareTokens(token, this.#newestAckToken) < 0) {
      throw new Violation(
        "late-acknowledgement",
        `node ${server.id} acknowledges under ${show(token)} after ${show(this.#newestAckToken)} has acknowledged`,
      );
    }
    this.#newestAckToken = token;
    const told: Told = { branch: server.branch, at, what: "write" };
    if (this.#cluster.host.healed) this.acknowledgedSinceHeal++;
    if (this.#cluster.truth.durability.inForce !== null) this.#promise(told, server);
    const last = this.#acknowledged;
    if (last === null || last.branch !== told.branch || last.at < told.at) this.#acknowledged = told;
  }

  /** A statement that reads what is visible, on a primary with a live and open lease. */
  read(server: Server): void {
    const last = this.#acknowledged;
    if (last !== null && !holds(server.branch, server.visible, last.branch, last.at)) {
      throw new Violation(
        "stale-read",
        `node ${server.id} serves a read under a live lease without the write acknowledged at ${last.at} by node ` +
          `${last.branch.writer}; it sees ${server.visible}`,
      );
    }
    if (this.#cluster.truth.durability.inForce !== null) {
      this.#promise({ branch: server.branch, at: server.visible, what: "read" }, server);
    }
  }

  #promise(told: Told, server: Server): void {
    const before = this.#promised;
    if (before !== null && before.branch !== told.branch) {
      if (!holds(server.branch, server.written, before.branch, before.at)) this.#lost(server, before);
    }
    if (before !== null && before.branch === told.branch && before.at >= told.at) return;
    this.#cluster.marks.writePromised++;
    this.#promised = told;
  }

  #lost(server: Server, told: Told): never {
    throw new Violation(
      told.what === "write" ? "lost-write" : "lost-read",
      `a ${told.what === "write" ? "write acknowledged" : "value read"} at ${told.at} of node ${told.branch.writer}'s ` +
        `timeline ${told.branch.timeline} is not in the WAL of node ${server.id} (timeline ${server.branch.timeline}, ` +
        `written ${server.written}); they part at ${commonEnd(server.branch, told.branch)}`,
    );
  }

  // ---- primaries

  reported(server: Server, token: Token): void {
    this.#pledged.set(server.id, token);
  }

  promoted(server: Server): void {
    const { timeline } = server.branch;
    for (const other of this.#cluster.servers) {
      if (other === undefined || other === server || other.branch.timeline !== timeline) continue;
      if (other.branch !== server.branch) this.#cluster.marks.sameTimelineTwice++;
    }
  }

  marked(server: Server, token: Token): void {
    const { markers } = server.branch;
    const previous =
      markers.length > 1 ? (markers.at(-2)?.token ?? null) : markerAt(server.branch, server.branch.forkAt);
    if (previous !== null && compareTokens(previous, token) > 0) {
      throw new Violation("marker-order", `node ${server.id} writes marker ${show(token)} after ${show(previous)}`);
    }
  }

  /** The word is opened: from here on clients write. */
  opening(server: Server): void {
    const { token } = server.word;
    const promoted = this.#cluster.truth.promotions.find((promotion) => tokensEqual(promotion.token, token));
    if (promoted !== undefined && promoted.holder !== server.id) {
      throw new Violation("wrong-holder", `node ${server.id} opens under ${show(token)} of node ${promoted.holder}`);
    }
    const promised = this.#promised;
    if (promised !== null && !holds(server.branch, server.written, promised.branch, promised.at)) {
      this.#lost(server, promised);
    }
    const last = this.#acknowledged;
    if (last === null || holds(server.branch, server.written, last.branch, last.at)) {
      if (tokensEqual(token, this.#planned)) this.#cluster.marks.switchoverLostNothing++;
      return;
    }
    if (tokensEqual(token, this.#planned)) {
      throw new Violation("switchover-lost", `the switchover to node ${server.id} lost the write at ${last.at}`);
    }
    this.#cluster.marks.asyncLoss++;
    this.#acknowledged = null;
  }

  /** A node was told to stream from the primary of `token`: its WAL must be a part of that primary's history. */
  pointed(server: Server, token: Token, primary: NodeId): void {
    const upstream = this.#cluster.servers[primary];
    if (upstream === undefined || upstream.phase !== "primary" || !tokensEqual(upstream.word.token, token)) return;
    const common = commonEnd(server.branch, upstream.branch);
    if (server.written <= common) return;
    throw new Violation(
      "wrong-follow",
      `node ${server.id} follows node ${primary} under ${show(token)} with WAL up to ${server.written}, but they part at ${common}`,
    );
  }

  // ---- the log

  /** A committed command was applied for the first time. */
  committed({ command, outcome, state }: Slot, before: ControlState): void {
    if (command === null || outcome?.ok !== true) return;
    if (command.type === "promote") this.#promoteCommitted(command.token, command.node, command.lsn, before);
    const was = before.durability;
    const is = state.durability;
    if (was.inForce === null && is.inForce !== null) {
      this.#cluster.marks.promiseBegan++;
      this.#promiseSince(is.inForce.token, fromLsn(is.inForce.lsn));
    } else if (was.inForce !== null && is.inForce === null) {
      if (command.type === "promote") this.#cluster.marks.acceptedLoss++;
      else this.#cluster.marks.promiseEnded++;
      this.#promised = null;
    }
  }

  #promoteCommitted(token: Token, node: NodeId, lsn: string, before: ControlState): void {
    const key = formatToken(token);
    const other = this.#holders.get(key);
    if (other !== undefined && other !== node) {
      throw new Violation("two-holders", `token ${key} was given to node ${other} and to node ${node}`);
    }
    this.#holders.set(key, node);
    const { phase, durability } = before;
    if (phase.kind !== "recruit") return;
    const complete = phase.waitLsn !== null && fromLsn(lsn) >= fromLsn(phase.waitLsn);
    if (phase.reason === "switchover" && complete && !phase.allowDataLoss) this.#planned = token;
    const server = this.#cluster.servers[node];
    const promised = this.#promised;
    if (promised === null || server === undefined || durability.inForce === null || phase.allowDataLoss) return;
    if (!tokensEqual(this.#pledged.get(node) ?? null, token)) return;
    if (!holds(server.branch, server.flushed, promised.branch, promised.at)) this.#lost(server, promised);
  }

  /** Since WAL is ordered, the promise covers everything before its first record. */
  #promiseSince(token: Token, at: number): void {
    for (const server of this.#cluster.servers) {
      if (server === undefined || !tokensEqual(server.word.token, token) || server.branch.end < at) continue;
      this.#promised = { branch: server.branch, at, what: "write" };
    }
  }
}

function show(token: Token | null): string {
  return token === null ? "no token" : formatToken(token);
}
