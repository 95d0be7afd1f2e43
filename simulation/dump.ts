/** Lines for the report of a failed schedule. */
import { EventKind, eventNames } from "./event-kind.js";
import type { SimulatedNode } from "./simulated-node.js";
import { Violation } from "./violation.js";
import type { World } from "./world.js";

export function eventLine(world: World, kind: number, id: number, payload: unknown): string {
  const node = world.nodes[id];
  const about = kind === EventKind.written || kind === EventKind.synced ? "" : describe(payload);
  const where = node === undefined ? "" : `node ${id}${whereabouts(node, world.nowMs)}`;
  return `${world.nowMs.toFixed(3)} ${eventNames[kind]} ${where} ${about}`;
}

function whereabouts({ running, seen, pausedUntilMs }: SimulatedNode, nowMs: number): string {
  if (!running) return "";
  const { role, term, commit, lastIndex } = seen;
  return ` [${role} t${term} c${commit} l${lastIndex}${pausedUntilMs > nowMs ? " paused" : ""}]`;
}

export function dump(world: World): string[] {
  return world.nodes.slice(1).map((node) => {
    if (node === undefined) return "(no such node)";
    const { disk } = node;
    const durable = `durable hardState ${JSON.stringify(disk.hardState)} snapshot ${disk.snapshot.index} last ${disk.lastIndex}`;
    const live = node.core === null ? "down" : statusLine(node);
    return (
      `node ${node.id} rate ${node.clockRate.toFixed(5)} now ${node.clock(world.nowMs).toFixed(3)} ${live}\n` +
      `  ${durable}\n  ${world.layer.dump(node)}`
    );
  });
}

/** A core that has just failed an assertion may fail another one when it is asked. */
function statusLine(node: SimulatedNode): string {
  try {
    return JSON.stringify(node.status);
  } catch (error) {
    return `no status: ${String(error)}`;
  }
}

/** An exception out of the product is a broken invariant like any other. */
export function threw(error: unknown): Violation {
  return new Violation("threw", error instanceof Error ? (error.stack ?? error.message) : String(error));
}

function describe(payload: unknown): string {
  if (payload === undefined) return "";
  return JSON.stringify(payload, (key, value: unknown) => {
    if (value instanceof Uint8Array) return `<${value.length} bytes>`;
    return key === "everyMs" ? undefined : value;
  }).slice(0, 400);
}
