/**
 * Free TCP ports for servers on this machine: for the demo, the tests and the benches.
 *
 * Not from the range that the system hands out to outgoing connections: a server that is stopped for a moment would find
 * its port taken by some client of another one.
 */
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:net";

const lowestPort = 10_240;
const maxAttempts = 1000;

/** Different from each other: all are held until the last is found. @throws Error when there are none */
export async function freePorts(count: number): Promise<number[]> {
  const held: Server[] = [];
  try {
    const end = firstEphemeralPort();
    for (let attempt = 0; held.length < count && attempt < maxAttempts; attempt++) {
      const server = await listen(lowestPort + Math.floor(Math.random() * (end - lowestPort)));
      if (server !== null) held.push(server);
    }
    if (held.length < count)
      throw new Error(`found only ${held.length} of ${count} free ports from ${lowestPort} to ${end - 1}`);
    return held.map(portOf);
  } finally {
    await Promise.all(held.map((server) => new Promise((resolve) => server.close(resolve))));
  }
}

export async function freePort(): Promise<number> {
  const [port] = await freePorts(1);
  return port as number;
}

function firstEphemeralPort(): number {
  const range = readFileSync("/proc/sys/net/ipv4/ip_local_port_range", "utf8");
  const first = Number(range.trim().split(/\s+/)[0]);
  return first > lowestPort + 1000 ? first : 32_768;
}

/** Null when somebody listens there. */
function listen(port: number): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EADDRINUSE" || error.code === "EACCES") resolve(null);
      else reject(error);
    });
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a listening server has no port");
  return address.port;
}
