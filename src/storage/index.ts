export { type Disk, type DiskFile, realDisk, writeFileAtomically } from "./disk.js";
export { StorageError, type StorageErrorCode } from "./errors.js";
export { openRaftStorage, type StorageTuning } from "./file-storage.js";
export { createMemoryStorage, type MemoryStorage } from "./memory-storage.js";
export { checkMeta, type ExpectedIdentity, formatStateDir, readMeta, refuseCopy, writeMeta } from "./meta.js";
export { emptyNodeState, readNodeState, writeNodeState } from "./node-state.js";
export { type Recovered, recoverState, type StateImage } from "./recovery.js";
export { lockStateDir, type StateDirLock } from "./state-dir-lock.js";
export type { Batch, Meta, NodeState, RaftStorage } from "./types.js";
