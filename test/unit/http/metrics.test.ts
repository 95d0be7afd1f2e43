import assert from "node:assert/strict";
import { test } from "node:test";
import { renderMetrics } from "../../../src/http/metrics.js";
import { primaryView, standbyView } from "./fake-view.js";

function sample(text: string, name: string): string | undefined {
  return text.split("\n").find((line) => line.startsWith(`${name}{`));
}

test("a primary's metrics carry values, base units and labels", async () => {
  const text = await renderMetrics(primaryView());
  assert.equal(sample(text, "pg_replica_writable"), 'pg_replica_writable{cluster="6b1c",node="a"} 1');
  assert.match(sample(text, "pg_replica_lease_remaining_seconds") ?? "", / 2\.5$/);
  assert.match(sample(text, "pg_replica_info") ?? "", /version="0\.1\.0",server_version="15\.18"\} 1$/);
  assert.match(text, /pg_replica_member_lag_bytes\{cluster="6b1c",node="a",member="b"\} 16/);
  for (const name of text.matchAll(/^# TYPE (\S+) gauge$/gm)) {
    assert.doesNotMatch(name[1] ?? "", /_(ms|kb|mb|total|count)$/, "a gauge in base units");
  }
});

test("Patroni's names are there with the labels scope and name", async () => {
  const text = await renderMetrics(standbyView());
  assert.equal(sample(text, "patroni_replica"), 'patroni_replica{scope="6b1c",name="b"} 1');
  assert.equal(sample(text, "patroni_primary"), 'patroni_primary{scope="6b1c",name="b"} 0');
  assert.equal(sample(text, "patroni_postgres_streaming"), 'patroni_postgres_streaming{scope="6b1c",name="b"} 1');
  assert.match(sample(text, "patroni_xlog_received_location") ?? "", new RegExp(` ${0x3000148}$`));
  assert.match(sample(text, "patroni_version") ?? "", / 100$/);
});

test("when a member was last heard of is a Unix time, by the wall clock", async () => {
  const text = await renderMetrics(primaryView(), 1_700_000_001_500);
  assert.match(text, /^pg_replica_member_last_seen_timestamp_seconds\{[^}]*member="b"\} 1700000000$/m);
});

test("what is not known has no sample, rather than 0", async () => {
  const text = await renderMetrics(standbyView({ self: { lagBytes: null, timeline: null } }));
  assert.equal(sample(text, "pg_replica_lag_bytes"), undefined);
  assert.equal(sample(text, "pg_replica_timeline"), undefined);
  assert.equal(sample(text, "pg_replica_lease_remaining_seconds"), undefined);
});

test("a scrape keeps nothing of the one before it", async () => {
  await renderMetrics(primaryView());
  assert.doesNotMatch(await renderMetrics(primaryView({ members: [] })), /member="b"/);
});

test("the start time is understood as PostgreSQL writes it", async () => {
  for (const postmasterStartTime of ["2026-01-02 03:04:05.5+00", "2026-01-02 08:34:05.5+05:30"]) {
    const text = await renderMetrics(primaryView({ self: { postmasterStartTime } }));
    assert.match(sample(text, "patroni_postmaster_start_time") ?? "", / 1767323045\.5$/);
  }
});
