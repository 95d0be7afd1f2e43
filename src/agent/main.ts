/** Entry of the agent process: started by the supervisor with fd 3 and fd 4, exits with 0 or 1 only. */
import type { AgentConfig } from "../control/types.js";
import { Agent } from "./agent.js";
import { AgentError, describeError } from "./errors.js";
import { SupervisorLink } from "./supervisor-link.js";

const configDeadlineMs = 10_000;

export async function runAgent(): Promise<void> {
  let agent: Agent | null = null;
  let firstConfig: ((config: AgentConfig) => void) | null = null;
  const link = new SupervisorLink({
    onConfig: (config) => {
      if (firstConfig !== null) {
        firstConfig(config);
        firstConfig = null;
      } else agent?.configChanged(config);
    },
    onShutdown: () => (agent === null ? process.exit(0) : agent.serverStopping()),
    onReleased: (message) => agent?.backendsEnded(message.gone),
    onSupervisorGone: () => (agent === null ? process.exit(0) : agent.supervisorGone()),
    onPostmasterGone: () => (agent === null ? process.exit(0) : agent.postmasterGone()),
    onProtocolError: (text) => end(link, 1, `error: ${text}; the extension and the agent are of different versions`),
  });
  process.on("uncaughtException", (error) => end(link, 1, `the agent failed: ${error.stack ?? error.message}`));
  process.on("unhandledRejection", (reason) =>
    end(link, 1, `the agent failed: ${reason instanceof Error ? (reason.stack ?? reason.message) : String(reason)}`),
  );
  process.on("SIGTERM", () => (agent === null ? process.exit(0) : agent.terminate()));
  process.on("SIGINT", () => (agent === null ? process.exit(0) : agent.terminate()));
  try {
    const config = await new Promise<AgentConfig>((resolve, reject) => {
      firstConfig = resolve;
      setTimeout(
        () => reject(new AgentError("no-config", `no configuration came within ${configDeadlineMs} ms`)),
        configDeadlineMs,
      ).unref();
    });
    agent = new Agent(link, config, (code) => end(link, code, null));
    await agent.start();
  } catch (error) {
    const hint = hintOf(error);
    end(link, 1, `the agent can not start: ${describeError(error)}${hint === "" ? "" : `. ${hint}`}`);
  }
}

function hintOf(error: unknown): string {
  return error !== null && typeof error === "object" && "hint" in error && typeof error.hint === "string"
    ? error.hint
    : "";
}

/** Leaves a moment for the last log line to reach the supervisor. */
function end(link: SupervisorLink, code: 0 | 1, message: string | null): void {
  if (message !== null) link.log("error", message);
  process.exitCode = code;
  setTimeout(() => process.exit(code), 20);
}
