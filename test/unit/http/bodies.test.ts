import assert from "node:assert/strict";
import { test } from "node:test";
import { createApp } from "../../../src/http/app.js";
import { clusterBody, historyBody, nodeBody } from "../../../src/http/bodies.js";
import { fakeMember, primaryView, standbyView } from "./fake-view.js";

test("/primary carries the fencing token", async () => {
  const app = createApp({ view: () => primaryView(), onRequestError: assert.fail });
  const body = (await (await app.request("/primary")).json()) as Record<string, unknown>;
  assert.equal(body.token, "4.17");
  assert.equal(body.writable, true);
});

test("/patroni has Patroni's keys on a primary and on a replica", () => {
  const primary = nodeBody(primaryView());
  assert.equal(primary.state, "running");
  assert.equal(primary.role, "primary");
  assert.equal(primary.server_version, 150018);
  assert.deepEqual(primary.xlog, { location: 0x3000148 });
  assert.deepEqual(primary.patroni, { version: "0.1.0", scope: "6b1c", name: "a" });
  assert.equal(primary.database_system_identifier, "7300000000000000001");
  assert.equal(primary.cluster_unlocked, false);
  const replica = nodeBody(standbyView());
  assert.equal(replica.role, "replica");
  assert.equal(replica.replication_state, "streaming");
  assert.deepEqual(replica.xlog, { received_location: 0x3000148, replayed_location: 0x3000138, paused: false });
});

test("/cluster lists members with Patroni's roles and an unknown lag as unknown", () => {
  const members = [fakeMember(1, "a"), fakeMember(2, "b"), fakeMember(3, "c", { lsn: null, lagBytes: null })];
  const body = clusterBody(primaryView({ members, paused: true })) as {
    members: Array<Record<string, unknown>>;
    pause: boolean;
    scope: string;
  };
  assert.deepEqual(
    body.members.map((member) => [member.name, member.role, member.lag]),
    [
      ["a", "leader", undefined],
      ["b", "replica", 16],
      ["c", "replica", "unknown"],
    ],
  );
  assert.equal(body.pause, true);
  assert.equal(body.scope, "6b1c");
});

test("/cluster tells by the wall clock when each member was last heard of", () => {
  const members = [fakeMember(1, "a", { lastSeenMs: 0 }), fakeMember(2, "b", { lastSeenMs: null })];
  const body = clusterBody(primaryView({ members }), 1_700_000_000_000) as {
    members: Array<{ last_seen: string | null }>;
  };
  assert.deepEqual(
    body.members.map((member) => member.last_seen),
    ["2023-11-14T22:13:20.000Z", null],
  );
});

test("/history has a row for each promotion", () => {
  assert.deepEqual(historyBody(primaryView()), [
    [null, null, "a is open for writes.", "2023-11-14T22:15:00.000Z", "a"],
  ]);
});
