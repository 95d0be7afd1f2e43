/** The progress of a copy: a bar on a terminal, a line each 10 % elsewhere. */
import cliProgress from "cli-progress";
import { formatBytes } from "./output.js";
import type { Terminal } from "./terminal.js";

export interface CopyProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

export class ProgressBar {
  readonly #terminal: Terminal;
  #bar: cliProgress.SingleBar | null = null;
  #step = "";
  #lastTenth = -1;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  update(step: string, progress: CopyProgress): void {
    if (step !== this.#step) this.end();
    this.#step = step;
    if (this.#terminal.interactive) this.#draw(step, progress);
    else this.#line(step, progress);
  }

  end(): void {
    this.#bar?.stop();
    this.#bar = null;
    this.#lastTenth = -1;
  }

  #draw(step: string, { doneBytes, totalBytes }: CopyProgress): void {
    const payload = { done: formatBytes(doneBytes), all: formatBytes(totalBytes) };
    if (this.#bar === null) {
      const format = `${step} {bar} {percentage}% {done} of {all}, {eta_formatted} left`;
      this.#bar = new cliProgress.SingleBar({ format, hideCursor: true }, cliProgress.Presets.shades_classic);
      this.#bar.start(Math.max(1, totalBytes), doneBytes, payload);
      return;
    }
    this.#bar.setTotal(Math.max(1, totalBytes));
    this.#bar.update(doneBytes, payload);
  }

  #line(step: string, { doneBytes, totalBytes }: CopyProgress): void {
    const tenth = totalBytes <= 0 ? 0 : Math.floor((10 * doneBytes) / totalBytes);
    if (tenth === this.#lastTenth) return;
    this.#lastTenth = tenth;
    this.#terminal.note(`${step}: ${tenth * 10} % (${formatBytes(doneBytes)} of ${formatBytes(totalBytes)})`);
  }
}
