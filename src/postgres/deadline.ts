/** Waiting with a limit on the monotonic clock. */
export class Deadline {
  readonly #endMs: number;
  constructor(readonly totalMs: number) {
    this.#endMs = performance.now() + totalMs;
  }
  get leftMs(): number {
    return Math.max(0, this.#endMs - performance.now());
  }
  get passed(): boolean {
    return this.leftMs === 0;
  }
}

export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
