/** Checks of everything but Raft messages at the border (rule 61). */
import * as v from "valibot";
import type { Command, Gossip, Member, Outcome, Report, Tags, Token } from "../control/types.js";
import type { AppMessage, GuestRequest, GuestResponse } from "./types.js";

type Schema<T> = v.GenericSchema<unknown, T>;

const text = v.pipe(v.string(), v.maxLength(65_536));
const integer = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const nodeId = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const millis = v.pipe(v.number(), v.finite());
const lsn = v.pipe(v.string(), v.regex(/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/));
const stampNs = v.pipe(v.string(), v.regex(/^\d{1,20}$/));

const token: Schema<Token> = v.object({ term: integer, index: integer });
const tags: Schema<Tags> = v.object({
  nofailover: v.boolean(),
  failoverPriority: v.pipe(v.number(), v.finite()),
  nosync: v.boolean(),
  noloadbalance: v.boolean(),
});
const newMemberEntries = {
  name: v.pipe(text, v.nonEmpty()),
  incarnation: text,
  address: text,
  dsn: text,
  httpAddress: v.nullable(text),
  kind: v.picklist(["data", "witness"]),
  tags,
};
const newMember: Schema<Omit<Member, "id">> = v.object(newMemberEntries);
const member: Schema<Member> = v.object({ id: nodeId, ...newMemberEntries });

const reason = v.picklist([
  "bootstrap",
  "lease-expired",
  "released",
  "switchover",
  "operator",
  "open-timeout",
  "not-renewed",
]);
const said = { atMs: millis, by: text };
/** Strict: a field that this version does not know may change what a command means. */
const command = v.variant("type", [
  v.strictObject({
    ...said,
    type: v.literal("bootstrap"),
    clusterId: text,
    systemIdentifier: text,
    serverMajor: integer,
    leaseMs: millis,
    member: newMember,
  }),
  v.strictObject({
    ...said,
    type: v.literal("addMember"),
    systemIdentifier: v.nullable(text),
    serverMajor: v.exactOptional(v.nullable(integer)),
    member: newMember,
  }),
  v.strictObject({ ...said, type: v.literal("updateMember"), member }),
  v.strictObject({ ...said, type: v.literal("removeMember"), id: nodeId }),
  v.strictObject({
    ...said,
    type: v.literal("begin"),
    from: v.nullable(token),
    reason,
    target: v.nullable(nodeId),
    waitLsn: v.nullable(lsn),
    allowDataLoss: v.boolean(),
    text,
  }),
  v.strictObject({
    ...said,
    type: v.literal("promote"),
    token,
    node: nodeId,
    parent: v.nullable(token),
    lsn,
    text,
  }),
  v.strictObject({ ...said, type: v.literal("grant"), token }),
  v.strictObject({ ...said, type: v.literal("marked"), token, timeline: integer, forkLsn: lsn }),
  v.strictObject({ ...said, type: v.literal("opened"), token, timeline: integer, forkLsn: lsn }),
  v.strictObject({ ...said, type: v.literal("release"), token, shutdownLsn: v.nullable(lsn), text }),
  v.strictObject({ ...said, type: v.literal("handover"), from: token, target: v.nullable(nodeId) }),
  v.strictObject({ ...said, type: v.literal("cancelHandover"), from: token, text }),
  v.strictObject({ ...said, type: v.literal("pause"), paused: v.boolean() }),
  v.strictObject({ ...said, type: v.literal("settings"), leaseMs: millis }),
  v.strictObject({
    ...said,
    type: v.literal("amendRecruit"),
    token,
    target: v.nullable(nodeId),
    allowDataLoss: v.boolean(),
    text,
  }),
  v.strictObject({ ...said, type: v.literal("durabilityMode"), mode: v.picklist(["async", "quorum"]) }),
  v.strictObject({
    ...said,
    type: v.literal("beginSetChange"),
    token,
    version: integer,
    members: v.array(nodeId),
    acks: integer,
    text,
  }),
  v.strictObject({ ...said, type: v.literal("settleSetChange"), token, version: integer, lsn }),
]);

/** "command.field" for every field: one that the contract has and the check above lacks does not compile. */
type FieldNames<T> = T extends { readonly type: infer K extends string } ? `${K}.${keyof T & string}` : never;
type Unchecked = Exclude<FieldNames<Command>, FieldNames<v.InferOutput<typeof command>>>;
const checkedCommand: [Unchecked] extends [never] ? Schema<Command> : Unchecked = command;

const outcome: Schema<Outcome> = v.variant("ok", [
  v.object({ ok: v.literal(true), nodeId: v.exactOptional(nodeId), token: v.exactOptional(token) }),
  v.object({ ok: v.literal(false), code: text, message: text }),
]);

const report: Schema<Report> = v.variant("kind", [
  v.object({
    kind: v.literal("position"),
    token: v.nullable(token),
    lsn,
    timeline: integer,
    followedSinceStart: v.boolean(),
    lastPrimaryLsn: v.nullable(lsn),
    wasHolder: v.boolean(),
  }),
  v.object({ kind: v.literal("rejoining") }),
  v.object({ kind: v.literal("unable"), why: text }),
]);

const gossip: Schema<Gossip> = v.object({
  id: nodeId,
  name: text,
  atMs: millis,
  agentVersion: text,
  role: v.picklist(["primary", "standby", "promoting", "stopped"]),
  state: v.picklist([
    "starting",
    "running",
    "streaming",
    "catching up",
    "in recovery",
    "promoting",
    "stopping",
    "stopped",
    "rejoining",
    "cloning",
    "unreachable",
  ]),
  timeline: v.nullable(integer),
  receiveLsn: v.nullable(lsn),
  replayLsn: v.nullable(lsn),
  writeLsn: v.nullable(lsn),
  oldestLsn: v.exactOptional(v.nullable(lsn)),
  token: v.nullable(token),
  upstream: v.nullable(text),
  pendingRestart: v.boolean(),
  applied: integer,
  lease: v.nullable(v.object({ token, remainingMs: millis })),
});

const appMessage: Schema<AppMessage> = v.variant("kind", [
  v.object({ kind: v.literal("gossip"), gossip }),
  v.object({ kind: v.literal("renew"), token, stampNs }),
  v.object({ kind: v.literal("renewed"), token, stampNs }),
  v.object({ kind: v.literal("renewRefused"), token, why: text }),
  v.object({ kind: v.literal("report"), token, report }),
  v.object({ kind: v.literal("propose"), requestId: integer, command: checkedCommand }),
  v.object({ kind: v.literal("proposed"), requestId: integer, outcome }),
]);

const guestRequest: Schema<GuestRequest> = v.variant("kind", [
  v.object({ kind: v.literal("clusterInfo") }),
  v.object({
    kind: v.literal("register"),
    member: newMember,
    systemIdentifier: v.nullable(text),
    serverMajor: integer,
  }),
  v.object({ kind: v.literal("command"), command: text, args: v.record(v.string(), v.unknown()) }),
]);

const guestResponse: Schema<GuestResponse> = v.variant("ok", [
  // A result of undefined has no place in JSON: it arrives as a missing key.
  v.pipe(
    v.object({ ok: v.literal(true), result: v.optional(v.unknown()) }),
    v.transform(({ result }) => ({ ok: true as const, result })),
  ),
  v.object({ ok: v.literal(false), code: text, message: text, hint: v.exactOptional(text) }),
]);

export const parseAppMessage = (value: unknown): AppMessage => parse(appMessage, value);
export const parseGuestRequest = (value: unknown): GuestRequest => parse(guestRequest, value);
export const parseGuestResponse = (value: unknown): GuestResponse => parse(guestResponse, value);

function parse<T>(schema: Schema<T>, value: unknown): T {
  const result = v.safeParse(schema, value);
  if (result.success) return result.output;
  throw new TypeError(v.summarize(result.issues).replaceAll("\n", " "));
}
