/** One thread of the simulator: takes every n-th seed and reports in batches. */
import { parentPort, workerData } from "node:worker_threads";
import { Marks } from "./marks.js";
import { Random } from "./random.js";
import type { Stack } from "./stacks.js";
import { runSchedule } from "./world.js";

export interface Schedule {
  readonly seed: number;
  readonly nodes: number;
  readonly stack: Stack;
}

export interface WorkOrder {
  readonly recorded: ReadonlyArray<Schedule>;
  readonly firstSeed: number;
  readonly schedules: number;
  /** Sizes of clusters; the seed decides which. */
  readonly nodes: readonly number[];
  readonly stack: Stack;
  readonly worker: number;
  readonly workers: number;
  /** Wall clock; null: until all schedules ran. */
  readonly untilMs: number | null;
  /** One shared integer; not 0: stop. */
  readonly stop: SharedArrayBuffer;
}

export interface Progress {
  readonly schedules: number;
  readonly simulatedMs: number;
  readonly events: number;
  readonly marks: Marks;
  readonly failed: Schedule | null;
}

const batchSize = 20;

/** Small clusters are faster and break as well, so the first sizes come more often: 6 : 3 : 1 (: 1 ...). */
export function clusterSize(seed: number, sizes: readonly number[]): number {
  const weighted = sizes.flatMap((size, at) => new Array<number>([6, 3][at] ?? 1).fill(size));
  return new Random(seed, 9).pick(weighted);
}

function work(order: WorkOrder): void {
  const stop = new Int32Array(order.stop);
  let progress = { schedules: 0, simulatedMs: 0, events: 0, marks: new Marks() };
  const report = (failed: Progress["failed"]): void => {
    parentPort?.postMessage({ ...progress, failed } satisfies Progress);
    progress = { schedules: 0, simulatedMs: 0, events: 0, marks: new Marks() };
  };
  /** @returns false when it failed. */
  const run = ({ seed, nodes, stack }: Schedule): boolean => {
    const result = runSchedule({ seed, nodes, stack });
    progress.schedules++;
    progress.simulatedMs += result.simulatedMs;
    progress.events += result.events;
    progress.marks.add(result.marks);
    if (result.violation === null && progress.schedules < batchSize) return true;
    report(result.violation === null ? null : { seed, nodes, stack });
    return result.violation === null;
  };
  for (const schedule of order.recorded) if (!run(schedule)) return;
  for (let i = order.worker; i < order.schedules; i += order.workers) {
    if (Atomics.load(stop, 0) !== 0 || (order.untilMs !== null && Date.now() >= order.untilMs)) break;
    const seed = (order.firstSeed + i) >>> 0;
    if (!run({ seed, nodes: clusterSize(seed, order.nodes), stack: order.stack })) return;
  }
  report(null);
}

if (parentPort !== null) work(workerData as WorkOrder);
