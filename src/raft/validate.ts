/**
 * The boundary: whatever a peer sent either becomes a {@link Message} that the core can trust the shape of, or is refused
 * with the name of the field that is wrong (R53, R61). Builds fresh, frozen objects; nothing of the input is kept but
 * the bytes of payloads.
 */
import { configurationProblem, freezeConfiguration } from "./configuration.js";
import { MalformedMessageError } from "./errors.js";
import type { Configuration, Entry, Message, NodeId, Snapshot } from "./types.js";

type Fields = Readonly<Record<string, unknown>>;

/** Terms above this leave no room for the elections to come. */
const maxTerm = Number.MAX_SAFE_INTEGER - 2 ** 32;
const maxEntriesPerMessage = 1_000_000;
const maxNodesPerConfiguration = 1_000;

/**
 * Checks that `value` is a message of the protocol and gives it back as one.
 *
 * @param value What the transport decoded; payloads must be `Uint8Array`s already.
 * @throws MalformedMessageError naming the first field that is wrong.
 */
export function validateMessage(value: unknown): Message {
  const fields = record(value, "");
  const base = { from: nodeId(fields, "from"), to: nodeId(fields, "to"), term: term(fields, "term") };
  if (base.from === base.to) throw new MalformedMessageError("to", `is the sender, node ${base.from}, itself`);
  return body(fields, base);
}

function body(f: Fields, base: { from: NodeId; to: NodeId; term: number }): Message {
  const { type } = f;
  switch (type) {
    case "RequestVote":
      return { type, ...base, ...logEnd(f), transfer: boolean(f, "transfer"), ...remembers(f) };
    case "RequestVoteResponse":
      return { type, ...base, ...answer(f), elapsedMs: natural(f, "elapsedMs") };
    case "PreVote":
      return { type, ...base, ...logEnd(f), ...remembers(f) };
    case "PreVoteResponse":
      return { type, ...base, ...answer(f) };
    case "AppendEntries":
      return appendEntries(f, base);
    case "AppendEntriesResponse":
      return appendResponse(f, base);
    case "Heartbeat":
      return heartbeat(f, base);
    case "HeartbeatResponse":
      return { type, ...base, round: natural(f, "round") };
    case "InstallSnapshot":
      return { type, ...base, snapshot: snapshot(f, base.term) };
    case "InstallSnapshotResponse":
      return { type, ...base, matchIndex: natural(f, "matchIndex") };
    case "TimeoutNow":
      return { type, ...base, ...logEnd(f) };
    case "ReadIndex":
      return { type, ...base, requestId: natural(f, "requestId") };
    case "ReadIndexResponse":
      return { type, ...base, requestId: natural(f, "requestId"), index: natural(f, "index") };
    default:
      throw new MalformedMessageError("type", `is ${show(type)}, which is none of the protocol's messages`);
  }
}

function appendEntries(f: Fields, base: { from: NodeId; to: NodeId; term: number }): Message {
  const prevIndex = natural(f, "prevIndex");
  const prevTerm = term(f, "prevTerm");
  if (prevTerm > base.term) throw new MalformedMessageError("prevTerm", `${prevTerm} is past the message's term`);
  const list = array(f.entries, "entries", maxEntriesPerMessage);
  const entries: Entry[] = [];
  let lastTerm = prevTerm;
  for (let i = 0; i < list.length; i += 1) {
    const at = `entries[${i}]`;
    const entry = validateEntry(record(list[i], at), at);
    if (entry.index !== prevIndex + 1 + i) {
      throw new MalformedMessageError(`${at}.index`, `is ${entry.index}, but ${prevIndex + 1 + i} follows`);
    }
    if (entry.term < lastTerm || entry.term > base.term) {
      throw new MalformedMessageError(`${at}.term`, `is ${entry.term}, not within ${lastTerm}..${base.term}`);
    }
    lastTerm = entry.term;
    entries.push(entry);
  }
  return { type: "AppendEntries", ...base, prevIndex, prevTerm, entries, commit: natural(f, "commit") };
}

function answer(f: Fields): { granted: boolean; reachedTerm?: number; heldIndex?: number; removedAt?: number } {
  const granted = boolean(f, "granted");
  const told = f.removedAt === undefined ? {} : { removedAt: natural(f, "removedAt") };
  return { granted, ...remembers(f), ...told };
}

function remembers(f: Fields): { reachedTerm?: number; heldIndex?: number } {
  return {
    ...(f.reachedTerm === undefined ? {} : { reachedTerm: term(f, "reachedTerm") }),
    ...(f.heldIndex === undefined ? {} : { heldIndex: natural(f, "heldIndex") }),
  };
}

function heartbeat(f: Fields, base: { from: NodeId; to: NodeId; term: number }): Message {
  const message = { ...base, commit: natural(f, "commit"), round: natural(f, "round"), ...remembers(f) };
  if (f.holdings === undefined) return { type: "Heartbeat", ...message };
  const holdings = array(f.holdings, "holdings", maxNodesPerConfiguration).map((value, i) => {
    const at = `holdings[${i}]`;
    const holding = record(value, at);
    return { id: positive(holding, "id", at), index: natural(holding, "index", at) };
  });
  return { type: "Heartbeat", ...message, holdings };
}

function appendResponse(f: Fields, base: { from: NodeId; to: NodeId; term: number }): Message {
  const type = "AppendEntriesResponse";
  if (boolean(f, "success")) return { type, ...base, success: true, matchIndex: natural(f, "matchIndex") };
  const rejectedIndex = natural(f, "rejectedIndex");
  const hintIndex = natural(f, "hintIndex");
  return { type, ...base, success: false, rejectedIndex, hintIndex, hintTerm: term(f, "hintTerm") };
}

function validateEntry(f: Fields, at: string): Entry {
  const entry = { term: term(f, "term", at), index: positive(f, "index", at) };
  const { type } = f;
  if (type === "noop") return Object.freeze({ ...entry, type });
  if (type === "data") return Object.freeze({ ...entry, type, data: bytes(f, "data", at) });
  if (type === "config") return Object.freeze({ ...entry, type, config: configuration(f.config, `${at}.config`) });
  throw new MalformedMessageError(`${at}.type`, `is ${show(type)}, not noop, data or config`);
}

function snapshot(f: Fields, messageTerm: number): Snapshot {
  const at = "snapshot";
  const s = record(f.snapshot, at);
  const index = positive(s, "index", at);
  const snapshotTerm = term(s, "term", at);
  if (snapshotTerm > messageTerm) throw new MalformedMessageError("snapshot.term", "is past the message's term");
  const config = configuration(s.config, "snapshot.config");
  return Object.freeze({ index, term: snapshotTerm, config, data: bytes(s, "data", at) });
}

function configuration(value: unknown, at: string): Configuration {
  const f = record(value, at);
  const config = {
    voters: nodeIds(f, "voters", at),
    votersOutgoing: nodeIds(f, "votersOutgoing", at),
    learners: nodeIds(f, "learners", at),
    learnersNext: nodeIds(f, "learnersNext", at),
    autoLeave: boolean(f, "autoLeave", at),
  };
  const problem = configurationProblem(config);
  if (problem !== null) throw new MalformedMessageError(at, problem);
  return freezeConfiguration(config);
}

function logEnd(f: Fields): { lastIndex: number; lastTerm: number } {
  return { lastIndex: natural(f, "lastIndex"), lastTerm: term(f, "lastTerm") };
}

// ------------------------------------------------------------------------------------------------------ primitives

function record(value: unknown, at: string): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  throw new MalformedMessageError(at, `is ${show(value)}, not an object`);
}

function array(value: unknown, at: string, maxLength: number): readonly unknown[] {
  if (!Array.isArray(value)) throw new MalformedMessageError(at, `is ${show(value)}, not a list`);
  if (value.length > maxLength) throw new MalformedMessageError(at, `has ${value.length} elements, over ${maxLength}`);
  return value;
}

function integer(f: Fields, name: string, at: string, low: number, high: number): number {
  const value = f[name];
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= low && value <= high) return value;
  throw new MalformedMessageError(path(at, name), `is ${show(value)}, not an integer within ${low}..${high}`);
}

function natural(f: Fields, name: string, at = ""): number {
  return integer(f, name, at, 0, Number.MAX_SAFE_INTEGER);
}

function positive(f: Fields, name: string, at = ""): number {
  return integer(f, name, at, 1, Number.MAX_SAFE_INTEGER);
}

function nodeId(f: Fields, name: string): NodeId {
  return positive(f, name);
}

function term(f: Fields, name: string, at = ""): number {
  return integer(f, name, at, 0, maxTerm);
}

function boolean(f: Fields, name: string, at = ""): boolean {
  const value = f[name];
  if (typeof value === "boolean") return value;
  throw new MalformedMessageError(path(at, name), `is ${show(value)}, not true or false`);
}

function bytes(f: Fields, name: string, at: string): Uint8Array {
  const value = f[name];
  if (value instanceof Uint8Array) return value;
  throw new MalformedMessageError(path(at, name), `is ${show(value)}, not bytes`);
}

function nodeIds(f: Fields, name: string, at: string): NodeId[] {
  const list = array(f[name], path(at, name), maxNodesPerConfiguration);
  const ids: NodeId[] = [];
  for (let i = 0; i < list.length; i += 1) {
    const id = list[i];
    if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 1) {
      throw new MalformedMessageError(`${path(at, name)}[${i}]`, `is ${show(id)}, not a node id`);
    }
    ids.push(id);
  }
  return ids;
}

function path(at: string, name: string): string {
  return at === "" ? name : `${at}.${name}`;
}

/** Short: what a peer sent must not flood the log. */
function show(value: unknown): string {
  if (value === undefined) return "missing";
  if (typeof value === "number" || typeof value === "boolean" || value === null) return String(value);
  if (typeof value === "string") return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
  return Array.isArray(value) ? "a list" : `of type ${typeof value}`;
}
