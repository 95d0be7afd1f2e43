export * from "./conninfo.js";
export { ControlFileError, parseControlFile, readControlFile } from "./control-file.js";
export { ServerError, type ServerErrorCode } from "./errors.js";
export { createLocalServer, type Deadlines, type LocalServerOptions } from "./local-server.js";
export { stopServer, waitForShutdownCheckpoint } from "./postmaster.js";
export * from "./types.js";
