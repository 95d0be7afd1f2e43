import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it, type TestContext } from "node:test";
import { guestRequest } from "../../../src/transport/index.js";
import { connectPair, startNode, until } from "./helpers.js";

/** A cluster CA and one certificate that it signed. Fresh for each test: no private key belongs in a repository. */
function authority(t: TestContext): { cert: string; key: string; ca: string } {
  const dir = mkdtempSync(join(tmpdir(), "pg_replica-tls-"));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const file = (name: string): string => join(dir, name);
  const openssl = (...args: string[]): void => {
    execFileSync("openssl", args, { stdio: "pipe" });
  };
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  openssl("req", "-x509", ...newKey, "-keyout", file("ca.key"), "-out", file("ca.crt"), "-subj", "/CN=test CA");
  openssl("req", ...newKey, "-keyout", file("node.key"), "-out", file("node.csr"), "-subj", "/CN=node");
  const signing = ["-CA", file("ca.crt"), "-CAkey", file("ca.key"), "-CAcreateserial", "-days", "2"];
  openssl("x509", "-req", "-in", file("node.csr"), ...signing, "-out", file("node.crt"));
  const read = (name: string): string => readFileSync(file(name), "utf8");
  return { cert: read("node.crt"), key: read("node.key"), ca: read("ca.crt") };
}

it("members with certificates of the cluster's CA connect, others and plain ones do not", async (t) => {
  const tls = authority(t);
  const [a, b] = [await startNode(t, 1, { tls }), await startNode(t, 2, { tls })];
  await connectPair(a, b);
  a.transport.sendRaft({ type: "Heartbeat", from: 1, to: 2, term: 1, commit: 0, round: 1 });
  await until("arrived", () => b.raft.length === 1);

  const at = { host: "127.0.0.1", port: a.port, secret: null, timeoutMs: 5000 };
  assert.equal((await guestRequest({ ...at, tls }, { kind: "clusterInfo" })).ok, true);
  const foreign = authority(t);
  await assert.rejects(guestRequest({ ...at, tls: foreign }, { kind: "clusterInfo" }), { name: "TransportError" });
  // It trusts our CA, but has no certificate of it.
  await assert.rejects(guestRequest({ ...at, tls: { ...foreign, ca: tls.ca } }, { kind: "clusterInfo" }), {
    name: "TransportError",
  });
  await assert.rejects(guestRequest({ ...at, tls: null }, { kind: "clusterInfo" }), { name: "TransportError" });
  assert.equal(a.guests.length, 1);
  assert.ok(a.problems.some((text) => /127\.0\.0\.1 failed the TLS handshake/.test(text)));

  const plain = await startNode(t, 3);
  plain.transport.setPeers([{ id: 1, address: `127.0.0.1:${a.port}` }]);
  const stranger = await startNode(t, 4, { tls: foreign });
  stranger.transport.setPeers([{ id: 1, address: `127.0.0.1:${a.port}` }]);
  await until("both say why", () => plain.problems.length > 0 && stranger.problems.length > 0);
  assert.deepEqual([...plain.transport.connected(), ...stranger.transport.connected()], []);
});
