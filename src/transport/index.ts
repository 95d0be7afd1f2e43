export { TransportError, type TransportErrorCode } from "./errors.js";
export { type GuestOptions, guestRequest } from "./guest-client.js";
export { requireFreePort } from "./listener.js";
export { createTransport } from "./tcp-transport.js";
export { defaultTuning, type Tuning } from "./tuning.js";
export type {
  AppMessage,
  GuestRequest,
  GuestResponse,
  PeerIdentity,
  Transport,
  TransportEvents,
  TransportOptions,
} from "./types.js";
