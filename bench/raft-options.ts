/** The arguments of the Raft bench. */
import { parseArgs } from "node:util";

export interface RaftBenchOptions {
  readonly json: boolean;
  readonly nodes: readonly number[];
  /** Leader losses of each kind. */
  readonly rounds: number;
  /** Through the smallest group; the others get `proposalsOthers`. */
  readonly proposals: number;
  readonly proposalsOthers: number;
  readonly singleProposals: number;
  readonly restartRounds: number;
  readonly restartEntries: number;
  /** Election timeout and heartbeat follow from it, as they do in the product. */
  readonly leaseMs: number;
  /** Null: a new one in the system's place for temporary files. */
  readonly directory: string | null;
  readonly docs: boolean;
}

export const raftBenchUsage = `raft.sh [--json] [--nodes 3,5,7,9] [--rounds N] [--proposals N] [--docs] [--quick]
  --json       one JSON object as the last line
  --nodes      group sizes, from 2 to 15 (default 3,5,7,9)
  --rounds     leader losses of each kind (default 60)
  --proposals  batched proposals through the first size (default 1000000); the other sizes get a tenth
  --lease      pg_replica.failover_timeout_ms, from 500; the election timeout is a third of it (default 1000)
  --directory  where the logs go, so that it is this disk that is measured (default: the temporary directory)
  --docs       write the table into docs/benchmarks.md
  --quick      a few of everything: shows that it runs, measures nothing`;

/** Null when only the usage was asked for. @throws Error naming the argument that is wrong. */
export function readRaftOptions(args: readonly string[]): RaftBenchOptions | null {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: "boolean", default: false },
      nodes: { type: "string" },
      rounds: { type: "string" },
      proposals: { type: "string" },
      lease: { type: "string", default: "1000" },
      directory: { type: "string" },
      docs: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return null;
  const { quick, docs } = values;
  if (quick && docs) throw new Error("--quick measures nothing that --docs could write down: leave one of them out");
  const proposals = integer("proposals", values.proposals ?? (quick ? "5000" : "1000000"), 1);
  return {
    json: values.json,
    nodes: sizes(values.nodes ?? (quick ? "3" : "3,5,7,9")),
    rounds: integer("rounds", values.rounds ?? (quick ? "2" : "60"), 1),
    proposals,
    proposalsOthers: Math.max(1, Math.floor(proposals / 10)),
    singleProposals: quick ? 50 : 1000,
    restartRounds: quick ? 1 : 10,
    restartEntries: quick ? 500 : 10_000,
    leaseMs: integer("lease", values.lease, 500),
    directory: values.directory ?? null,
    docs,
  };
}

function sizes(text: string): number[] {
  const list = text.split(",").map((part) => integer("nodes", part.trim(), 2));
  if (list.some((size) => size > 15)) throw new Error(`--nodes takes sizes up to 15, not "${text}"`);
  if (new Set(list).size < list.length) throw new Error(`--nodes takes each size once, not "${text}"`);
  return list;
}

function integer(name: string, text: string, least: number): number {
  const value = /^\d{1,12}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least)) throw new Error(`--${name} takes a whole number from ${least}, not "${text}"`);
  return value;
}
