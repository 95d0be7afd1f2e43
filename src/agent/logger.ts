/** Where log lines go: PostgreSQL's log through the supervisor. Levels below the configured one are dropped here. */
export type LogLevel = "debug" | "info" | "warning" | "error";

const order: Record<LogLevel, number> = { debug: 0, info: 1, warning: 2, error: 3 };

export class Logger {
  constructor(
    readonly write: (level: LogLevel, message: string) => void,
    public level: LogLevel = "info",
  ) {}

  debug(message: string): void {
    this.#log("debug", message);
  }

  info(message: string): void {
    this.#log("info", message);
  }

  warning(message: string): void {
    this.#log("warning", message);
  }

  error(message: string): void {
    this.#log("error", message);
  }

  #log(level: LogLevel, message: string): void {
    if (order[level] >= order[this.level]) this.write(level, message);
  }
}
