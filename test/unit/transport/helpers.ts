import { once } from "node:events";
import { connect, type Socket } from "node:net";
import type { TestContext } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { freePort } from "../../../src/cli/free-ports.js";
import type { Message } from "../../../src/raft/types.js";
import { createTransport, type Tuning } from "../../../src/transport/index.js";
import type {
  AppMessage,
  GuestRequest,
  GuestResponse,
  PeerIdentity,
  Transport,
  TransportOptions,
} from "../../../src/transport/types.js";

export { freePort };

/** Waits for a condition; the deadline only bounds a failing test. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 10_000; !condition(); await delay(5)) {
    if (performance.now() > deadline) throw new Error(`never happened: ${what}`);
  }
}

export interface TestNode {
  readonly port: number;
  readonly transport: Transport;
  readonly raft: Message[];
  readonly app: Array<{ from: number; message: AppMessage }>;
  readonly problems: string[];
  readonly disconnects: number[];
  readonly guests: GuestRequest[];
}

export function identity(id: number, clusterId = "c1"): PeerIdentity {
  return { clusterId, id, name: `n${id}`, incarnation: `disk${id}` };
}

export interface NodeSettings extends Partial<Omit<TransportOptions, "events">> {
  readonly tuning?: Partial<Tuning>;
  readonly answer?: (request: GuestRequest) => Promise<GuestResponse>;
}

export async function startNode(t: TestContext, id: number, settings: NodeSettings = {}): Promise<TestNode> {
  const { tuning = {}, answer = async () => ({ ok: true, result: id }) satisfies GuestResponse, ...options } = settings;
  const port = options.port ?? (await freePort());
  const node = { port, raft: [], app: [], problems: [], disconnects: [], guests: [] } as Omit<TestNode, "transport">;
  const transport = createTransport(
    {
      self: identity(id),
      listenAddresses: "127.0.0.1",
      secret: null,
      tls: null,
      accepts: () => ({ ok: true }),
      reconnectMinMs: 10,
      reconnectMaxMs: 50,
      ...options,
      port,
      events: {
        onRaft: (message) => node.raft.push(message),
        onApp: (from, message) => node.app.push({ from, message }),
        onGuest: (request) => {
          node.guests.push(request);
          return answer(request);
        },
        onDisconnect: (peer) => node.disconnects.push(peer),
        onProblem: (text) => node.problems.push(text),
      },
    },
    tuning,
  );
  t.after(() => transport.stop());
  await transport.start();
  return { ...node, transport };
}

export async function connectPair(a: TestNode, b: TestNode, aId = 1, bId = 2): Promise<void> {
  a.transport.setPeers([{ id: bId, address: `127.0.0.1:${b.port}` }]);
  b.transport.setPeers([{ id: aId, address: `127.0.0.1:${a.port}` }]);
  await until("both links up", () => a.transport.connected().includes(bId) && b.transport.connected().includes(aId));
}

/** A raw connection; `closed` resolves when the other side ends it. */
export async function stranger(t: TestContext, port: number): Promise<{ socket: Socket; closed: Promise<unknown> }> {
  const socket = connect({ host: "127.0.0.1", port });
  t.after(() => socket.destroy());
  socket.on("error", () => undefined);
  const closed = once(socket, "close");
  socket.resume();
  await once(socket, "connect");
  return { socket, closed };
}
