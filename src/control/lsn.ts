/** WAL positions in PostgreSQL's notation: two hexadecimal halves of a 64-bit byte position, "16/B374D848". */
import { ControlError } from "./errors.js";
import type { Lsn } from "./types.js";

/** @throws ControlError `bad-lsn`. */
export function parseLsn(text: Lsn): bigint {
  const match = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/.exec(text);
  if (match === null) {
    throw new ControlError("bad-lsn", `"${text}" is not a WAL position; expected two hex numbers, e.g. "0/3000148"`);
  }
  return (BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`);
}

/** @throws ControlError `bad-lsn` when the position does not fit 64 bits. */
export function formatLsn(position: bigint): Lsn {
  if (position < 0n || position >= 1n << 64n) {
    throw new ControlError("bad-lsn", `${position} is not a WAL position: it does not fit 64 bits`);
  }
  return `${(position >> 32n).toString(16)}/${(position & 0xffffffffn).toString(16)}`.toUpperCase();
}

/** Negative when `a` is before `b`. */
export function compareLsn(a: Lsn, b: Lsn): number {
  const difference = parseLsn(a) - parseLsn(b);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** `a - b` in bytes; exact up to 2^53 bytes (8 PB). */
export function lsnDifference(a: Lsn, b: Lsn): number {
  return Number(parseLsn(a) - parseLsn(b));
}
