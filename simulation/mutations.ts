/** Damage to bytes and to JSON values, drawn at random. */
import type { Random } from "./random.js";

type ByteMutation = (bytes: Buffer, random: Random) => Buffer;

const byteMutations: readonly ByteMutation[] = [
  function flip(bytes, random) {
    const copy = Buffer.from(bytes);
    for (let times = random.integer(1, 4); times > 0; times--) {
      copy[random.integer(0, copy.length - 1)]! ^= 1 << random.integer(0, 7);
    }
    return copy;
  },
  function fill(bytes, random) {
    const copy = Buffer.from(bytes);
    const from = random.integer(0, copy.length - 1);
    return copy.fill(random.pick([0, 0, 0xff, 0x50]), from, Math.min(copy.length, from + random.integer(1, 600)));
  },
  function cut(bytes, random) {
    return bytes.subarray(0, random.integer(0, bytes.length));
  },
  function insert(bytes, random) {
    const at = random.integer(0, bytes.length);
    const more = randomBytes(random, random.integer(1, 100));
    return Buffer.concat([bytes.subarray(0, at), more, bytes.subarray(at)]);
  },
  function leaveOut(bytes, random) {
    const at = random.integer(0, bytes.length - 1);
    return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + random.integer(1, 200))]);
  },
  function repeat(bytes, random) {
    const from = random.integer(0, bytes.length - 1);
    const part = bytes.subarray(from, from + random.integer(1, 300));
    const at = random.integer(0, bytes.length);
    return Buffer.concat([bytes.subarray(0, at), part, bytes.subarray(at)]);
  },
  function lieAboutANumber(bytes, random) {
    const copy = Buffer.from(bytes);
    if (copy.length < 4) return copy;
    const value = random.pick([0, 1, 2, 0x7fffffff, 0xffffffff, copy.length, random.integer(0, 2 ** 20)]);
    const at = random.integer(0, Math.min(copy.length - 4, 80));
    if (random.chance(0.5)) copy.writeUInt32LE(value, at);
    else copy.writeUInt32BE(value, at);
    return copy;
  },
  function garbage(_bytes, random) {
    return randomBytes(random, random.integer(0, 400));
  },
];

export function randomBytes(random: Random, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => random.integer(0, 255)));
}

export function damageBytes(bytes: Buffer, random: Random): Buffer {
  let damaged = bytes;
  for (let times = random.integer(1, 3); times > 0 && damaged.length > 0; times--) {
    damaged = random.pick(byteMutations)(damaged, random);
  }
  return damaged;
}

/** Another image of the same file in parts of it. */
export function splice(bytes: Buffer, other: Buffer, random: Random): Buffer {
  const copy = Buffer.from(bytes);
  const from = random.integer(0, Math.min(copy.length, other.length) - 1);
  other.copy(copy, from, from, Math.min(other.length, from + random.integer(1, copy.length)));
  return copy;
}

const junk: readonly (object | string | number | boolean | null)[] = [
  null,
  true,
  -1,
  0,
  0.5,
  1e308,
  2 ** 53,
  Number.MAX_SAFE_INTEGER,
  "",
  "0/0",
  "x".repeat(70_000),
  "\u0000\ud800",
  "====",
  [],
  [[]],
  {},
  { length: 4_294_967_295 },
  JSON.parse('{"__proto__": {"type": "noop"}, "constructor": 1}') as object,
];

/** A copy of a JSON value with one or two of its parts replaced, left out, added or moved. */
export function damageJson(value: unknown, random: Random): unknown {
  let copy: unknown = JSON.parse(JSON.stringify(value));
  for (let times = random.integer(1, 2); times > 0; times--) copy = damageOnce(copy, random);
  return copy;
}

function damageOnce(value: unknown, random: Random): unknown {
  if (typeof value !== "object" || value === null || random.chance(0.1)) return junkValue(random);
  const fields = value as Record<string, unknown>;
  const keys = Object.keys(fields);
  if (keys.length === 0) return junkValue(random);
  const key = random.pick(keys);
  const inner = fields[key];
  if (typeof inner === "object" && inner !== null && random.chance(0.6)) {
    fields[key] = damageOnce(inner, random);
    return fields;
  }
  const way = random.uniform();
  if (way < 0.2) delete fields[key];
  else if (way < 0.35) fields[random.pick(keys)] = inner;
  else if (way < 0.45) fields[`${key}x`] = inner;
  else fields[key] = junkValue(random);
  return fields;
}

function junkValue(random: Random): unknown {
  if (random.chance(0.02)) return nested(random.integer(10, 2000));
  // A copy: it may be damaged in its turn.
  return JSON.parse(JSON.stringify(random.pick(junk)));
}

function nested(depth: number): unknown {
  let value: unknown = 1;
  for (let level = 0; level < depth; level++) value = [value];
  return value;
}
