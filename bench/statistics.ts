/** What is told of a few measured values. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly values: readonly number[];
}

/** @throws Error when there are no values */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0) throw new Error("there is nothing to summarize");
  const sorted = [...values].sort((a, b) => a - b);
  const at = (index: number) => sorted[index] as number;
  const middle = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2;
  return { median, min: at(0), max: at(sorted.length - 1), values };
}

export function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}
