/**
 * Seeded randomness: sfc32 (Chris Doty-Humphrey's Small Fast Counter), one independent stream per concern, so that one
 * more draw in one place does not reshuffle all the others and a seed stays comparable while the simulator grows.
 */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** @param stream names the concern; two streams of one seed share nothing. */
  constructor(seed: number, stream: number) {
    let state = (seed ^ Math.imul(stream + 1, 0x9e3779b1)) | 0;
    const word = (): number => {
      state = (state + 0x9e3779b9) | 0;
      let mixed = state ^ (state >>> 16);
      mixed = Math.imul(mixed, 0x21f0aaad);
      mixed ^= mixed >>> 15;
      mixed = Math.imul(mixed, 0x735a2d97);
      return mixed ^ (mixed >>> 15);
    };
    this.#a = word();
    this.#b = word();
    this.#c = word() ^ seed;
    for (let i = 0; i < 12; i++) this.next();
  }

  /** 32 random bits as a signed integer. */
  next(): number {
    const result = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + result) | 0;
    return result;
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return (this.next() >>> 0) / 4294967296;
  }

  between(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }

  /** Uniform over the integers low..high, both included. */
  integer(low: number, high: number): number {
    return low + Math.floor(this.uniform() * (high - low + 1));
  }

  chance(probability: number): boolean {
    return probability > 0 && this.uniform() < probability;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.integer(0, items.length - 1)] as T;
  }

  /** Exponentially distributed with the given mean. */
  exponential(mean: number): number {
    return mean * negativeLogarithm(1 - this.uniform());
  }
}

/** -ln(x) for x in (0, 1] from basic arithmetic only: `Math.log` may differ between builds, and seeds must not. */
function negativeLogarithm(x: number): number {
  let halvings = 0;
  let mantissa = x;
  while (mantissa < 0.5) {
    mantissa *= 2;
    halvings++;
  }
  const y = (1 - mantissa) / (1 + mantissa);
  const square = y * y;
  // 2 artanh(y), y <= 1/3: seven terms are good to 1e-8.
  const series = 1 + square * (1 / 3 + square * (1 / 5 + square * (1 / 7 + square * (1 / 9 + square / 11))));
  return halvings * Math.LN2 + 2 * y * series;
}

/** One step of the 32-bit mixing used for rolling hashes and digests. */
export function mix(hash: number, value: number): number {
  let mixed = Math.imul(hash ^ value, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  return (Math.imul(mixed, 0xc2b2ae35) ^ (mixed >>> 16)) | 0;
}
