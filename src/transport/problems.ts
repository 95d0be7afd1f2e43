/** Says each thing that is wrong with a peer once, until the peer is well again: a log that repeats itself hides news. */
const maxPeers = 1024;
const maxCausesPerPeer = 16;

export class Problems {
  readonly #said = new Map<string, Set<string>>();
  readonly #say: (text: string) => void;

  constructor(say: (text: string) => void) {
    this.#say = say;
  }

  report(peer: string, text: string): void {
    const causes = this.#said.get(peer) ?? new Set<string>();
    if (causes.has(text)) return;
    if (causes.size >= maxCausesPerPeer) causes.clear();
    causes.add(text);
    // Strangers come from any number of addresses; the oldest are forgotten.
    this.#said.delete(peer);
    this.#said.set(peer, causes);
    const oldest = this.#said.keys().next();
    if (this.#said.size > maxPeers && !oldest.done) this.#said.delete(oldest.value);
    this.#say(text);
  }

  wellAgain(peer: string): void {
    this.#said.delete(peer);
  }
}
