/** What is told of a few measured values. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly values: readonly number[];
}

/** @throws Error when there are no values */
export function summarize(values: readonly number[]): Summary {
  return { median: percentile(values, 50), min: percentile(values, 0), max: percentile(values, 100), values };
}

/** Between two values the place decides (linear). @throws Error when there are no values */
export function percentile(values: readonly number[], percent: number): number {
  if (values.length === 0) throw new Error("there is nothing to summarize");
  const sorted = [...values].sort((a, b) => a - b);
  const place = ((sorted.length - 1) * percent) / 100;
  const below = sorted[Math.floor(place)] as number;
  const above = sorted[Math.ceil(place)] as number;
  return below + (above - below) * (place - Math.floor(place));
}

export function round(value: number, digits = 1): number {
  return Number(value.toFixed(digits));
}
