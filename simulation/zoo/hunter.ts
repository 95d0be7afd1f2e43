/** One thread of the zoo's runner: hunts what it is told, and says what came of it. */
import { parentPort } from "node:worker_threads";
import { breed, hunt, type Kill, type Prey } from "./hunt.js";
import { mutants } from "./index.js";

export interface Order {
  readonly name: string;
  readonly hunt: number;
  readonly seed: number;
  readonly limit: number;
}

export interface Outcome {
  readonly order: Order;
  readonly kill: Kill | null;
  readonly seconds: number;
}

const bred = new Map<string, Prey>();

async function follow(order: Order): Promise<void> {
  const startedMs = performance.now();
  let prey = bred.get(order.name);
  if (prey === undefined) {
    const mutant = mutants.find(({ name }) => name === order.name);
    if (mutant === undefined) throw new Error(`there is no mutant ${order.name}`);
    prey = await breed(mutant);
    bred.set(order.name, prey);
  }
  const kill = hunt(prey, order.seed, order.limit);
  const seconds = (performance.now() - startedMs) / 1000;
  parentPort?.postMessage({ order, kill, seconds } satisfies Outcome);
}

parentPort?.on("message", (order: Order) => void follow(order));
