/** The cluster as `list`, `topology`, `history` and `uri` show it. Pure. */
import type { Colors } from "picocolors/types.js";
import type { MemberView, NodeView } from "../control/types.js";
import { CliError } from "./errors.js";
import { type Cell, type Format, formatBytes, prettyTable, printable, type Rows, tsv, yaml } from "./output.js";

export interface ShowOptions {
  readonly format: Format;
  readonly colors: Colors;
  /** Standbys below their primary, as in patronictl topology. */
  readonly topology?: boolean;
}

/** The primary first, then by name. */
function sorted(view: NodeView): MemberView[] {
  const rank = (member: MemberView) => (member.role === "primary" ? 0 : 1);
  return [...view.members].sort((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
}

export function showCluster(view: NodeView, options: ShowOptions): string {
  const members = sorted(view);
  switch (options.format) {
    case "json":
      return JSON.stringify(clusterData(view, members), null, 2);
    case "yaml":
      return yaml(clusterData(view, members));
    case "tsv":
      return tsv({ columns: dataColumns, rows: members.map(memberData) });
    case "pretty":
      return prettyCluster(view, members, options);
  }
}

function clusterData(view: NodeView, members: readonly MemberView[]): Record<string, unknown> {
  return {
    cluster: view.clusterId,
    system_identifier: view.systemIdentifier,
    primary: view.primary,
    leader: view.leader,
    token: tokenText(view.token),
    phase: view.phase,
    synchronous: view.synchronous,
    paused: view.paused,
    quorum: view.quorum,
    members: members.map(memberData),
  };
}

const dataKeys = [
  "member",
  "host",
  "port",
  "role",
  "state",
  "timeline",
  "lsn",
  "lag_bytes",
  "raft_role",
  "sync_state",
  "tags",
  "pending_restart",
];
const dataColumns = dataKeys.map((key) => ({ key, title: key }));

function memberData(member: MemberView): Record<string, Cell> {
  return {
    member: member.name,
    host: member.host,
    port: member.port,
    role: member.role,
    state: member.state,
    timeline: member.timeline,
    lsn: member.lsn,
    lag_bytes: member.lagBytes,
    raft_role: member.raftRole,
    sync_state: member.syncState,
    tags: tagText(member),
    pending_restart: member.pendingRestart,
  };
}

function prettyCluster(view: NodeView, members: readonly MemberView[], options: ShowOptions): string {
  const { colors } = options;
  const rows = members.map((member) => prettyMember(member, options.topology === true));
  const columns = [
    { key: "member", title: "Member" },
    { key: "host", title: "Host" },
    { key: "role", title: "Role" },
    { key: "state", title: "State" },
    { key: "timeline", title: "TL", right: true },
    { key: "lsn", title: "LSN", right: true },
    { key: "lag", title: "Lag", right: true },
    { key: "raft", title: "Raft" },
    ...optionalColumn(rows, "pending", "Pending restart"),
    ...optionalColumn(rows, "tags", "Tags"),
  ];
  const title = `Cluster: ${view.clusterId ?? "(none yet)"} (${view.systemIdentifier ?? "?"})`;
  const paint = (row: number, text: string) => memberColor(members[row], colors)(text);
  return [prettyTable(title, { columns, rows }, paint), ...footer(view, colors)].join("\n");
}

function optionalColumn(rows: ReadonlyArray<Record<string, Cell>>, key: string, title: string): Rows["columns"] {
  return rows.some((row) => row[key] !== "") ? [{ key, title }] : [];
}

function prettyMember(member: MemberView, topology: boolean): Record<string, Cell> {
  const primary = member.role === "primary";
  return {
    member: topology && !primary ? `+ ${member.name}` : member.name,
    host: `${member.host}:${member.port}`,
    role: roleText(member),
    state: member.state,
    timeline: member.timeline,
    lsn: member.lsn ?? "unknown",
    lag: lagText(member),
    raft: member.raftRole,
    pending: member.pendingRestart ? "*" : "",
    tags: tagText(member),
  };
}

function lagText(member: MemberView): string {
  if (member.role === "primary" || member.role === "witness") return "";
  return member.lagBytes === null ? "unknown" : formatBytes(member.lagBytes);
}

function roleText(member: MemberView): string {
  switch (member.role) {
    case "primary":
      return "Primary";
    case "standby":
      if (member.syncState === "sync") return "Sync Standby";
      return member.syncState === "quorum" ? "Quorum Standby" : "Replica";
    case "promoting":
      return "Promoting";
    case "witness":
      return "Witness";
    case "stopped":
      return "Stopped";
  }
}

function tagText(member: MemberView): string {
  const { nofailover, nosync, noloadbalance, failoverPriority } = member.tags;
  return [
    nofailover ? "nofailover" : "",
    nosync ? "nosync" : "",
    noloadbalance ? "noloadbalance" : "",
    failoverPriority === 100 ? "" : `failover_priority=${failoverPriority}`,
  ]
    .filter((tag) => tag !== "")
    .join(", ");
}

function memberColor(member: MemberView | undefined, colors: Colors): (text: string) => string {
  if (member === undefined) return (text) => text;
  if (member.role === "primary") return colors.green;
  if (member.state === "streaming" || member.role === "witness") return (text) => text;
  return member.state === "stopped" || member.state === "unreachable" ? colors.red : colors.yellow;
}

function footer(view: NodeView, colors: Colors): string[] {
  const lines: string[] = [];
  if (!view.quorum) {
    lines.push(colors.red(` No majority of the members is reached from ${printable(view.self.name)}: this may be old`));
  }
  if (view.phase !== "steady" && view.phase !== "empty") {
    lines.push(colors.yellow(` A failover is in progress (${view.phase})`));
  }
  if (view.paused) lines.push(colors.yellow(" Paused: no automatic failover"));
  return lines;
}

export function tokenText(token: NodeView["token"]): string | null {
  return token === null ? null : `${token.term}.${token.index}`;
}

export function showHistory(view: NodeView, format: Format): string {
  const rows = view.history.map((entry) => ({
    index: entry.index,
    at: new Date(entry.atMs).toISOString(),
    kind: entry.kind,
    token: tokenText(entry.token),
    node: entry.node,
    description: entry.text,
  }));
  if (format === "json") return JSON.stringify(rows, null, 2);
  if (format === "yaml") return yaml(rows);
  const columns = [
    { key: "at", title: "Time" },
    { key: "kind", title: "Kind" },
    { key: "token", title: "Token" },
    { key: "node", title: "Node" },
    { key: "description", title: "Description" },
  ];
  if (format === "tsv") return tsv({ columns: [{ key: "index", title: "Index" }, ...columns], rows });
  return prettyTable("", { columns, rows }, (_, text) => text);
}

export interface UriOptions {
  readonly dbname: string;
  readonly user: string | null;
}

/**
 * One URL that always leads to the primary: libpq tries the hosts in turn.
 * @throws CliError when the cluster has no data node.
 */
export function clientUri(view: NodeView, options: UriOptions): string {
  const hosts = sorted(view)
    .filter((member) => member.role !== "witness")
    .map(
      (member) => `${member.host.includes(":") ? `[${member.host}]` : encodeURIComponent(member.host)}:${member.port}`,
    );
  if (hosts.length === 0) throw new CliError("no-members", "the cluster has no data node yet", "", 1);
  const user = options.user === null ? "" : `${encodeURIComponent(options.user)}@`;
  return `postgresql://${user}${hosts.join(",")}/${encodeURIComponent(options.dbname)}?target_session_attrs=read-write`;
}
