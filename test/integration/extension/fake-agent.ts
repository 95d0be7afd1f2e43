/**
 * Stands in for the agent, so that a test can drive the supervisor's side of fd 3 by hand. Copied into a test's folder
 * and run there by a wrapper: it may import nothing but Node's own modules.
 *
 * Each line that the supervisor sends is appended to FOLDER/agent.jsonl; each line written to the socket FOLDER/control
 * is sent to the supervisor as it is. The local socket answers as FOLDER/reply.json says.
 */
import { appendFileSync, readdirSync, readFileSync, readlinkSync, rmSync } from "node:fs";
import net from "node:net";

const folder = process.argv[2] ?? ".";
const record = (event: object): void => appendFileSync(`${folder}/agent.jsonl`, `${JSON.stringify(event)}\n`);

function listen(
  path: string,
  handle: (line: string, answer: (text: string) => void) => void,
  ready: () => void = () => undefined,
): void {
  rmSync(path, { force: true });
  net
    .createServer((client) => {
      client.on("error", () => client.destroy());
      onLines(client, (line) => handle(line, (text) => client.write(text)));
    })
    .listen(path, ready);
}

function onLines(stream: net.Socket, handle: (line: string) => void): void {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (chunk: string) => {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) handle(line);
  });
}

// What is open before this program opens anything itself: what it was given, and Node's own.
const files = readdirSync("/proc/self/fd").flatMap((fd) => {
  try {
    return [[Number(fd), readlinkSync(`/proc/self/fd/${fd}`)]];
  } catch {
    return [];
  }
});
record({ type: "started", pid: process.pid, argv: process.argv.slice(3), cwd: process.cwd(), files });
const supervisor = new net.Socket({ fd: 3 });
const postmaster = new net.Socket({ fd: 4, readable: true, writable: false });
let ended = 0;
const end = (name: string): void => {
  record({ type: "eof", name });
  ended++;
  // The end of fd 3 alone is an ordinary stop; a little later the end of fd 4 tells that the postmaster is gone too.
  if (ended === 2) process.exit(0);
  setTimeout(() => process.exit(0), 3000);
};
supervisor.on("end", () => end("supervisor"));
postmaster.on("end", () => end("postmaster"));
postmaster.resume();
let serving = false;
onLines(supervisor, (line) => {
  const message = JSON.parse(line);
  record(message);
  if (message.type !== "config" || serving) return;
  serving = true;
  const { socketDirectory, port } = message.config.server;
  listen(`${socketDirectory}/.s.pg_replica.${port}`, (request, answer) => {
    record({ type: "request", request: JSON.parse(request) });
    answer(readFileSync(`${folder}/reply.json`, "utf8"));
  });
  listen(
    `${folder}/control`,
    (text) => supervisor.write(`${text}\n`),
    () => record({ type: "serving" }),
  );
});
