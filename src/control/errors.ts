/** A value of the control plane that can not be what it claims to be. `code` is stable; the message says what and where. */
export class ControlError extends Error {
  readonly code: "bad-token" | "bad-lsn" | "bad-command" | "bad-state";

  constructor(code: ControlError["code"], message: string) {
    super(message);
    this.name = "ControlError";
    this.code = code;
  }
}
