/**
 * Stands in for the agent beside a server with the library: takes the lease of token 1.1 from the supervisor and keeps
 * renewing it; opens it when FOLDER/open is there. Copied into a test's folder: imports nothing but Node's own modules.
 */
import { existsSync, writeFileSync } from "node:fs";
import { Socket } from "node:net";

const folder = process.argv[2] ?? ".";
const supervisor = new Socket({ fd: 3 });
let id = 0;
const send = (message: object): void => {
  id += 1;
  supervisor.write(`${JSON.stringify({ id, ...message })}\n`);
};
supervisor.on("end", () => process.exit(0));
supervisor.on("error", () => process.exit(0));
let rest = "";
supervisor.setEncoding("utf8");
supervisor.on("data", (chunk: string) => {
  const lines = (rest + chunk).split("\n");
  rest = lines.pop() ?? "";
  for (const line of lines) receive(JSON.parse(line));
});

let markerKey: string | null = null;

function receive(message: {
  type: string;
  boottimeNs?: string;
  remainingMs?: number;
  config?: { markerKey: string };
}): void {
  if (message.type === "config" && message.config !== undefined) {
    markerKey = message.config.markerKey;
    send({ type: "token", token: "1.1" });
    send({ type: "stamp" });
    setInterval(() => send({ type: "stamp" }), 100);
  }
  // Only now: a test that has the key may count on the lease.
  if (message.type === "lease" && (message.remainingMs ?? 0) > 0 && markerKey !== null) {
    writeFileSync(`${folder}/marker-key`, markerKey, { mode: 0o600 });
    markerKey = null;
  }
  if (message.type !== "stamp") return;
  if (existsSync(`${folder}/expire`)) {
    send({ type: "expire" });
    return;
  }
  send({ type: "renew", token: "1.1", stampNs: message.boottimeNs, durationMs: 10_000 });
  if (existsSync(`${folder}/open`)) send({ type: "open", token: "1.1" });
}
