/**
 * Damaged streams, handshakes and peer messages: a typed refusal or what was really sent, never another error, never
 * more memory than a frame may take.
 */
import { isDeepStrictEqual } from "node:util";
import type { Message } from "../src/raft/types.js";
import { encodeFrame, FrameError, FrameReader, maxHandshakeFrameBytes } from "../src/transport/frames.js";
import { Acceptor, Dialer, HandshakeError } from "../src/transport/handshake.js";
import { parseGuestRequest, parseGuestResponse } from "../src/transport/schemas.js";
import type { AppMessage, PeerIdentity } from "../src/transport/types.js";
import { parseMemberFrame, raftFrame } from "../src/transport/wire.js";
import { FuzzFailure, type FuzzOutcome } from "./fuzz-storage.js";
import { damageBytes, damageJson } from "./mutations.js";
import type { Random } from "./random.js";

const config = { voters: [1, 2], votersOutgoing: [], learners: [3], learnersNext: [], autoLeave: false };
const route = { from: 1, to: 2, term: 7 };
const logEnd = { lastIndex: 9, lastTerm: 6 };
const messages: readonly Message[] = [
  { type: "RequestVote", ...route, ...logEnd, transfer: false },
  { type: "RequestVoteResponse", ...route, granted: true, elapsedMs: 12 },
  { type: "PreVote", ...route, ...logEnd },
  {
    type: "AppendEntries",
    ...route,
    prevIndex: 3,
    prevTerm: 5,
    commit: 3,
    entries: [
      { index: 4, term: 6, type: "noop" },
      { index: 5, term: 6, type: "data", data: new Uint8Array([1, 2, 250]) },
      { index: 6, term: 7, type: "config", config },
    ],
  },
  { type: "Heartbeat", ...route, commit: 4, round: 5 },
  { type: "HeartbeatResponse", ...route, round: 5 },
  {
    type: "InstallSnapshot",
    ...route,
    snapshot: { index: 4, term: 6, config, data: new Uint8Array([9, 8, 7, 6]) },
  },
  { type: "TimeoutNow", ...route, ...logEnd },
  { type: "ReadIndex", ...route, requestId: 3 },
];

const token = { term: 3, index: 17 };
const apps: readonly AppMessage[] = [
  { kind: "renew", token, stampNs: "123456789" },
  { kind: "renewRefused", token, why: "not the holder" },
  { kind: "report", token, report: { kind: "unable", why: "no server" } },
  { kind: "propose", requestId: 4, command: { type: "grant", atMs: 1, by: "a", token } },
  { kind: "propose", requestId: 5, command: { type: "pause", atMs: 1, by: "a", paused: true } },
  { kind: "proposed", requestId: 4, outcome: { ok: true, nodeId: 3 } },
];

const frames: readonly object[] = [
  ...messages.map(raftFrame),
  ...apps.map((message) => ({ t: "app", message })),
  { t: "ping" },
  { t: "pong" },
];

const guestFrames: readonly object[] = [
  { kind: "clusterInfo" },
  { kind: "command", command: "switchover", args: { to: "b" } },
];

/** The answer of a parser, or null when it refused with one of its own errors. */
function orRefused<T>(parse: () => T, ...errors: ReadonlyArray<new (...args: never[]) => Error>): { value: T } | null {
  try {
    return { value: parse() };
  } catch (error) {
    if (errors.some((type) => error instanceof type)) return null;
    throw error;
  }
}

/** A stream of frames, damaged, in pieces of any size. */
function fuzzStream(random: Random): FuzzOutcome {
  const sent = Array.from({ length: random.integer(1, 6) }, () => random.pick(frames));
  const bytes = Buffer.concat(sent.map((frame) => encodeFrame(frame)));
  const damaged = random.chance(0.1) ? bytes : damageBytes(bytes, random);
  let good = 0;
  while (good < damaged.length && damaged[good] === bytes[good]) good++;
  const reader = new FrameReader();
  if (random.chance(0.5)) reader.limitBytes = 256 * 1024;
  const read: unknown[] = [];
  const refused = !receive(reader, damaged, random, read);
  checkPrefix(sent, good, read);
  if (refused) return "refused";
  return read.length === sent.length && damaged.equals(bytes) ? "whole" : "prefix";
}

function receive(reader: FrameReader, bytes: Buffer, random: Random, read: unknown[]): boolean {
  const most = random.pick([1, 7, 100, 100_000]);
  for (let at = 0; at < bytes.length; ) {
    const size = random.integer(1, most);
    reader.push(Buffer.from(bytes.subarray(at, at + size)));
    at += size;
    const more = orRefused(() => drain(reader, read), FrameError);
    if (more === null) return false;
    if (reader.waitingBytes > reader.limitBytes + 4) throw new FuzzFailure(`keeps ${reader.waitingBytes} bytes`);
    if (reader.waitingChunks > 64) throw new FuzzFailure(`keeps ${reader.waitingChunks} pieces`);
  }
  return true;
}

function drain(reader: FrameReader, read: unknown[]): void {
  for (let frame = reader.next(); frame !== undefined; frame = reader.next()) read.push(frame);
}

/** Frames that arrived whole before the first damaged byte were given out as they were sent, in order. */
function checkPrefix(sent: readonly object[], goodBytes: number, read: readonly unknown[]): void {
  let end = 0;
  for (const [at, frame] of sent.entries()) {
    end += encodeFrame(frame).length;
    if (end > goodBytes) return;
    if (!isDeepStrictEqual(read[at], JSON.parse(JSON.stringify(frame))))
      throw new FuzzFailure(`frame ${at} was changed`);
  }
}

/** A frame of a member with parts replaced: what is accepted means the same when it is sent on. */
function fuzzMemberFrame(random: Random): FuzzOutcome {
  const sent = random.pick(frames);
  const damaged = random.chance(0.05) ? sent : damageJson(sent, random);
  const found = orRefused(() => parseMemberFrame(throughJson(damaged)), FrameError);
  if (found === null) {
    if (damaged === sent) throw new FuzzFailure("a good frame was refused");
    return "refused";
  }
  const { value } = found;
  const again = parseMemberFrame(throughJson(value.t === "raft" ? raftFrame(value.message) : value));
  if (!isDeepStrictEqual(again, value)) throw new FuzzFailure("what was accepted changes when it is sent on");
  return damaged === sent ? "whole" : "forged";
}

function throughJson(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

function fuzzGuestFrame(random: Random): FuzzOutcome {
  const request = damageJson(random.pick(guestFrames), random);
  const response = damageJson(
    random.pick([
      { ok: true, result: 1 },
      { ok: false, code: "x", message: "y" },
    ]),
    random,
  );
  const asked = orRefused(() => parseGuestRequest(request), TypeError);
  const answered = orRefused(() => parseGuestResponse(response), TypeError);
  return asked === null && answered === null ? "refused" : "forged";
}

const identity = (id: number): PeerIdentity => ({ clusterId: "c1", id, name: `n${id}`, incarnation: `disk${id}` });

/** A handshake in which one frame is damaged: nobody is let in as somebody else, or without the secret. */
function fuzzHandshake(random: Random): FuzzOutcome {
  const secret = Buffer.from("the secret of this cluster");
  const dialer = new Dialer({ self: identity(1), to: 2, secret, check: () => undefined });
  const acceptor = new Acceptor({ self: identity(2), secret, check: () => undefined });
  const target = random.integer(0, 4);
  let turn = 0;
  const pass = (frame: object): unknown => (turn++ === target ? damageJson(frame, random) : throughJson(frame));
  const done = orRefused(() => {
    const challenge = acceptor.receive(pass(dialer.hello)).reply;
    const proof = dialer.receive(pass(challenge)) as object;
    const welcome = acceptor.receive(pass(proof));
    dialer.receive(pass(welcome.reply));
  }, HandshakeError);
  if (acceptor.peer !== null && !isDeepStrictEqual(acceptor.peer, identity(1)))
    throw new FuzzFailure("took it for another");
  if (done === null) return "refused";
  if (!isDeepStrictEqual(dialer.peer, identity(2))) throw new FuzzFailure("reached another");
  return target === 4 ? "whole" : "forged";
}

/** A frame that announces more than is allowed costs nothing. */
function fuzzLengths(random: Random): FuzzOutcome {
  const reader = new FrameReader();
  const head = Buffer.alloc(5, "{");
  const length = random.integer(maxHandshakeFrameBytes + 1, 2 ** 32 - 1);
  head.writeUInt32BE(length, 0);
  if (random.chance(0.5)) {
    reader.push(encodeFrame({ t: "ping" }));
    reader.next();
  }
  reader.push(head);
  if (orRefused(() => reader.next(), FrameError) !== null) throw new FuzzFailure(`waits for ${length} bytes`);
  return "refused";
}

/** Values in values, deeper than any stack: read by the parser, refused by those who look at it. */
function fuzzDepth(random: Random): FuzzOutcome {
  const depth = random.integer(2000, 200_000);
  const [before, after] = random.pick([
    ['{"t":"raft","message":', "}"],
    ['{"t":"app","message":{"kind":', "}}"],
    ['{"t":"hello","magic":"pg_replica","protocol":', "}"],
    ['{"t":', "}"],
  ] as const);
  const json = Buffer.from(`${before}${"[".repeat(depth)}${"]".repeat(depth)}${after}`);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(json.length);
  const reader = new FrameReader();
  reader.limitBytes = json.length;
  reader.push(Buffer.concat([head, json]));
  const frame = orRefused(() => reader.next(), FrameError);
  if (frame === null) return "refused";
  const acceptor = new Acceptor({ self: identity(2), secret: null, check: () => undefined });
  const accepted = [
    orRefused(() => parseMemberFrame(frame.value), FrameError),
    orRefused(() => parseGuestRequest(frame.value), TypeError),
    orRefused(() => acceptor.receive(frame.value), HandshakeError),
  ];
  if (accepted.some((one) => one !== null)) throw new FuzzFailure("accepted a bottomless frame");
  return "refused";
}

/** One case. @throws whatever is a bug. */
export function fuzzTransport(random: Random): FuzzOutcome {
  const kind = random.uniform();
  if (kind < 0.35) return fuzzStream(random);
  if (kind < 0.75) return fuzzMemberFrame(random);
  if (kind < 0.85) return fuzzGuestFrame(random);
  if (kind < 0.98) return fuzzHandshake(random);
  return random.chance(0.8) ? fuzzLengths(random) : fuzzDepth(random);
}
