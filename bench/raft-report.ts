/** The Raft bench's results as Markdown, and their place in a document. */
import type { Latency, SizeResult } from "./raft-measures.js";
import { batchOutstanding, payloadBytes } from "./raft-measures.js";

export interface Machine {
  readonly cores: number;
  readonly cpu: string;
  readonly memoryBytes: number;
  readonly node: string;
  readonly fileSystem: string;
  readonly fdatasyncMs: number;
  /** When the run began. */
  readonly load: number;
}

export interface RaftResult {
  readonly machine: Machine;
  readonly electionTimeoutMs: number;
  readonly heartbeatIntervalMs: number;
  readonly rounds: number;
  readonly restartRounds: number;
  readonly elapsedSeconds: number;
  readonly sizes: readonly SizeResult[];
}

type Row = readonly [string, (size: SizeResult) => string];

const whole = (value: number) => String(Math.round(value));
const kilobytes = (bytes: number) => `${Math.round(bytes / 1024)} kB`;
const megabytes = (bytes: number) => `${Math.round(bytes / 1024 / 1024)} MB`;
const latencyCell = ({ medianMs, p99Ms }: Latency) => `${medianMs} ms, ${p99Ms} ms`;
const both = (ms: number, timeouts: number) => `${whole(ms)} ms = ${timeouts.toFixed(2)} E`;

function lossRows(key: "killed" | "silent", name: string): Row[] {
  return [
    [`${name}: median`, (size) => both(size[key].medianMs, size[key].medianTimeouts)],
    [`${name}: p99`, (size) => both(size[key].p99Ms, size[key].p99Timeouts)],
    [`${name}: median that the timers alone give`, (size) => `${size[key].idealMedianTimeouts.toFixed(2)} E`],
  ];
}

const rows: readonly Row[] = [
  ...lossRows("killed", "leader killed to new leader"),
  ...lossRows("silent", "leader silent to new leader"),
  ["one client: commits/s", ({ single }) => whole(single.perSecond)],
  ["one client: median, p99", ({ single }) => latencyCell(single)],
  ["bare append + fdatasync: median, p99", ({ single }) => latencyCell(single.bare)],
  ["one client: median / bare", ({ single }) => `${single.ratio.toFixed(2)} x`],
  ["bare, all nodes' at once, until most are durable", ({ single: { bareTogether: bare } }) => latencyCell(bare)],
  ["one client: median / bare, all at once", ({ single }) => `${single.ratioTogether.toFixed(2)} x`],
  [`${batchOutstanding} outstanding: commits/s`, ({ batched }) => whole(batched.perSecond)],
  [`${batchOutstanding} outstanding: median, p99`, ({ batched }) => latencyCell(batched)],
  ["one client: messages a commit", ({ perCommitSingle }) => String(perCommitSingle.messages)],
  ["one client: bytes sent a commit", ({ perCommitSingle }) => whole(perCommitSingle.bytes)],
  ["one client: fsyncs a commit", ({ perCommitSingle }) => String(perCommitSingle.syncs)],
  ["one client: processor time a commit", ({ perCommitSingle }) => `${perCommitSingle.cpuMs} ms`],
  [`${batchOutstanding} outstanding: messages a commit`, ({ perCommitBatched }) => String(perCommitBatched.messages)],
  [`${batchOutstanding} outstanding: bytes sent a commit`, ({ perCommitBatched }) => whole(perCommitBatched.bytes)],
  [`${batchOutstanding} outstanding: fsyncs a commit`, ({ perCommitBatched }) => String(perCommitBatched.syncs)],
  [`${batchOutstanding} outstanding: processor time a commit`, ({ perCommitBatched: per }) => `${per.cpuMs} ms`],
  ["proposals for the size on disk", ({ log }) => String(log.proposals)],
  ["state directory: largest, at the end", ({ log }) => `${kilobytes(log.maxBytes)}, ${kilobytes(log.finalBytes)}`],
  [
    "memory of the leader, of a follower",
    ({ memory: m }) => `${megabytes(m.leaderBytes)}, ${megabytes(m.followerBytes)}`,
  ],
  [
    "restart to follower: median, longest",
    ({ restart }) => `${whole(restart.medianMs)} ms, ${whole(restart.maxMs)} ms`,
  ],
  ["of that: process start, reading the log", ({ restart: r }) => `${whole(r.processMs)} ms, ${whole(r.openMs)} ms`],
];

export function markdown(result: RaftResult): string {
  const { machine, sizes } = result;
  const titles = sizes.map(({ nodes }) => `${nodes} nodes`);
  const table = [
    ["", ...titles],
    ["---", ...titles.map(() => "---")],
    ...rows.map(([name, cell]) => [name, ...sizes.map(cell)]),
  ].map((cells) => `| ${cells.join(" | ")} |`);
  const entries = sizes[0]?.restart.entries ?? 0;
  return [
    `${machine.cores} cores (${machine.cpu}), ${megabytes(machine.memoryBytes)} of memory, ${machine.fileSystem}, append + fdatasync`,
    `${machine.fdatasyncMs} ms, Node ${machine.node}, load ${machine.load} at the start; the run took ${whole(result.elapsedSeconds)} s.`,
    `E, the minimum election timeout, is ${result.electionTimeoutMs} ms, the heartbeat interval ${result.heartbeatIntervalMs} ms; ${result.rounds} leader losses of each kind,`,
    `${result.restartRounds} restarts with ${entries} entries in the log; entries of ${payloadBytes} bytes. All nodes, and the client, share the machine and its disk.`,
    "",
    ...table,
  ].join("\n");
}

const begin = "<!-- raft bench: written by bench/raft.sh --docs -->";
const end = "<!-- raft bench: end -->";

/** @throws Error when the document has no place for it */
export function intoDocument(document: string, text: string): string {
  const from = document.indexOf(begin);
  const to = document.indexOf(end);
  if (from < 0 || to < from) throw new Error(`the document has no lines "${begin}" and "${end}" to write between`);
  return `${document.slice(0, from + begin.length)}\n\n${text}\n\n${document.slice(to)}`;
}
