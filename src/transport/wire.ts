/** What crosses a member connection after the handshake: binary data as base64, everything checked on arrival. */
import { type Message, validateMessage } from "../raft/index.js";
import { FrameError } from "./frames.js";
import { parseAppMessage } from "./schemas.js";
import type { AppMessage } from "./types.js";

export type MemberFrame =
  | { readonly t: "raft"; readonly message: Message }
  | { readonly t: "app"; readonly message: AppMessage }
  | { readonly t: "ping" }
  | { readonly t: "pong" };

export function raftFrame(message: Message): object {
  if (message.type === "AppendEntries") {
    const entries = message.entries.map((entry) =>
      entry.type === "data" ? { ...entry, data: toBase64(entry.data) } : entry,
    );
    return { t: "raft", message: { ...message, entries } };
  }
  if (message.type === "InstallSnapshot") {
    const snapshot = { ...message.snapshot, data: toBase64(message.snapshot.data) };
    return { t: "raft", message: { ...message, snapshot } };
  }
  return { t: "raft", message };
}

/** @throws FrameError saying what is wrong with it. */
export function parseMemberFrame(value: unknown): MemberFrame {
  if (!isRecord(value)) throw new FrameError("sent a frame that is not an object");
  switch (value.t) {
    case "ping":
    case "pong":
      return { t: value.t };
    case "app":
      return { t: "app", message: checked("message", () => parseAppMessage(value.message)) };
    case "raft":
      return { t: "raft", message: checked("Raft message", () => validateMessage(withBytes(value.message))) };
    default:
      throw new FrameError("sent a frame of an unknown kind");
  }
}

function checked<T>(what: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    throw new FrameError(`sent a malformed ${what}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

/** Base64 back to bytes; anything that does not look right is left for the validation to refuse. */
function withBytes(message: unknown): unknown {
  if (!isRecord(message)) return message;
  if (Array.isArray(message.entries)) return { ...message, entries: message.entries.map(dataToBytes) };
  if (isRecord(message.snapshot)) return { ...message, snapshot: dataToBytes(message.snapshot) };
  return message;
}

function dataToBytes(value: unknown): unknown {
  if (!isRecord(value) || typeof value.data !== "string") return value;
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value.data) || value.data.length % 4 !== 0) {
    throw new FrameError("data is not base64");
  }
  return { ...value, data: new Uint8Array(Buffer.from(value.data, "base64")) };
}

function toBase64(data: Uint8Array): string {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64");
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
