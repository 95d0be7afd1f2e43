/** One thread of the simulator: takes every n-th seed and reports in batches. */
import { parentPort, workerData } from "node:worker_threads";
import { Marks } from "./marks.js";
import { runSchedule } from "./world.js";

export interface WorkOrder {
  readonly recorded: ReadonlyArray<{ readonly seed: number; readonly nodes: number }>;
  readonly firstSeed: number;
  readonly schedules: number;
  readonly nodes: number;
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
  readonly failed: { readonly seed: number; readonly nodes: number } | null;
}

const batchSize = 20;

function work(order: WorkOrder): void {
  const stop = new Int32Array(order.stop);
  let progress = { schedules: 0, simulatedMs: 0, events: 0, marks: new Marks() };
  const report = (failed: Progress["failed"]): void => {
    parentPort?.postMessage({ ...progress, failed } satisfies Progress);
    progress = { schedules: 0, simulatedMs: 0, events: 0, marks: new Marks() };
  };
  /** @returns false when it failed. */
  const run = (seed: number, nodes: number): boolean => {
    const result = runSchedule({ seed, nodes });
    progress.schedules++;
    progress.simulatedMs += result.simulatedMs;
    progress.events += result.events;
    progress.marks.add(result.marks);
    if (result.violation === null && progress.schedules < batchSize) return true;
    report(result.violation === null ? null : { seed, nodes });
    return result.violation === null;
  };
  for (const { seed, nodes } of order.recorded) if (!run(seed, nodes)) return;
  for (let i = order.worker; i < order.schedules; i += order.workers) {
    if (Atomics.load(stop, 0) !== 0 || (order.untilMs !== null && Date.now() >= order.untilMs)) break;
    if (!run((order.firstSeed + i) >>> 0, order.nodes)) return;
  }
  report(null);
}

work(workerData as WorkOrder);
