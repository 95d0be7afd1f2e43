/** A broken invariant. Thrown where it is seen; ends the schedule. */
export class Violation extends Error {
  override readonly name = "Violation";
  readonly code: string;

  /** @param code names the invariant, stable: the zoo and the seed file refer to it. */
  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}
