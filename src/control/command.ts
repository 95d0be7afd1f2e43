/**
 * Commands and the replicated state as bytes: JSON, checked strictly both ways. What is encoded is checked too: an
 * entry that can not be decoded would stop every node that applies it.
 */
import * as c from "./check.js";
import { noDurability } from "./durability.js";
import { ControlError } from "./errors.js";
import { parseLsn } from "./lsn.js";
import type {
  Command,
  ControlState,
  Durability,
  FailoverReason,
  HistoryEntry,
  Member,
  Phase,
  Promotion,
  SyncSet,
  Tags,
  Token,
} from "./types.js";

/** @throws ControlError `bad-command`: the command is not what its type says; nothing was proposed. */
export function encodeCommand(command: Command): Uint8Array {
  return toBytes(checked(checkCommand, command, "bad-command"));
}

/** @throws ControlError `bad-command`. */
export function decodeCommand(data: Uint8Array): Command {
  return checked(checkCommand, fromBytes(data, "bad-command"), "bad-command");
}

/** The state for a Raft snapshot; equal states give equal bytes. @throws ControlError `bad-state`. */
export function encodeState(state: ControlState): Uint8Array {
  return toBytes(checked(checkState, state, "bad-state"));
}

/** @throws ControlError `bad-state`. */
export function decodeState(data: Uint8Array): ControlState {
  return checked(checkState, fromBytes(data, "bad-state"), "bad-state");
}

const counter = c.integer(0);
const nodeId = c.integer(1);
const token = c.object<Token>({ term: counter, index: counter });
const lsn: c.Check<string> = (value, path) => {
  try {
    parseLsn(c.text(value, path));
  } catch {
    throw new c.Mismatch(path, 'a WAL position such as "0/3000148"');
  }
  return value as string;
};
const tags = c.object<Tags>({
  nofailover: c.boolean,
  failoverPriority: c.integer(Number.MIN_SAFE_INTEGER),
  nosync: c.boolean,
  noloadbalance: c.boolean,
});
const memberFields = {
  name: c.name,
  incarnation: c.name,
  address: c.name,
  dsn: c.text,
  httpAddress: c.nullable(c.text),
  kind: c.oneOf("data", "witness"),
  tags,
};
const newMember = c.object<Omit<Member, "id">>(memberFields);
const member = c.object<Member>({ id: nodeId, ...memberFields });
const reason: c.Check<FailoverReason> = c.oneOf(
  "bootstrap",
  "lease-expired",
  "released",
  "switchover",
  "operator",
  "open-timeout",
  "not-renewed",
);
const mode: c.Check<Durability["mode"]> = c.oneOf("async", "quorum");

type CommandOf<K extends Command["type"]> = Extract<Command, { type: K }>;

/** Checks one kind of command; `atMs` and `by` are common to all. */
function kind<K extends Command["type"]>(
  type: K,
  fields: Omit<c.Shape<CommandOf<K>>, "type" | "atMs" | "by">,
): c.Check<Command> {
  const shape = { atMs: c.millis, by: c.text, type: c.oneOf(type), ...fields };
  return c.object<CommandOf<K>>(shape as unknown as c.Shape<CommandOf<K>>) as c.Check<Command>;
}

const commands: { readonly [K in Command["type"]]: c.Check<Command> } = {
  bootstrap: kind("bootstrap", {
    clusterId: c.name,
    systemIdentifier: c.name,
    serverMajor: c.integer(1),
    leaseMs: c.integer(1),
    member: newMember,
  }),
  addMember: kind("addMember", {
    systemIdentifier: c.nullable(c.text),
    serverMajor: c.optional(c.nullable(c.integer(1))),
    member: newMember,
  }),
  updateMember: kind("updateMember", { member }),
  removeMember: kind("removeMember", { id: nodeId }),
  begin: kind("begin", {
    from: c.nullable(token),
    reason,
    target: c.nullable(nodeId),
    waitLsn: c.nullable(lsn),
    allowDataLoss: c.boolean,
    text: c.text,
  }),
  promote: kind("promote", { token, node: nodeId, parent: c.nullable(token), lsn, text: c.text }),
  grant: kind("grant", { token }),
  marked: kind("marked", { token, timeline: c.integer(1), forkLsn: lsn }),
  opened: kind("opened", { token, timeline: c.integer(1), forkLsn: lsn }),
  release: kind("release", { token, shutdownLsn: c.nullable(lsn), text: c.text }),
  handover: kind("handover", { from: token, target: c.nullable(nodeId) }),
  cancelHandover: kind("cancelHandover", { from: token, text: c.text }),
  pause: kind("pause", { paused: c.boolean }),
  settings: kind("settings", { leaseMs: c.integer(1) }),
  amendRecruit: kind("amendRecruit", { token, target: c.nullable(nodeId), allowDataLoss: c.boolean, text: c.text }),
  durabilityMode: kind("durabilityMode", { mode }),
  beginSetChange: kind("beginSetChange", {
    token,
    version: counter,
    members: c.list(nodeId),
    acks: counter,
    text: c.text,
  }),
  settleSetChange: kind("settleSetChange", { token, version: counter, lsn }),
};

const checkCommand: c.Check<Command> = c.tagged<Command>("type", commands);

type PhaseOf<K extends Phase["kind"]> = Extract<Phase, { kind: K }>;
const phases: { readonly [K in Phase["kind"]]: c.Check<Phase> } = {
  empty: c.object<PhaseOf<"empty">>({ kind: c.oneOf("empty") }),
  steady: c.object<PhaseOf<"steady">>({ kind: c.oneOf("steady") }),
  recruit: c.object<PhaseOf<"recruit">>({
    kind: c.oneOf("recruit"),
    from: c.nullable(token),
    reason,
    target: c.nullable(nodeId),
    waitLsn: c.nullable(lsn),
    allowDataLoss: c.boolean,
  }),
  promoted: c.object<PhaseOf<"promoted">>({ kind: c.oneOf("promoted"), holder: nodeId }),
  granted: c.object<PhaseOf<"granted">>({ kind: c.oneOf("granted"), holder: nodeId }),
};

const durability = c.object<Durability>({
  mode,
  version: counter,
  members: c.list(nodeId),
  acks: counter,
  target: c.nullable(c.object<SyncSet>({ members: c.list(nodeId), acks: counter })),
  inForce: c.nullable(c.object<NonNullable<Durability["inForce"]>>({ token, lsn })),
});

const checkState = c.object<ControlState>({
  format: c.oneOf(1),
  clusterId: c.text,
  systemIdentifier: c.text,
  serverMajor: counter,
  leaseMs: counter,
  leaseCeilingMs: counter,
  nextNodeId: nodeId,
  members: c.list(member),
  phase: c.tagged<Phase>("kind", phases),
  current: c.nullable(token),
  promotions: c.list(
    c.object<Promotion>({
      token,
      parent: c.nullable(token),
      holder: nodeId,
      timeline: c.nullable(c.integer(1)),
      forkLsn: c.nullable(lsn),
    }),
  ),
  lastGranted: c.nullable(c.object<NonNullable<ControlState["lastGranted"]>>({ token, holder: nodeId })),
  released: c.nullable(c.object<NonNullable<ControlState["released"]>>({ token, shutdownLsn: c.nullable(lsn) })),
  handover: c.nullable(
    c.object<NonNullable<ControlState["handover"]>>({ from: token, target: c.nullable(nodeId), atIndex: counter }),
  ),
  paused: c.boolean,
  durability: c.orElse(durability, noDurability),
  history: c.list(
    c.object<HistoryEntry>({
      index: counter,
      atMs: c.millis,
      kind: c.text,
      token: c.nullable(token),
      node: c.nullable(c.text),
      text: c.text,
    }),
  ),
});

function checked<T>(check: c.Check<T>, value: unknown, code: "bad-command" | "bad-state"): T {
  try {
    return check(value, "");
  } catch (error) {
    if (!(error instanceof c.Mismatch)) throw error;
    throw new ControlError(code, `${code === "bad-command" ? "command" : "cluster state"}: ${error.message}`);
  }
}

function toBytes(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

function fromBytes(data: Uint8Array, code: "bad-command" | "bad-state"): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(data));
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ControlError(code, `${data.length} bytes are not JSON: ${why}`);
  }
}
