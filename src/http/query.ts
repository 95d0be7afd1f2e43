/** Query parameters of the health checks, with Patroni's names. */
import { QueryError } from "./errors.js";

export interface HealthQuery {
  /** Most bytes of WAL that a replica may be behind; null: no limit. */
  readonly lagBytes: number | null;
  /** Only a replica in this state passes; null: any. */
  readonly replicationState: "streaming" | "in archive recovery" | null;
  /** Readiness: which position counts for the lag; null: apply. */
  readonly mode: "apply" | "write" | null;
  /** Tags that must have these values. */
  readonly tags: ReadonlyArray<{ readonly name: string; readonly value: string }>;
}

const units: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  kb: 1024,
  mb: 1024 ** 2,
  gb: 1024 ** 3,
  tb: 1024 ** 4,
};

/**
 * Reads a size as PostgreSQL writes it: "16777216", "10MB", "1.5 GB".
 * @returns bytes, rounded down
 * @throws QueryError
 */
export function parseSize(parameter: string, text: string): number {
  const match = /^\s*(\d{1,15}(?:\.\d{1,6})?)\s*([a-z]*)\s*$/i.exec(text);
  const unit = match === null ? undefined : units[(match[2] ?? "").toLowerCase()];
  const bytes = Math.floor(Number(match?.[1]) * (unit ?? Number.NaN));
  if (!Number.isSafeInteger(bytes)) {
    throw new QueryError(
      parameter,
      `${parameter}=${excerpt(text)} is not a size; write bytes, or a number with B, kB, MB, GB or TB, as in ${parameter}=10MB`,
    );
  }
  return bytes;
}

/** @throws QueryError for a parameter that is not known, stands there twice or has a bad value. */
export function parseHealthQuery(parameters: URLSearchParams): HealthQuery {
  const seen = new Set<string>();
  let query: HealthQuery = { lagBytes: null, replicationState: null, mode: null, tags: [] };
  for (const [name, value] of parameters) {
    if (seen.has(name)) throw new QueryError(excerpt(name), `the parameter ${excerpt(name)} stands there twice`);
    seen.add(name);
    query = { ...query, ...parseParameter(name, value, query.tags) };
  }
  return query;
}

function parseParameter(name: string, value: string, tags: HealthQuery["tags"]): Partial<HealthQuery> {
  if (name === "lag") return { lagBytes: parseSize(name, value) };
  if (name === "replication_state") {
    if (value === "streaming" || value === "in archive recovery") return { replicationState: value };
    throw new QueryError(name, `replication_state=${excerpt(value)} is not one of: streaming, in archive recovery`);
  }
  if (name === "mode") {
    if (value === "apply" || value === "write") return { mode: value };
    throw new QueryError(name, `mode=${excerpt(value)} is not one of: apply, write`);
  }
  if (/^tag_[A-Za-z0-9_]{1,63}$/.test(name)) return { tags: [...tags, { name: name.slice(4), value }] };
  throw new QueryError(
    excerpt(name),
    `the parameter ${excerpt(name)} is not known; a health check takes lag, replication_state, mode and tag_NAME`,
  );
}

function excerpt(text: string): string {
  return text.length <= 40 ? text : `${text.slice(0, 40)}...`;
}
