/**
 * Who this node is: finds or makes the identity in the state directory before anything else happens (docs/DECISIONS.md D4, D12).
 *
 *   formatted, id known        -> go on
 *   formatted by `join`        -> register with the cluster, get an id
 *   empty, a peer knows a cluster with this server's system identifier -> adopt: format, register
 *   empty, bootstrap = on and no peer knows a cluster -> make a cluster of one
 *   empty otherwise            -> keep asking the peers
 */
import { randomBytes, randomUUID } from "node:crypto";
import { hostname } from "node:os";
import * as v from "valibot";
import { formatToken, splitAddress } from "../control/index.js";
import type { AgentConfig, Member, Token } from "../control/types.js";
import { parseConninfo } from "../postgres/conninfo.js";
import { checkMeta, formatStateDir, openRaftStorage, readMeta, refuseCopy, writeMeta } from "../storage/index.js";
import type { Meta, RaftStorage } from "../storage/types.js";
import { guestRequest } from "../transport/index.js";
import type { GuestRequest } from "../transport/types.js";
import { delay } from "./clock.js";
import type { Credentials } from "./credentials.js";
import { AgentError, describeError } from "./errors.js";
import type { Logger } from "./logger.js";

export interface KnownPeer {
  readonly id: number;
  readonly address: string;
}

export interface Identity {
  readonly meta: Meta;
  readonly storage: RaftStorage;
  /** Members as the cluster told them at registration; the log tells them later. */
  readonly knownPeers: readonly KnownPeer[];
}

const clusterInfoSchema = v.object({
  clusterId: v.string(),
  systemIdentifier: v.string(),
  serverMajor: v.number(),
  members: v.array(v.object({ id: v.number(), name: v.string(), address: v.string() })),
});
export type ClusterInfo = v.InferOutput<typeof clusterInfoSchema>;

const registeredSchema = v.object({ id: v.number() });

const retryMs = 1000;
const askTimeoutMs = 2000;

export interface IdentityOptions {
  readonly config: AgentConfig;
  readonly credentials: Credentials;
  readonly log: Logger;
  /** Token of the marker in the local server's data; null: they have never belonged to a cluster. */
  readonly ownMarker: () => Promise<Token | null>;
}

/** @throws StorageError, AgentError when the directory belongs to another node, cluster or server. */
export async function establishIdentity(options: IdentityOptions): Promise<Identity> {
  const { config } = options;
  const meta = await readMeta(config.stateDir);
  if (meta !== null) {
    await refuseCopy(config.stateDir);
    checkMeta(meta, {
      nodeName: config.nodeId,
      systemIdentifier: config.server.systemIdentifier,
    });
    if (meta.raftId !== 0) return reopen(options, meta);
    const info = await findCluster(options);
    checkCluster(config, meta, info);
    return register(options, meta, info);
  }
  if (config.bootstrap) {
    const found = await askAll(options);
    const marker = found.length === 0 ? await options.ownMarker() : null;
    if (found.length === 0 && marker === null) return bootstrap(options);
    options.log.warning(
      marker === null
        ? "pg_replica.bootstrap is on, but a peer knows a cluster already: joining that one"
        : `pg_replica.bootstrap is on, but the data of this server belong to a cluster already (token ${formatToken(marker)}), which may have another primary: waiting for a peer that knows it. To make a new cluster of these data, remove standby.signal, start the server with PG_REPLICA_DISABLE=1 and run DROP EXTENSION pg_replica`,
    );
  }
  const info = await findCluster(options);
  const fresh = newMeta(config, info.clusterId, 0);
  // Before this directory is bound to a cluster that will not have it.
  checkCluster(config, fresh, info);
  await formatStateDir(config.stateDir, fresh);
  return register(options, fresh, info);
}

/**
 * A node that stopped between its registration and the first entries of the log knows nobody: the leader would write to
 * it and never get an answer. It asks its peers who they are.
 */
async function reopen(options: IdentityOptions, meta: Meta): Promise<Identity> {
  const identity = await withStorage(options, meta, []);
  const { snapshot, hardState } = identity.storage.initial;
  if (snapshot.index > 0 || hardState.commit > 0) return identity;
  const info = await findCluster(options);
  checkCluster(options.config, meta, info);
  return { ...identity, knownPeers: info.members };
}

/** This node as a member: what the others need to reach it. */
export function describeSelf(config: AgentConfig, incarnation: string): Omit<Member, "id"> {
  const own = config.peers.find((peer) => peer.name === config.nodeId);
  const dsn = config.advertiseDsn === "" ? `host=${hostname()} port=${config.server.port}` : config.advertiseDsn;
  const host = own?.host ?? parseConninfo(dsn).get("host") ?? hostname();
  return {
    name: config.nodeId,
    incarnation,
    address: `${bracketed(host)}:${own?.port ?? config.raftPort}`,
    dsn,
    httpAddress: config.httpPort === 0 ? null : `${bracketed(host)}:${config.httpPort}`,
    kind: "data",
    tags: config.tags,
  };
}

export function serverMajor(versionNum: number): number {
  return Math.floor(versionNum / 10_000);
}

function bracketed(host: string): string {
  return host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
}

function newMeta(config: AgentConfig, clusterId: string, raftId: number): Meta {
  return {
    format: 1,
    nodeName: config.nodeId,
    incarnation: randomBytes(8).toString("hex"),
    clusterId,
    systemIdentifier: config.server.systemIdentifier,
    raftId,
  };
}

/** Raft id 1 is the node that made the cluster: the only id that the log has not allotted. */
export const founderId = 1;

async function bootstrap(options: IdentityOptions): Promise<Identity> {
  const meta = newMeta(options.config, randomUUID(), founderId);
  await formatStateDir(options.config.stateDir, meta);
  options.log.info(`made cluster ${meta.clusterId} with this node as its first member`);
  return withStorage(options, meta, []);
}

async function withStorage(options: IdentityOptions, meta: Meta, knownPeers: readonly KnownPeer[]): Promise<Identity> {
  const { stateDir } = options.config;
  const storage = await openRaftStorage(stateDir);
  const { snapshot, entries, hardState } = storage.initial;
  const empty = snapshot.index === 0 && entries.length === 0 && hardState.term === 0;
  if (meta.raftId !== founderId || !empty) return { meta, storage, knownPeers };
  // A cluster of one: its configuration is the first, committed entry of the log. Also after a crash before it was
  // written; a lost log is something else, and refused by the storage.
  const config = { voters: [founderId], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
  await storage.persist({
    hardState: { term: 1, vote: 0, commit: 1 },
    entries: [{ term: 1, index: 1, type: "config", config }],
    mustSync: true,
  });
  await storage.close();
  return { meta, storage: await openRaftStorage(stateDir), knownPeers };
}

async function register(options: IdentityOptions, meta: Meta, info: ClusterInfo): Promise<Identity> {
  const { config, log } = options;
  const request: GuestRequest = {
    kind: "register",
    member: describeSelf(config, meta.incarnation),
    systemIdentifier: config.server.systemIdentifier,
    serverMajor: serverMajor(config.server.versionNum),
  };
  const addresses = [...info.members.map((member) => member.address), ...peerAddresses(config)];
  for (let last = ""; ; await delay(retryMs)) {
    const answer = await askFirst(options, addresses, request, meta.clusterId);
    if (answer.ok) {
      const { id } = v.parse(registeredSchema, answer.result);
      const registered: Meta = { ...meta, raftId: id };
      await writeMeta(config.stateDir, registered);
      log.info(`registered with cluster ${meta.clusterId} as member ${id}`);
      return withStorage(options, registered, info.members);
    }
    if (answer.why !== last) log.warning(`the cluster did not register this node yet: ${answer.why}`);
    last = answer.why;
  }
}

function checkCluster(config: AgentConfig, meta: Meta, info: ClusterInfo): void {
  if (meta.clusterId !== "" && meta.clusterId !== info.clusterId) {
    throw new AgentError(
      "wrong-cluster",
      `the state directory ${config.stateDir} belongs to cluster ${meta.clusterId}, the peers to cluster ${info.clusterId}`,
      "Correct pg_replica.peers, or join again with an empty state directory.",
    );
  }
  if (info.systemIdentifier !== config.server.systemIdentifier) {
    throw new AgentError(
      "wrong-system",
      `this server has system identifier ${config.server.systemIdentifier}, the cluster ${info.systemIdentifier}: it is not a copy of the cluster's database`,
      "Run pg_replica join on an empty data directory.",
    );
  }
  if (info.serverMajor !== serverMajor(config.server.versionNum)) {
    throw new AgentError(
      "wrong-major",
      `this server is PostgreSQL ${serverMajor(config.server.versionNum)}, the cluster runs PostgreSQL ${info.serverMajor}`,
      "Physical replication needs the same major version on all nodes.",
    );
  }
}

/** Asks the peers until one of them knows a cluster. */
async function findCluster(options: IdentityOptions): Promise<ClusterInfo> {
  for (let last = ""; ; await delay(retryMs)) {
    const problems: string[] = [];
    const [first] = await askAll(options, problems);
    if (first !== undefined) return first;
    const why = problems.length === 0 ? "pg_replica.peers names no other node" : problems.join("; ");
    if (why !== last) {
      options.log.warning(
        `this node belongs to no cluster yet and no peer knows one (${why}); set pg_replica.bootstrap on the first node only`,
      );
    }
    last = why;
  }
}

function peerAddresses(config: AgentConfig): string[] {
  return config.peers
    .filter((peer) => peer.name !== config.nodeId)
    .map((peer) => `${bracketed(peer.host)}:${peer.port}`);
}

/** Asks every peer at once what cluster it knows. */
export async function askAll(options: IdentityOptions, problems: string[] = []): Promise<ClusterInfo[]> {
  const answers = await Promise.all(
    peerAddresses(options.config).map((address) => ask(options, address, { kind: "clusterInfo" }, "")),
  );
  const found: ClusterInfo[] = [];
  for (const answer of answers) {
    if (!answer.ok) problems.push(answer.why);
    else if (answer.result !== null) found.push(v.parse(clusterInfoSchema, answer.result));
  }
  return found;
}

/** Refusals that are the same whichever node is asked. */
const finalCodes: ReadonlySet<string> = new Set(["duplicate-node", "wrong-system-identifier", "wrong-major"]);

type Answer =
  | { readonly ok: true; readonly result: unknown }
  | { readonly ok: false; readonly why: string; readonly final: boolean };

async function askFirst(
  options: IdentityOptions,
  addresses: readonly string[],
  request: GuestRequest,
  clusterId: string,
): Promise<Answer> {
  const problems: string[] = [];
  for (const address of new Set(addresses)) {
    const answer = await ask(options, address, request, clusterId);
    if (answer.ok) return answer;
    // The cluster has spoken: the others would say the same.
    if (answer.final) return answer;
    problems.push(answer.why);
  }
  return { ok: false, why: problems.join("; "), final: false };
}

async function ask(
  options: IdentityOptions,
  address: string,
  request: GuestRequest,
  clusterId: string,
): Promise<Answer> {
  const { host, port } = splitAddress(address);
  const { secret, tls } = options.credentials;
  try {
    const response = await guestRequest({ host, port, secret, tls, timeoutMs: askTimeoutMs, clusterId }, request);
    if (response.ok) return response;
    return { ok: false, why: `${address}: ${response.message}`, final: finalCodes.has(response.code) };
  } catch (error) {
    return { ok: false, why: describeError(error), final: false };
  }
}
