/**
 * The simulator's agenda: a binary heap ordered by (time, order of scheduling). Events live in parallel arrays and are
 * told apart by a number, so that scheduling one allocates nothing.
 */
export class EventQueue {
  /** The event that `next` took out. */
  timeMs = 0;
  kind = 0;
  node = 0;
  life = 0;
  payload: unknown = undefined;

  #capacity = 1024;
  #times = new Float64Array(this.#capacity);
  #sequences = new Float64Array(this.#capacity);
  #kinds = new Uint8Array(this.#capacity);
  #nodes = new Int32Array(this.#capacity);
  #lives = new Int32Array(this.#capacity);
  #payloads: unknown[] = new Array<unknown>(this.#capacity);
  #heap = new Int32Array(this.#capacity);
  #free = new Int32Array(this.#capacity);
  #freeCount = 0;
  #used = 0;
  #size = 0;
  #sequence = 0;

  get size(): number {
    return this.#size;
  }

  push(timeMs: number, kind: number, node: number, life: number, payload: unknown): void {
    const slot = this.#freeCount > 0 ? (this.#free[--this.#freeCount] as number) : this.#newSlot();
    this.#times[slot] = timeMs;
    this.#sequences[slot] = this.#sequence++;
    this.#kinds[slot] = kind;
    this.#nodes[slot] = node;
    this.#lives[slot] = life;
    this.#payloads[slot] = payload;
    this.#siftUp(this.#size++, slot);
  }

  /** Takes the earliest event out into the public fields; false when there is none. */
  next(): boolean {
    if (this.#size === 0) return false;
    const slot = this.#heap[0] as number;
    this.timeMs = this.#times[slot] as number;
    this.kind = this.#kinds[slot] as number;
    this.node = this.#nodes[slot] as number;
    this.life = this.#lives[slot] as number;
    this.payload = this.#payloads[slot];
    this.#payloads[slot] = undefined;
    this.#free[this.#freeCount++] = slot;
    const last = this.#heap[--this.#size] as number;
    if (this.#size > 0) this.#siftDown(last);
    return true;
  }

  #before(a: number, b: number): boolean {
    const ta = this.#times[a] as number;
    const tb = this.#times[b] as number;
    return ta < tb || (ta === tb && (this.#sequences[a] as number) < (this.#sequences[b] as number));
  }

  #siftUp(from: number, slot: number): void {
    const heap = this.#heap;
    let at = from;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const other = heap[parent] as number;
      if (!this.#before(slot, other)) break;
      heap[at] = other;
      at = parent;
    }
    heap[at] = slot;
  }

  #siftDown(slot: number): void {
    const heap = this.#heap;
    const size = this.#size;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#before(heap[child + 1] as number, heap[child] as number)) child++;
      const other = heap[child] as number;
      if (!this.#before(other, slot)) break;
      heap[at] = other;
      at = child;
    }
    heap[at] = slot;
  }

  #newSlot(): number {
    if (this.#used === this.#capacity) this.#grow();
    return this.#used++;
  }

  #grow(): void {
    this.#capacity *= 2;
    const copy = <T extends Float64Array | Int32Array | Uint8Array>(into: T, from: T): T => {
      into.set(from);
      return into;
    };
    this.#times = copy(new Float64Array(this.#capacity), this.#times);
    this.#sequences = copy(new Float64Array(this.#capacity), this.#sequences);
    this.#kinds = copy(new Uint8Array(this.#capacity), this.#kinds);
    this.#nodes = copy(new Int32Array(this.#capacity), this.#nodes);
    this.#lives = copy(new Int32Array(this.#capacity), this.#lives);
    this.#heap = copy(new Int32Array(this.#capacity), this.#heap);
    this.#free = copy(new Int32Array(this.#capacity), this.#free);
    this.#payloads.length = this.#capacity;
  }
}
