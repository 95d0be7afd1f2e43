/** What the Raft bench and its node processes tell each other over their channel. */
export interface NodeConfig {
  readonly id: number;
  readonly directory: string;
  /** Of all nodes; the id is the place, from 1. */
  readonly ports: readonly number[];
  /** base64 */
  readonly secret: string;
  readonly leaseMs: number;
  readonly compactEvery: number;
  /** The node says "reached" once it has applied so much. */
  readonly watchCommit: number;
}

export interface LoadRequest {
  readonly count: number;
  readonly outstanding: number;
  readonly payloadBytes: number;
}

export interface LoadResult {
  readonly done: number;
  readonly elapsedMs: number;
  /** Of the proposals, or of an even sample of at most `maxLatencies`, in milliseconds. */
  readonly latenciesMs: readonly number[];
  /** Why it ended before all were done: this node is no longer the leader. */
  readonly interrupted: string | null;
}

export interface NodeReport {
  readonly leads: boolean;
  readonly leader: number;
  readonly commit: number;
  readonly applied: number;
  readonly lastIndex: number;
  readonly connected: number;
  readonly messages: number;
  /** On the wire; counted only while asked to, since it costs. */
  readonly bytes: number;
  readonly syncs: number;
  readonly cpuMs: number;
  readonly rssBytes: number;
  /** The largest and the present size of the whole state directory. */
  readonly directoryMaxBytes: number;
  readonly directoryBytes: number;
}

export type ToNode =
  | { readonly kind: "start"; readonly config: NodeConfig }
  | { readonly kind: "load"; readonly request: number; readonly load: LoadRequest }
  | { readonly kind: "report"; readonly request: number }
  | { readonly kind: "countBytes"; readonly on: boolean };

export type FromNode =
  /** How long the process took to come so far, and of that its storage. */
  | { readonly kind: "up"; readonly processMs: number; readonly openMs: number }
  /** The no-op of this node's term is committed. */
  | { readonly kind: "leading"; readonly term: number }
  | { readonly kind: "reached" }
  | { readonly kind: "load"; readonly request: number; readonly result: LoadResult }
  | { readonly kind: "report"; readonly request: number; readonly result: NodeReport }
  | { readonly kind: "fatal"; readonly text: string };

export const maxLatencies = 20_000;
