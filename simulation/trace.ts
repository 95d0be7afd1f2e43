/** The last events before a failure, kept only when a failed seed is run again. */
export class Trace {
  readonly #limit: number;
  readonly #lines: string[] = [];
  #next = 0;

  constructor(limit = 200) {
    this.#limit = limit;
  }

  add(line: string): void {
    this.#lines[this.#next % this.#limit] = line;
    this.#next++;
  }

  lines(): string[] {
    const from = Math.max(0, this.#next - this.#limit);
    return Array.from({ length: this.#next - from }, (_, i) => this.#lines[(from + i) % this.#limit] as string);
  }
}
