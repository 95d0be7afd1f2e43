/**
 * Who is at the other end. Four frames, then traffic:
 *
 *   dialer   hello(identity, whom it wants, nonce)   ->
 *            <-  challenge(identity, nonce, whether a secret is required)                    acceptor
 *   dialer   proof(HMAC)                             ->
 *            <-  welcome(HMAC)   or, to a peer that proved the secret, refused(why)          acceptor
 *
 * The HMAC covers both nonces, both identities and the role of its maker: an answer that is sent back, or recorded and
 * replayed, proves nothing. The secret itself never travels. Without TLS the frames after the handshake are not
 * authenticated: on a network that others can write to, use TLS.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import * as v from "valibot";
import type { PeerIdentity } from "./types.js";

export const protocolVersion = 1;

const text = v.pipe(v.string(), v.maxLength(1024));
const nonce = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const identityEntries = {
  clusterId: text,
  id: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  name: text,
  incarnation: text,
};
const preambleSchema = v.object({ magic: v.literal("pg_replica"), protocol: v.number() });
const helloSchema = v.object({
  t: v.literal("hello"),
  ...identityEntries,
  to: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
  nonce,
});
const challengeSchema = v.object({
  t: v.literal("challenge"),
  ...identityEntries,
  nonce,
  secretRequired: v.boolean(),
});
const proofSchema = v.object({ t: v.literal("proof"), proof: text });
const outcomeSchema = v.variant("t", [
  v.object({ t: v.literal("welcome"), proof: text }),
  v.object({ t: v.literal("refused"), why: text }),
]);

/** The handshake failed; `message` reads on after the peer's name ("... wants cluster x"). */
export class HandshakeError extends Error {
  override readonly name = "HandshakeError";
  /** Told to the remote: only after it proved the secret. */
  readonly tellRemote: boolean;
  constructor(message: string, tellRemote = false) {
    super(message);
    this.tellRemote = tellRemote;
  }
}

function identityOf(value: PeerIdentity): PeerIdentity {
  const { clusterId, id, name, incarnation } = value;
  return { clusterId, id, name, incarnation };
}

function newNonce(): string {
  return randomBytes(32).toString("hex");
}

interface Transcript {
  readonly dialer: PeerIdentity;
  readonly to: number;
  readonly dialerNonce: string;
  readonly acceptor: PeerIdentity;
  readonly acceptorNonce: string;
}

function makeProof(secret: Uint8Array | null, role: "dialer" | "acceptor", transcript: Transcript): string {
  if (secret === null) return "";
  const { dialer, to, dialerNonce, acceptor, acceptorNonce } = transcript;
  const parts = [
    ["pg_replica", protocolVersion, role, dialerNonce, acceptorNonce, to],
    [dialer.clusterId, dialer.id, dialer.name, dialer.incarnation],
    [acceptor.clusterId, acceptor.id, acceptor.name, acceptor.incarnation],
  ];
  return createHmac("sha256", secret).update(JSON.stringify(parts)).digest("hex");
}

function sameProof(given: string, wanted: string): boolean {
  const [a, b] = [Buffer.from(given), Buffer.from(wanted)];
  return a.length === b.length && timingSafeEqual(a, b);
}

function parse<T>(schema: v.GenericSchema<unknown, T>, frame: unknown, expected: string): T {
  const parsed = v.safeParse(schema, frame);
  if (parsed.success) return parsed.output;
  throw new HandshakeError(`does not speak the protocol of pg_replica (expected ${expected})`);
}

function checkPreamble(frame: unknown, expected: string): void {
  const { protocol } = parse(preambleSchema, frame, expected);
  if (protocol !== protocolVersion) {
    throw new HandshakeError(
      `speaks version ${protocol} of the peer protocol, this node version ${protocolVersion}: run compatible versions of pg_replica`,
    );
  }
}

const preamble = { magic: "pg_replica", protocol: protocolVersion };

export interface DialerOptions {
  readonly self: PeerIdentity;
  /** 0: whoever answers (guests). */
  readonly to: number;
  readonly secret: Uint8Array | null;
  readonly check: (peer: PeerIdentity) => void;
}

/** The side that opens the connection. Feed it each frame; it answers with the next one, or null when it is done. */
export class Dialer {
  readonly hello: object;
  peer: PeerIdentity | null = null;
  readonly #options: DialerOptions;
  readonly #nonce = newNonce();
  #expected: string | null = null;

  constructor(options: DialerOptions) {
    this.#options = options;
    this.hello = { t: "hello", ...preamble, ...identityOf(options.self), to: options.to, nonce: this.#nonce };
  }

  /** @throws HandshakeError */
  receive(frame: unknown): object | null {
    return this.#expected === null ? this.#onChallenge(frame) : this.#onOutcome(frame, this.#expected);
  }

  #onChallenge(frame: unknown): object {
    const { self, to, secret } = this.#options;
    checkPreamble(frame, "a challenge");
    const challenge = parse(challengeSchema, frame, "a challenge");
    if (challenge.nonce === this.#nonce) throw new HandshakeError("sends our own challenge back");
    if (challenge.secretRequired && secret === null) {
      throw new HandshakeError("requires the cluster secret, and this node has none: set pg_replica.secret_file");
    }
    if (!challenge.secretRequired && secret !== null) {
      throw new HandshakeError("has no cluster secret, and this node requires one: set pg_replica.secret_file there");
    }
    const acceptor = identityOf(challenge);
    const transcript = {
      dialer: identityOf(self),
      to,
      dialerNonce: this.#nonce,
      acceptor,
      acceptorNonce: challenge.nonce,
    };
    this.peer = acceptor;
    this.#expected = makeProof(secret, "acceptor", transcript);
    return { t: "proof", proof: makeProof(secret, "dialer", transcript) };
  }

  #onOutcome(frame: unknown, expected: string): null {
    const outcome = parse(outcomeSchema, frame, "a welcome");
    if (outcome.t === "refused") throw new HandshakeError(`refused this node: ${outcome.why}`);
    if (!sameProof(outcome.proof, expected)) throw new HandshakeError("does not know the cluster secret");
    this.#options.check(this.peer!);
    return null;
  }
}

export interface AcceptorOptions {
  readonly self: PeerIdentity;
  readonly secret: Uint8Array | null;
  /** @throws HandshakeError */
  readonly check: (peer: PeerIdentity, to: number) => void;
}

/** The side that is dialed. `peer` is set, and trusted, once `receive` says done. */
export class Acceptor {
  peer: PeerIdentity | null = null;
  readonly #options: AcceptorOptions;
  readonly #nonce = newNonce();
  #transcript: Transcript | null = null;

  constructor(options: AcceptorOptions) {
    this.#options = options;
  }

  /** @throws HandshakeError */
  receive(frame: unknown): { readonly reply: object; readonly done: boolean } {
    return this.#transcript === null ? this.#onHello(frame) : this.#onProof(frame, this.#transcript);
  }

  #onHello(frame: unknown): { reply: object; done: boolean } {
    checkPreamble(frame, "a hello");
    const hello = parse(helloSchema, frame, "a hello");
    const { self, secret } = this.#options;
    const [dialer, acceptor] = [identityOf(hello), identityOf(self)];
    this.#transcript = { dialer, to: hello.to, dialerNonce: hello.nonce, acceptor, acceptorNonce: this.#nonce };
    const secretRequired = secret !== null;
    return { reply: { t: "challenge", ...preamble, ...acceptor, nonce: this.#nonce, secretRequired }, done: false };
  }

  #onProof(frame: unknown, transcript: Transcript): { reply: object; done: boolean } {
    const { proof } = parse(proofSchema, frame, "a proof");
    const { secret, check } = this.#options;
    if (!sameProof(proof, makeProof(secret, "dialer", transcript))) {
      throw new HandshakeError(
        `(which says it is ${describePeer(transcript.dialer)}) does not know the cluster secret`,
      );
    }
    check(transcript.dialer, transcript.to);
    this.peer = transcript.dialer;
    return { reply: { t: "welcome", proof: makeProof(secret, "acceptor", transcript) }, done: true };
  }
}

export function describePeer(peer: PeerIdentity): string {
  return peer.id === 0 ? `guest "${peer.name}"` : `node "${peer.name}" (id ${peer.id})`;
}
