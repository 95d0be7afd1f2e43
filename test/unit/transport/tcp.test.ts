import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { it } from "node:test";
import type { Message } from "../../../src/raft/types.js";
import { encodeFrame } from "../../../src/transport/frames.js";
import { Acceptor, Dialer } from "../../../src/transport/handshake.js";
import { createTransport, guestRequest } from "../../../src/transport/index.js";
import { connectPair, freePort, identity, startNode, stranger, until } from "./helpers.js";

const secret = Buffer.from("correct horse battery staple");
const heartbeat = (round: number): Message => ({ type: "Heartbeat", from: 1, to: 2, term: 1, commit: 0, round });

it("Raft and other messages arrive complete, in order, with binary data", async (t) => {
  const [a, b] = [await startNode(t, 1), await startNode(t, 2)];
  await connectPair(a, b);
  const append: Message = {
    type: "AppendEntries",
    from: 1,
    to: 2,
    term: 3,
    prevIndex: 0,
    prevTerm: 0,
    commit: 0,
    entries: [
      { type: "noop", term: 3, index: 1 },
      { type: "data", term: 3, index: 2, data: new Uint8Array([0, 255, 128, 10]) },
    ],
  };
  a.transport.sendRaft(append);
  for (let round = 1; round <= 500; round++) a.transport.sendRaft(heartbeat(round));
  a.transport.sendApp(2, { kind: "renew", token: { term: 1, index: 2 }, stampNs: "12345678901234567890" });
  await until("all arrived", () => b.raft.length === 501 && b.app.length === 1);
  assert.deepEqual(b.raft[0], append);
  assert.deepEqual(
    b.raft.slice(1).map((message) => (message.type === "Heartbeat" ? message.round : 0)),
    Array.from({ length: 500 }, (_, at) => at + 1),
  );
  assert.deepEqual(b.app[0], {
    from: 1,
    message: { kind: "renew", token: { term: 1, index: 2 }, stampNs: "12345678901234567890" },
  });
});

it("a large snapshot crosses in one piece", async (t) => {
  const [a, b] = [await startNode(t, 1), await startNode(t, 2)];
  await connectPair(a, b);
  const config = { voters: [1, 2], votersOutgoing: [], learners: [], learnersNext: [], autoLeave: false };
  const data = new Uint8Array(5_000_000).map((_, at) => at % 251);
  a.transport.sendRaft({
    type: "InstallSnapshot",
    from: 1,
    to: 2,
    term: 3,
    snapshot: { index: 5, term: 2, config, data },
  });
  await until("arrived", () => b.raft.length === 1);
  const [message] = b.raft;
  assert.ok(message?.type === "InstallSnapshot" && Buffer.from(message.snapshot.data).equals(data));
});

it("the same secret connects, another one and none do not, and nothing is told to the stranger", async (t) => {
  const a = await startNode(t, 1, { secret });
  const b = await startNode(t, 2, { secret });
  await connectPair(a, b);
  for (const other of [Buffer.from("wrong"), null]) {
    const c = await startNode(t, 3, { secret: other });
    c.transport.setPeers([{ id: 1, address: `127.0.0.1:${a.port}` }]);
    await until("said on the dialing side", () => c.problems.length > 0);
    assert.deepEqual(c.transport.connected(), []);
    assert.match(c.problems[0]!, /127\.0\.0\.1:.*secret/);
  }
  await until("said on the accepting side", () => a.problems.length > 0);
  assert.equal(a.problems.length, 1);
  assert.match(a.problems[0]!, /127\.0\.0\.1 .*"n3".*does not know the cluster secret/);
});

it("a proof that is sent back or made for another role or nonce proves nothing", () => {
  const self = identity(1);
  const dialer = new Dialer({ self, to: 2, secret, check: () => undefined });
  const acceptor = new Acceptor({ self: identity(2), secret, check: () => undefined });
  const challenge = acceptor.receive(dialer.hello).reply;
  const proof = dialer.receive(challenge) as { proof: string };
  // Reflection: the acceptor's welcome would have to differ from the dialer's own proof.
  assert.throws(() => dialer.receive({ t: "welcome", proof: proof.proof }), /does not know the cluster secret/);
  const other = new Acceptor({ self: identity(2), secret, check: () => undefined });
  other.receive(dialer.hello);
  assert.throws(() => other.receive(proof), /does not know the cluster secret/);
  assert.equal(acceptor.receive(proof).done, true);
  const echo = new Dialer({ self, to: 2, secret, check: () => undefined });
  const hello = echo.hello as { nonce: string };
  assert.throws(() => echo.receive({ ...challenge, nonce: hello.nonce }), /our own challenge/);
  assert.ok(!JSON.stringify([dialer.hello, challenge, proof]).includes(secret.toString()));
});

it("another cluster, another id and an unknown member are refused with a reason on both sides", async (t) => {
  const a = await startNode(t, 1, {
    accepts: (peer) => (peer.id === 9 ? { ok: false, why: "no member has id 9" } : { ok: true }),
  });
  const cases = [
    { self: identity(2, "c2"), to: 1, pattern: /belongs to cluster "c2", this node to cluster "c1"/ },
    { self: identity(2), to: 7, pattern: /wants member 7, this node is member 1/ },
    { self: identity(9), to: 1, pattern: /no member has id 9/ },
  ];
  for (const { self, to, pattern } of cases) {
    const b = await startNode(t, self.id, { self });
    b.transport.setPeers([{ id: to, address: `127.0.0.1:${a.port}` }]);
    await until(`refused: ${pattern}`, () => b.problems.some((text) => pattern.test(text)));
    assert.ok(a.problems.some((text) => pattern.test(text)));
    assert.deepEqual(b.transport.connected(), []);
    await b.transport.stop();
  }
  assert.equal(a.problems.length, 3);
});

it("HTTP, PostgreSQL and TLS clients and oversize frames are named and cut off", async (t) => {
  const a = await startNode(t, 1);
  const oversize = Buffer.alloc(5, "{");
  oversize.writeUInt32BE(64 * 1024 + 1, 0);
  const cases: ReadonlyArray<readonly [Buffer, RegExp]> = [
    [Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), /looks like HTTP/],
    [Buffer.from([0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]), /looks like a PostgreSQL client/],
    [Buffer.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]), /looks like TLS/],
    [oversize, /another protocol/],
    [encodeFrame({ t: "hello", magic: "other" }), /does not speak the protocol of pg_replica/],
    [encodeFrame({ t: "hello", magic: "pg_replica", protocol: 99 }), /version 99 .* this node version 1/],
  ];
  for (const [bytes, pattern] of cases) {
    const { socket, closed } = await stranger(t, a.port);
    socket.write(bytes);
    await closed;
    assert.ok(
      a.problems.some((text) => pattern.test(text) && text.includes("127.0.0.1")),
      `${pattern} in ${JSON.stringify(a.problems)}`,
    );
  }
  const before = a.problems.length;
  const { socket, closed } = await stranger(t, a.port);
  socket.write("GET / HTTP/1.1\r\n\r\n");
  await closed;
  assert.equal(a.problems.length, before, "each cause is said once");
});

it("a half-open handshake ends at its deadline and strangers are limited in number", async (t) => {
  const a = await startNode(t, 1, { tuning: { handshakeTimeoutMs: 300, maxStrangers: 2 } });
  const silent = [await stranger(t, a.port), await stranger(t, a.port)];
  silent[0]!.socket.write(Buffer.from([0, 0]));
  const third = await stranger(t, a.port);
  await third.closed;
  assert.match(a.problems[0]!, /more than 2 connections/);
  await Promise.all(silent.map(({ closed }) => closed));
  assert.match(a.problems[1]!, /did not complete the handshake/);
});

it("a peer that accepts and says nothing, or another protocol, is reported by the dialer", async (t) => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    if (sockets.length > 1) socket.write("SSH-2.0-OpenSSH_9.2\r\n");
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const a = await startNode(t, 1, { tuning: { handshakeTimeoutMs: 100 } });
  a.transport.setPeers([{ id: 2, address: `127.0.0.1:${port}` }]);
  await until("both said", () => a.problems.length >= 2);
  assert.match(a.problems[0]!, /did not complete the handshake/);
  assert.match(a.problems[1]!, /looks like SSH/);
  assert.deepEqual(a.disconnects, []);
});

it("onDisconnect comes once when a connected peer dies, not for failed dials, and again after it came back", async (t) => {
  const a = await startNode(t, 1);
  let b = await startNode(t, 2);
  await connectPair(a, b);
  for (let round = 1; round <= 2; round++) {
    await b.transport.stop();
    await until("disconnect told", () => a.disconnects.length === round);
    assert.deepEqual(a.transport.connected(), []);
    b = await startNode(t, 2, { port: b.port });
    await connectPair(a, b);
    assert.equal(a.disconnects.length, round);
  }
  assert.deepEqual(a.problems, []);
  a.transport.sendRaft(heartbeat(7));
  await until("messages flow again", () => b.raft.length === 1);
});

it("a peer that is frozen without closing is given up after unanswered pings", async (t) => {
  const a = await startNode(t, 1, { tuning: { pingIntervalMs: 20, maxUnansweredPings: 3 } });
  // Shakes hands properly and then never answers again, its socket open.
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    const acceptor = new Acceptor({ self: identity(2), secret: null, check: () => undefined });
    let done = false;
    socket.on("data", (bytes) => {
      if (done) return;
      const step = acceptor.receive(JSON.parse(bytes.toString("utf8", 4)));
      done = step.done;
      socket.write(encodeFrame(step.reply));
    });
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  a.transport.setPeers([{ id: 2, address: `127.0.0.1:${port}` }]);
  await until("given up", () => a.disconnects.length > 0);
  assert.equal(a.disconnects[0], 2);
});

it("a malformed frame of a member closes its link with a reason and never reaches the core", async (t) => {
  const bad: ReadonlyArray<readonly [object, RegExp]> = [
    [{ t: "raft", message: { type: "Heartbeat", from: 3, to: 1, term: 1, commit: 0, round: 1 } }, /from 3 to 1/],
    [{ t: "raft", message: { type: "Heartbeat", from: 2, to: 1, term: -1, commit: 0, round: 1 } }, /malformed Raft/],
    [{ t: "raft", message: { type: "Nonsense", from: 2, to: 1, term: 1 } }, /malformed Raft/],
    [{ t: "app", message: { kind: "renew", token: { term: "1", index: 2 }, stampNs: "1" } }, /malformed message/],
    [{ t: "what" }, /unknown kind/],
  ];
  const a = await startNode(t, 1);
  for (const [frame, pattern] of bad) {
    const socket = connect({ host: "127.0.0.1", port: a.port });
    t.after(() => socket.destroy());
    const dialer = new Dialer({ self: identity(2), to: 1, secret: null, check: () => undefined });
    socket.write(encodeFrame(dialer.hello));
    socket.on("data", (bytes) => {
      const reply = dialer.receive(JSON.parse(bytes.toString("utf8", 4)));
      socket.write(encodeFrame(reply ?? frame));
    });
    await until(`refused: ${pattern}`, () => a.problems.some((text) => pattern.test(text)));
    await until("closed", () => socket.destroyed);
  }
  assert.deepEqual([a.raft, a.app], [[], []]);
});

it("guests ask once, with the secret, and get the answer on the same connection", async (t) => {
  const a = await startNode(t, 1, {
    secret,
    answer: async (request) => {
      if (request.kind === "command") throw new Error("it broke");
      return { ok: true, result: { clusterId: "c1" } };
    },
  });
  const at = { host: "127.0.0.1", port: a.port, tls: null, timeoutMs: 5000 };
  assert.deepEqual(await guestRequest({ ...at, secret }, { kind: "clusterInfo" }), {
    ok: true,
    result: { clusterId: "c1" },
  });
  assert.deepEqual(
    await guestRequest({ ...at, secret, clusterId: "c1" }, { kind: "command", command: "x", args: {} }),
    {
      ok: false,
      code: "internal",
      message: "it broke",
    },
  );
  const ask = (options: object) => guestRequest({ ...at, secret, ...options }, { kind: "clusterInfo" });
  await assert.rejects(ask({ clusterId: "c2" }), { code: "TRANSPORT_DENIED", message: /wants cluster "c2"/ });
  await assert.rejects(ask({ secret: null }), { code: "TRANSPORT_DENIED", message: /secret/ });
  await assert.rejects(ask({ secret: Buffer.from("no") }), { code: "TRANSPORT_DENIED" });
  await assert.rejects(ask({ port: await freePort() }), { code: "TRANSPORT_REFUSED", message: /nothing listens/ });
});

it("a guest hears in time that nobody answers, and that somebody else does", async (t) => {
  const sockets: Socket[] = [];
  let greeting: string | null = null;
  const server = createServer((socket) => {
    sockets.push(socket);
    socket.on("error", () => undefined);
    if (greeting !== null) socket.write(greeting);
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  const options = { host: "127.0.0.1", port, secret: null, tls: null, timeoutMs: 100 };
  await assert.rejects(guestRequest(options, { kind: "clusterInfo" }), { code: "TRANSPORT_TIMEOUT" });
  greeting = "HTTP/1.1 400 Bad Request\r\n\r\n";
  await assert.rejects(guestRequest({ ...options, timeoutMs: 5000 }, { kind: "clusterInfo" }), {
    code: "TRANSPORT_PROTOCOL",
    message: /HTTP/,
  });
});

it("a port in use is named together with its setting", async (t) => {
  const a = await startNode(t, 1);
  await assert.rejects(startNode(t, 2, { port: a.port }), {
    code: "TRANSPORT_PORT_IN_USE",
    message: new RegExp(`port ${a.port} .*pg_replica\\.raft_port`),
  });
});

it("listen addresses read as PostgreSQL's: all, none, or a list", async (t) => {
  const all = await startNode(t, 1, { listenAddresses: "*" });
  const list = await startNode(t, 1, { listenAddresses: "127.0.0.1, 127.0.0.2" });
  const none = await startNode(t, 1, { listenAddresses: "" });
  const ask = (host: string, port: number) =>
    guestRequest({ host, port, secret: null, tls: null, timeoutMs: 5000 }, { kind: "clusterInfo" });
  assert.equal((await ask("127.0.0.1", all.port)).ok, true);
  assert.equal((await ask("127.0.0.2", list.port)).ok, true);
  await assert.rejects(ask("127.0.0.1", none.port), { code: "TRANSPORT_REFUSED" });
});

it("members that are gone are disconnected without news of it", async (t) => {
  const [a, b] = [await startNode(t, 1), await startNode(t, 2)];
  await connectPair(a, b);
  a.transport.setPeers([]);
  await until("b sees it", () => b.disconnects.length === 1);
  assert.deepEqual(a.disconnects, []);
  assert.deepEqual(a.transport.connected(), []);
});

it("createTransport sends nothing and fails nothing without connections", () => {
  const transport = createTransport({
    self: identity(1),
    listenAddresses: "",
    port: 1,
    secret: null,
    tls: null,
    accepts: () => ({ ok: true }),
    reconnectMinMs: 1,
    reconnectMaxMs: 1,
    events: {
      onRaft: () => assert.fail(),
      onApp: assert.fail,
      onGuest: assert.fail,
      onDisconnect: () => assert.fail(),
      onProblem: assert.fail,
    },
  });
  transport.sendRaft(heartbeat(1));
  assert.deepEqual(transport.connected(), []);
});

it("a command to join arrives with every field", async (t) => {
  const [a, b] = [await startNode(t, 1), await startNode(t, 2)];
  await connectPair(a, b);
  const member = {
    name: "c",
    incarnation: "disk",
    address: "127.0.0.1:7400",
    dsn: "host=127.0.0.1",
    httpAddress: null,
    kind: "data" as const,
    tags: { nofailover: false, failoverPriority: 100, nosync: false, noloadbalance: false },
  };
  const command = {
    type: "addMember" as const,
    atMs: 1,
    by: "a",
    systemIdentifier: "73",
    serverMajor: 15,
    member,
  };
  a.transport.sendApp(2, { kind: "propose", requestId: 1, command });
  await until("arrived", () => b.app.length === 1);
  assert.deepEqual(b.app[0]?.message, { kind: "propose", requestId: 1, command });
});

it("R38: a node that is no member here gets its answers on the connection that it opened", async (t) => {
  const a = await startNode(t, 1);
  const b = await startNode(t, 2);
  b.transport.setPeers([{ id: 1, address: `127.0.0.1:${a.port}` }]);
  await until("the stranger is connected", () => b.transport.connected().length === 1);
  b.transport.sendRaft({ type: "PreVote", from: 2, to: 1, term: 2, lastIndex: 1, lastTerm: 1 });
  await until("its question came", () => a.raft.length === 1);
  const answer: Message = { type: "PreVoteResponse", from: 1, to: 2, term: 1, granted: false, removedAt: 9 };
  a.transport.sendRaft(answer);
  await until("its answer came", () => b.raft.length === 1);
  assert.deepEqual(b.raft, [answer]);
  assert.deepEqual([a.problems, b.problems], [[], []]);
});
