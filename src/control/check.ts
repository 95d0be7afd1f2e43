/** Small strict checks for data that comes out of the log or a snapshot. Each returns the value or throws {@link Mismatch}. */
export class Mismatch extends Error {
  constructor(path: string, expected: string) {
    super(`${path === "" ? "value" : path}: expected ${expected}`);
    this.name = "Mismatch";
  }
}

export type Check<T> = (value: unknown, path: string) => T;

/** Longest text that a command may carry, in UTF-16 units; connection strings and sentences stay far below. */
const maxTextLength = 16_384;

export const boolean: Check<boolean> = (value, path) => {
  if (typeof value !== "boolean") throw new Mismatch(path, "true or false");
  return value;
};

export const text: Check<string> = (value, path) => {
  if (typeof value !== "string" || value.length > maxTextLength) {
    throw new Mismatch(path, `a text of at most ${maxTextLength} characters`);
  }
  return value;
};

export const name: Check<string> = (value, path) => {
  if (text(value, path) === "") throw new Mismatch(path, "a text that is not empty");
  return value as string;
};

export function integer(minimum: number): Check<number> {
  return (value, path) => {
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < minimum) {
      throw new Mismatch(path, `an integer of at least ${minimum}`);
    }
    return value;
  };
}

/** A number of milliseconds; fractions are allowed, since some clocks give them. */
export const millis: Check<number> = (value, path) => {
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0) throw new Mismatch(path, "milliseconds >= 0");
  return value;
};

export function oneOf<const T extends string | number>(...allowed: readonly T[]): Check<T> {
  return (value, path) => {
    if (!allowed.includes(value as T)) throw new Mismatch(path, `one of ${allowed.join(", ")}`);
    return value as T;
  };
}

export function nullable<T>(check: Check<T>): Check<T | null> {
  return (value, path) => (value === null ? null : check(value, path));
}

export function optional<T>(check: Check<T>): Check<T | undefined> {
  return (value, path) => (value === undefined ? undefined : check(value, path));
}

/** A field that an earlier version did not write. */
export function orElse<T>(check: Check<T>, fallback: T): Check<T> {
  return (value, path) => (value === undefined ? fallback : check(value, path));
}

export function list<T>(check: Check<T>): Check<readonly T[]> {
  return (value, path) => {
    if (!Array.isArray(value)) throw new Mismatch(path, "a list");
    return value.map((item, at) => check(item, `${path}[${at}]`));
  };
}

export type Shape<T> = { readonly [K in keyof T]-?: Check<T[K]> };

/** Exactly these fields, rebuilt in the order of the shape, so that equal values have equal bytes on every node. */
export function object<T extends object>(shape: Shape<T>): Check<T> {
  const checks = Object.entries(shape) as Array<[string, Check<unknown>]>;
  return (value, path) => {
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw new Mismatch(path, "an object");
    const given = value as Record<string, unknown>;
    for (const key of Object.keys(given)) {
      if (!Object.hasOwn(shape, key)) throw new Mismatch(join(path, key), "no such field");
    }
    const result: Record<string, unknown> = {};
    for (const [key, check] of checks) {
      const field = check(Object.hasOwn(given, key) ? given[key] : undefined, join(path, key));
      if (field !== undefined) result[key] = field;
    }
    return result as T;
  };
}

/** A union told apart by the text in `tag`. */
export function tagged<T extends object>(tag: string, variants: Readonly<Record<string, Check<T>>>): Check<T> {
  return (value, path) => {
    const kind = typeof value === "object" && value !== null ? (value as Record<string, unknown>)[tag] : undefined;
    const variant = typeof kind === "string" && Object.hasOwn(variants, kind) ? variants[kind] : undefined;
    if (variant === undefined) throw new Mismatch(join(path, tag), `one of ${Object.keys(variants).join(", ")}`);
    return variant(value, path);
  };
}

function join(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}
