import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";
import { it } from "node:test";
import { Connection } from "../../../src/transport/connection.js";
import { encodeFrame, FrameError, FrameReader } from "../../../src/transport/frames.js";
import { freePort, until } from "./helpers.js";

it("what waits for a peer that does not read is bounded; old appends go first, the newest heartbeat stays", async (t) => {
  let accepted: Socket | null = null;
  const server = createServer((socket) => {
    accepted = socket.pause();
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const socket = connect({ host: "127.0.0.1", port });
  t.after(() => {
    socket.destroy();
    accepted?.destroy();
    server.close();
  });
  await once(socket, "connect");
  const limit = 1024 * 1024;
  const connection = new Connection(socket, limit, { onFrame: assert.fail, onEnd: () => undefined });
  connection.send({ first: true });
  for (let n = 0; n < 400; n++) connection.send({ n, filler: "x".repeat(100_000) }, true);
  connection.send({ vote: true });
  for (let n = 400; n < 500; n++) connection.send({ n, filler: "x".repeat(100_000) }, true);
  connection.send({ heartbeat: true });
  assert.ok(connection.waitingBytes <= limit, `${connection.waitingBytes}`);
  await until("accepted", () => accepted !== null);
  const reader = new FrameReader();
  reader.limitBytes = 16 * 1024 * 1024;
  const seen: Array<Record<string, unknown>> = [];
  accepted!.on("data", (bytes: Buffer) => {
    reader.push(bytes);
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) {
      seen.push(frame as Record<string, unknown>);
    }
  });
  accepted!.resume();
  await until("the heartbeat arrived", () => seen.at(-1)?.heartbeat === true);
  assert.ok(seen.some((frame) => frame.vote === true));
  assert.ok(seen.length < 503);
  const numbers = seen.flatMap((frame) => (typeof frame.n === "number" ? [frame.n] : []));
  assert.deepEqual(
    numbers,
    numbers.toSorted((a, b) => a - b),
  );
  assert.equal(numbers.at(-1), 499);
});

it("frames come out whole however the stream is cut", () => {
  const stream = Buffer.concat([1, 2, 3].map((n) => encodeFrame({ n, text: "é".repeat(n) })));
  for (let size = 1; size <= stream.length; size++) {
    const reader = new FrameReader();
    const out: unknown[] = [];
    for (let at = 0; at < stream.length; at += size) {
      reader.push(stream.subarray(at, at + size));
      for (let frame = reader.next(); frame !== undefined; frame = reader.next()) out.push(frame);
    }
    assert.deepEqual(
      out,
      [1, 2, 3].map((n) => ({ n, text: "é".repeat(n) })),
    );
  }
});

it("a length beyond the limit is refused from its four bytes alone", () => {
  const reader = new FrameReader();
  reader.push(encodeFrame({ ok: 1 }));
  reader.next();
  const length = Buffer.alloc(4);
  length.writeUInt32BE(64 * 1024 + 1);
  reader.push(length);
  assert.throws(() => reader.next(), FrameError);
});
