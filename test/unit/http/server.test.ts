import assert from "node:assert/strict";
import { createServer, type Server } from "node:net";
import { after, before, test } from "node:test";
import { freePort } from "../../../src/cli/free-ports.js";
import { HttpServerError } from "../../../src/http/errors.js";
import { createHttpServer } from "../../../src/http/server.js";
import { primaryView } from "./fake-view.js";

let blocker: Server;
let takenPort = 0;

before(async () => {
  blocker = createServer();
  await new Promise<void>((resolve) => blocker.listen(0, "127.0.0.1", resolve));
  const address = blocker.address();
  assert.ok(address !== null && typeof address === "object");
  takenPort = address.port;
});
after(() => new Promise((resolve) => blocker.close(resolve)));

test("a port in use is refused with the setting's name", async () => {
  const server = createHttpServer({
    host: "127.0.0.1",
    port: takenPort,
    view: primaryView,
    onRequestError: assert.fail,
  });
  await assert.rejects(server.start(), (error: unknown) => {
    assert.ok(error instanceof HttpServerError);
    assert.equal(error.code, "http-port-in-use");
    assert.match(error.message, /pg_replica\.http_port/);
    return true;
  });
});

test("it answers on the given address, and stop ends it with open connections", async () => {
  const port = await freePort();
  const server = createHttpServer({ host: "127.0.0.1", port, view: primaryView, onRequestError: assert.fail });
  await server.start();
  const response = await fetch(`http://127.0.0.1:${port}/primary`);
  assert.equal(response.status, 200);
  assert.equal(((await response.json()) as { token: string }).token, "4.17");
  const options = await fetch(`http://127.0.0.1:${port}/`, { method: "OPTIONS" });
  assert.equal(options.status, 200);
  await server.stop();
  await assert.rejects(fetch(`http://127.0.0.1:${port}/primary`));
});

test("when one of several addresses fails, none is left listening", async () => {
  const port = await freePort();
  const server = createHttpServer({
    host: "127.0.0.1, 203.0.113.1",
    port,
    view: primaryView,
    onRequestError: assert.fail,
  });
  await assert.rejects(server.start(), /pg_replica\.listen_addresses/);
  await assert.rejects(fetch(`http://127.0.0.1:${port}/primary`));
});
