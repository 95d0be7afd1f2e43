export { PrepareError } from "./errors.js";
export { acquireToolLock, type ToolLock } from "./lock.js";
export { isRejoinPending, majorVersionOf, type PrepareOptions, type PrepareOutcome, prepare } from "./prepare.js";
