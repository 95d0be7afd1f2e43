/**
 * The settings that a standby may not have lower than pg_control records, or it does not start ("insufficient parameter
 * settings"). With pg_replica each start is a standby start, so this holds for every node, at every start.
 */
import { readSetting } from "./configuration.js";
import { runTool } from "./tools.js";

/** Setting to its line in the output of pg_controldata. */
const labels = {
  max_connections: "max_connections setting",
  max_worker_processes: "max_worker_processes setting",
  max_wal_senders: "max_wal_senders setting",
  max_prepared_transactions: "max_prepared_xacts setting",
  max_locks_per_transaction: "max_locks_per_xact setting",
} as const;
export type StandbyLimit = keyof typeof labels;
const names = Object.keys(labels) as StandbyLimit[];

export interface LowLimit {
  readonly name: StandbyLimit;
  readonly configured: number;
  /** What pg_control records: the least that this server starts with. */
  readonly needed: number;
}

/** The settings with which this stopped server would not start. @throws ToolError */
export async function lowLimits(options: { readonly pgdata: string; readonly bindir: string }): Promise<LowLimit[]> {
  const recorded = await runTool({ ...options, tool: "pg_controldata", args: ["-D", options.pgdata] });
  const low: LowLimit[] = [];
  for (const name of names) {
    const line = recorded.find((candidate) => candidate.startsWith(`${labels[name]}:`));
    const needed = Number(line?.slice(labels[name].length + 1));
    if (!Number.isInteger(needed)) throw new TypeError(`pg_controldata does not say the ${labels[name]}`);
    const configured = Number(await readSetting({ ...options, name }));
    if (configured < needed) low.push({ name, configured, needed });
  }
  return low;
}
