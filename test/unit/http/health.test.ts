import assert from "node:assert/strict";
import { test } from "node:test";
import type { NodeView } from "../../../src/control/types.js";
import { createApp } from "../../../src/http/app.js";
import { fakeMember, primaryView, standbyView } from "./fake-view.js";

async function status(view: NodeView, path: string, method = "GET"): Promise<number> {
  const problems: string[] = [];
  const app = createApp({ view: () => view, onRequestError: (text) => problems.push(text) });
  const response = await app.request(path, { method });
  assert.deepEqual(problems, []);
  return response.status;
}

async function expectCodes(view: NodeView, codes: Record<string, number>): Promise<void> {
  for (const [path, code] of Object.entries(codes)) assert.equal(await status(view, path), code, path);
}

const none = { nofailover: false, failoverPriority: 100, nosync: false, noloadbalance: false };

test("a writable primary passes the primary's checks and none of a replica's", async () => {
  await expectCodes(primaryView(), {
    "/": 200,
    "/primary": 200,
    "/read-write": 200,
    "/leader": 200,
    "/replica": 503,
    "/async": 503,
    "/asynchronous": 503,
    "/read-only": 200,
    "/health": 200,
    "/liveness": 200,
    "/readiness": 200,
    "/patroni": 200,
    "/cluster": 200,
    "/history": 200,
    "/metrics": 200,
  });
});

test("a streaming standby passes the replica's checks and none of the primary's", async () => {
  await expectCodes(standbyView(), {
    "/": 503,
    "/primary": 503,
    "/read-write": 503,
    "/leader": 503,
    "/replica": 200,
    "/async": 200,
    "/asynchronous": 200,
    "/read-only": 200,
    "/health": 200,
    "/liveness": 200,
    "/readiness": 200,
  });
});

test("a primary whose lease ran out or is not open is no primary to clients", async () => {
  for (const self of [{ writable: false }, { leaseRemainingMs: 0 }, { leaseRemainingMs: null }]) {
    await expectCodes(primaryView({ self }), { "/primary": 503, "/read-only": 503, "/readiness": 503, "/health": 200 });
  }
});

test("a promoting node is neither primary nor replica", async () => {
  await expectCodes(standbyView({ self: { role: "promoting", state: "promoting" } }), {
    "/primary": 503,
    "/replica": 503,
    "/health": 200,
  });
});

test("an election of another Raft leader does not end the primary's 200 while its lease is live", async () => {
  assert.equal(await status(primaryView({ quorum: false, leader: null }), "/primary"), 200);
});

test("a stopped or unreachable server is not healthy", async () => {
  await expectCodes(standbyView({ self: { role: "stopped", state: "unreachable" } }), {
    "/health": 503,
    "/replica": 503,
    "/readiness": 503,
    "/patroni": 200,
  });
});

test("lag limits a replica, and an unknown lag is too much", async () => {
  await expectCodes(standbyView({ self: { lagBytes: 10 * 1024 * 1024 } }), {
    "/replica?lag=10MB": 200,
    "/replica?lag=10485760": 200,
    "/replica?lag=9MB": 503,
    "/asynchronous?lag=9MB": 503,
    "/readiness?lag=9MB": 503,
  });
  await expectCodes(standbyView({ self: { lagBytes: null } }), { "/replica": 200, "/replica?lag=1GB": 503 });
});

test("readiness with mode=write counts what was received, not what was applied", async () => {
  const view = standbyView({ self: { lagBytes: 32, receiveLsn: "0/3000148", replayLsn: "0/3000138" } });
  await expectCodes(view, { "/readiness?lag=16&mode=write": 200, "/readiness?lag=16&mode=apply": 503 });
});

test("replication_state=streaming refuses a replica that does not stream", async () => {
  await expectCodes(standbyView(), { "/replica?replication_state=streaming": 200 });
  await expectCodes(standbyView({ self: { state: "in recovery" } }), {
    "/replica": 200,
    "/replica?replication_state=streaming": 503,
    "/replica?replication_state=in%20archive%20recovery": 200,
  });
});

test("noloadbalance takes a replica out of the read checks only", async () => {
  await expectCodes(standbyView({ self: { tags: { ...none, noloadbalance: true } } }), {
    "/replica": 503,
    "/read-only": 503,
    "/async": 503,
    "/health": 200,
    "/readiness": 200,
  });
});

test("tag_NAME must match the node's tag; a tag that it does not have never matches", async () => {
  await expectCodes(standbyView({ self: { tags: { ...none, nosync: true } } }), {
    "/replica?tag_nosync=true": 200,
    "/replica?tag_nosync=false": 503,
    "/replica?tag_failover_priority=100": 200,
    "/replica?tag_zone=x": 503,
    "/replica?tag_constructor=x": 503,
  });
});

test("a synchronous standby is not asynchronous", async () => {
  const members = [fakeMember(1, "a"), fakeMember(2, "b", { syncState: "quorum" })];
  await expectCodes(standbyView({ members }), { "/async": 503, "/replica": 200 });
});

test("liveness fails after one lease without a loop on the primary, after two on a standby", async () => {
  await expectCodes(primaryView({ self: { loopAgeMs: 3000 } }), { "/liveness": 200 });
  await expectCodes(primaryView({ self: { loopAgeMs: 3001 } }), { "/liveness": 503 });
  await expectCodes(standbyView({ self: { loopAgeMs: 6000 } }), { "/liveness": 200 });
  await expectCodes(standbyView({ self: { loopAgeMs: 6001 } }), { "/liveness": 503 });
});

test("HEAD and OPTIONS give the status without a body", async () => {
  const app = createApp({ view: () => standbyView(), onRequestError: assert.fail });
  for (const method of ["HEAD", "OPTIONS"]) {
    for (const [path, code] of [
      ["/replica", 200],
      ["/primary", 503],
      ["/", 503],
    ] as const) {
      const response = await app.request(path, { method });
      assert.equal(response.status, code, `${method} ${path}`);
      assert.equal(await response.text(), "");
    }
  }
});

test("a bad parameter is refused with 400 and says what is wrong", async () => {
  const app = createApp({ view: () => standbyView(), onRequestError: assert.fail });
  for (const [query, words] of [
    ["lag=ten", /lag=ten is not a size.*lag=10MB/],
    ["lag=", /is not a size/],
    ["lag=-1", /is not a size/],
    ["lag=10XB", /is not a size/],
    ["lag=999999999999999TB", /is not a size/],
    ["lag=1&lag=2", /lag stands there twice/],
    ["lagg=10MB", /lagg is not known/],
    ["replication_state=up", /not one of: streaming/],
    ["mode=fast", /not one of: apply, write/],
  ] as const) {
    const response = await app.request(`/replica?${query}`);
    assert.equal(response.status, 400, query);
    const body = (await response.json()) as { message: string };
    assert.match(body.message, words);
  }
});

test("an unknown path is 404 with the list of paths", async () => {
  const app = createApp({ view: () => standbyView(), onRequestError: assert.fail });
  const response = await app.request("/nothing");
  assert.equal(response.status, 404);
  const body = (await response.json()) as { paths: string[] };
  assert.ok(body.paths.includes("/primary") && body.paths.includes("/metrics"));
});

test("writes are refused with 405 and the command to use instead", async () => {
  const app = createApp({ view: () => standbyView(), onRequestError: assert.fail });
  const response = await app.request("/switchover", { method: "POST", body: "{}" });
  assert.equal(response.status, 405);
  assert.match(((await response.json()) as { hint: string }).hint, /pg_replica switchover/);
  const wrong = await app.request("/primary", { method: "DELETE" });
  assert.equal(wrong.status, 405);
  assert.equal(wrong.headers.get("Allow"), "GET, HEAD, OPTIONS");
});

test("a failure inside is 500, reported, and not told to the client", async () => {
  const problems: string[] = [];
  const app = createApp({
    view: () => {
      throw new Error("secret detail");
    },
    onRequestError: (text) => problems.push(text),
  });
  const response = await app.request("/primary");
  assert.equal(response.status, 500);
  assert.doesNotMatch(await response.text(), /secret detail/);
  assert.match(problems.join(), /GET \/primary: secret detail/);
});
