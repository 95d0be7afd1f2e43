/** The options that `init` and `join` share: this node's settings. */
import { isIP } from "node:net";
import { type Command, InvalidArgumentError } from "commander";
import { parseConninfo } from "../postgres/conninfo.js";
import { CliError, describeError } from "./errors.js";

export interface NodeFlags {
  readonly pgdata: string;
  readonly bindir?: string;
  readonly nodeId: string;
  readonly port: number;
  readonly raftPort: number;
  readonly httpPort: number;
  readonly listenAddresses: string;
  readonly advertiseDsn?: string;
  readonly peers?: string;
  readonly failoverTimeoutMs: number;
  readonly secretFile?: string;
  readonly set: Readonly<Record<string, string>>;
  readonly superuser?: string;
  readonly auth?: string;
  readonly pwfile?: string;
}

export function addNodeOptions(command: Command): Command {
  return command
    .requiredOption("--node-id <name>", "stable name of this node: a-z, 0-9, _ . - (db1)", nodeId)
    .option("--port <port>", "the server's port", number(1, 65535), 5432)
    .option("--raft-port <port>", "port on which the nodes' agents talk", number(1, 65535), 7400)
    .option("--http-port <port>", "port of health checks and metrics, 0: off", number(0, 65535), 8008)
    .option("--listen-addresses <list>", "addresses on which the server listens", "*")
    .option("--advertise-dsn <dsn>", "how the other nodes reach this server: host=... port=... user=...", dsn)
    .option("--peers <list>", "all nodes: name=host:raftport,...", peers)
    .option(
      "--failover-timeout-ms <ms>",
      "how long the primary may write without a majority",
      number(500, 600_000),
      3000,
    )
    .option("--secret-file <file>", "file with the secret that all nodes share")
    .option("--set <name=value>", "another setting of postgresql.conf (may be repeated)", setting, {});
}

function number(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) throw new InvalidArgumentError(`Expected a number from ${min} to ${max}.`);
    return value;
  };
}

export function nodeId(text: string): string {
  if (/^[a-z0-9_.-]{1,63}$/.test(text)) return text;
  throw new InvalidArgumentError('Use 1 to 63 of the characters a-z, 0-9, "_", "." and "-".');
}

function dsn(text: string): string {
  try {
    const parameters = parseConninfo(text);
    if (parameters.has("password")) throw new Error("it holds a password: use passfile=FILE instead");
    return text;
  } catch (error) {
    throw new InvalidArgumentError(describeError(error));
  }
}

/** Like the server's own check of pg_replica.peers, before anything is written. */
export function peers(text: string): string {
  parsePeers(text);
  return text;
}

export interface Peer {
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

export function parsePeers(text: string): Peer[] {
  if (text.trim() === "") return [];
  const found = text.split(",").map((entry) => {
    const match = /^\s*([a-z0-9_.-]{1,63})\s*=\s*(?:\[([^\]\s]+)\]|([^\s:[\]=,"'/\\]+)):(\d{1,5})\s*$/.exec(entry);
    const port = Number(match?.[4]);
    const host = match?.[2] ?? match?.[3];
    if (match?.[1] === undefined || host === undefined || !(port >= 1 && port <= 65535)) {
      throw new InvalidArgumentError(
        `"${entry.trim()}" is not name=host:port, as in a=10.0.0.1:7400 or b=[fd00::2]:7400.`,
      );
    }
    return { name: match[1], host, port };
  });
  const twice = found.find((peer, index) => found.findIndex(({ name }) => name === peer.name) !== index);
  if (twice !== undefined) throw new InvalidArgumentError(`The node name "${twice.name}" stands there twice.`);
  return found;
}

function setting(text: string, before: Readonly<Record<string, string>>): Record<string, string> {
  const match = /^\s*([A-Za-z_][\w.]*)\s*=(.*)$/s.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new InvalidArgumentError(`"${text}" is not name=value.`);
  }
  return { ...before, [match[1].toLowerCase()]: match[2].trim() };
}

/** What goes into pg_replica.conf. `bootstrap` is on for the first node only. */
export function nodeSettings(flags: NodeFlags, bootstrap: boolean): Record<string, string> {
  return {
    shared_preload_libraries: "pg_replica",
    listen_addresses: flags.listenAddresses,
    port: String(flags.port),
    wal_level: "replica",
    max_wal_senders: "16",
    max_replication_slots: "16",
    // A joining node gets its slot when it registers, which is after its clone: until then this keeps its WAL.
    wal_keep_size: "512MB",
    hot_standby: "on",
    wal_log_hints: "on",
    "pg_replica.node_id": flags.nodeId,
    "pg_replica.peers": flags.peers ?? "",
    "pg_replica.raft_port": String(flags.raftPort),
    "pg_replica.http_port": String(flags.httpPort),
    "pg_replica.bootstrap": bootstrap ? "on" : "off",
    "pg_replica.failover_timeout_ms": String(flags.failoverTimeoutMs),
    "pg_replica.advertise_dsn": flags.advertiseDsn ?? "",
    "pg_replica.secret_file": flags.secretFile ?? "",
    ...nodePath(),
    ...flags.set,
  };
}

/** The server looks in PATH and the usual places itself. */
function nodePath(): Record<string, string> {
  const usual = ["/usr/bin/node", "/usr/local/bin/node"].includes(process.execPath);
  return usual ? {} : { "pg_replica.node_path": process.execPath };
}

/** Lines for pg_hba.conf that let the nodes' agents and receivers in, and nobody else. */
export function hbaLines(flags: NodeFlags): string[] {
  const user =
    (flags.advertiseDsn === undefined ? undefined : parseConninfo(flags.advertiseDsn).get("user")) ?? flags.superuser;
  const method = flags.auth ?? "scram-sha-256";
  const hosts = parsePeers(flags.peers ?? "").map((peer) => peer.host);
  const places = hosts.length === 0 ? ["samenet"] : [...new Set(hosts)].map(hbaAddress);
  return places.flatMap((place) => [
    `host all ${hbaQuoted(user ?? "all")} ${place} ${method}`,
    `host replication ${hbaQuoted(user ?? "all")} ${place} ${method}`,
  ]);
}

function hbaAddress(host: string): string {
  const family = isIP(host);
  if (family === 0) return hbaQuoted(host);
  return family === 4 ? `${host}/32` : `${host}/128`;
}

function hbaQuoted(text: string): string {
  if (/["\n\r]/.test(text)) throw new CliError("bad-name", `${JSON.stringify(text)} can not stand in pg_hba.conf`);
  return text === "all" || text === "samenet" ? text : `"${text}"`;
}

/** pg_replica.state_dir, absolute. */
export function stateDirectory(flags: NodeFlags): string {
  const named = flags.set["pg_replica.state_dir"] ?? "";
  if (named === "") return `${flags.pgdata}/pg_replica`;
  return named.startsWith("/") ? named : `${flags.pgdata}/${named}`;
}
