/**
 * WAL as a tree: each promotion starts a branch that leaves its parent's after `forkAt`. A server's WAL is (branch, end).
 * A branch has one writer and is only appended to, so a position on a branch names one record for ever.
 */
import { parseLsn } from "../../src/control/lsn.js";
import type { Lsn, Token } from "../../src/control/types.js";

export interface MarkerRecord {
  readonly at: number;
  readonly token: Token;
}

export class Branch {
  readonly depth: number;
  /** Position of the newest record that its writer made. */
  end: number;
  /** Ascending. */
  readonly markers: MarkerRecord[] = [];

  constructor(
    readonly parent: Branch | null,
    readonly forkAt: number,
    readonly timeline: number,
    readonly writer: number,
  ) {
    this.depth = parent === null ? 0 : parent.depth + 1;
    this.end = forkAt;
  }
}

/** Up to here two branches hold the same records. */
export function commonEnd(a: Branch, b: Branch): number {
  let limit = Number.POSITIVE_INFINITY;
  let left = a;
  let right = b;
  while (left !== right) {
    if (left.depth >= right.depth) {
      limit = Math.min(limit, left.forkAt);
      left = left.parent as Branch;
    } else {
      limit = Math.min(limit, right.forkAt);
      right = right.parent as Branch;
    }
  }
  return limit;
}

/** Whether the WAL (branch, end) holds the record at `position` of `of`. */
export function holds(branch: Branch, end: number, of: Branch, position: number): boolean {
  return position <= end && position <= commonEnd(branch, of);
}

/** The branch that the record at `position` is on. */
export function branchAt(branch: Branch, position: number): Branch {
  let at = branch;
  while (at.parent !== null && position <= at.forkAt) at = at.parent;
  return at;
}

/** The newest marker up to `position`. */
export function markerAt(branch: Branch, position: number): Token | null {
  let limit = position;
  for (let at: Branch | null = branch; at !== null; at = at.parent) {
    for (let i = at.markers.length - 1; i >= 0; i--) {
      const marker = at.markers[i] as MarkerRecord;
      if (marker.at <= limit) return marker.token;
    }
    limit = Math.min(limit, at.forkAt);
  }
  return null;
}

/** Where the history of a branch leaves `timeline` (its last own line: where the branch began, when it never was on it). */
export function forkFrom(branch: Branch, timeline: number | null): number {
  for (let at: Branch = branch; at.parent !== null; at = at.parent) {
    if (at.parent.timeline === timeline) return at.forkAt;
  }
  return branch.forkAt;
}

/** What a walsender looks at: whether `timeline` is in the upstream's history, and not left before `position`. */
export function acceptsStart(upstream: Branch, flushed: number, timeline: number, position: number): boolean {
  let end = flushed;
  for (let at: Branch | null = upstream; at !== null; at = at.parent) {
    if (at.timeline === timeline) return position <= end;
    end = Math.min(end, at.forkAt);
  }
  return false;
}

const lsns: Lsn[] = [];

export function toLsn(position: number): Lsn {
  lsns[position] ??= `0/${position.toString(16).toUpperCase()}`;
  return lsns[position] as Lsn;
}

export function fromLsn(lsn: Lsn): number {
  return Number(parseLsn(lsn));
}
