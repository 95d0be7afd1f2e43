/** Why `pg_replica prepare` stopped. Nothing is lost: running it again goes on where it stopped. */
export class PrepareError extends Error {
  override readonly name = "PrepareError";
  constructor(
    readonly code:
      | "PREPARE_NOT_A_DATA_DIRECTORY"
      | "PREPARE_WRONG_USER"
      | "PREPARE_NO_STATE_DIRECTORY"
      | "PREPARE_LOCKED"
      | "PREPARE_SERVER_RUNNING"
      | "PREPARE_BAD_INTENT"
      | "PREPARE_BAD_PHASE"
      | "PREPARE_SOURCE_NOT_READY"
      | "PREPARE_CLONE_PENDING"
      | "PREPARE_REBUILD_FAILED",
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
