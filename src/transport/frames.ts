/** Frames: 4 bytes length (big-endian), then that many bytes of JSON. The length is checked before any allocation. */
export const maxFrameBytes = 16 * 1024 * 1024;
/** Until a peer has proved who it is, it gets no more of our memory than this. */
export const maxHandshakeFrameBytes = 64 * 1024;

const mergeBytes = 4096;

export class FrameError extends Error {
  override readonly name = "FrameError";
}

export function encodeFrame(value: object): Buffer {
  const json = Buffer.from(JSON.stringify(value));
  const frame = Buffer.allocUnsafe(4 + json.length);
  frame.writeUInt32BE(json.length, 0);
  json.copy(frame, 4);
  return frame;
}

/** Takes a stream apart. After a {@link FrameError} the stream has no meaning any more. */
export class FrameReader {
  limitBytes = maxHandshakeFrameBytes;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #started = false;

  push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    // A peer that sends byte by byte must not cost a buffer for each of them.
    for (let last = this.#chunks.length - 1; last > 0; last--) {
      const [before, after] = [this.#chunks[last - 1]!, this.#chunks[last]!];
      if (before.length > after.length || after.length > mergeBytes) return;
      this.#chunks.splice(last - 1, 2, Buffer.concat([before, after]));
    }
  }

  /** Received and not yet given out. */
  get waitingBytes(): number {
    return this.#bytes;
  }

  /** Pieces that the waiting bytes lie in. */
  get waitingChunks(): number {
    return this.#chunks.length;
  }

  /** The next complete frame, or undefined when more bytes are needed. @throws FrameError */
  next(): unknown {
    if (this.#bytes < 4) return undefined;
    const length = this.#peek(4).readUInt32BE(0);
    if (!this.#started) this.#checkFirst(length);
    if (length > this.limitBytes) {
      throw new FrameError(`announces a frame of ${length} bytes, more than the ${this.limitBytes} allowed here`);
    }
    if (length < 2) throw new FrameError(`announces a frame of ${length} bytes`);
    if (this.#bytes < 4 + length) return undefined;
    const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks, this.#bytes);
    const rest = all.subarray(4 + length);
    this.#chunks = rest.length === 0 ? [] : [rest];
    this.#bytes = rest.length;
    this.#started = true;
    try {
      return JSON.parse(all.toString("utf8", 4, 4 + length)) as unknown;
    } catch {
      throw new FrameError("sent a frame that is not JSON");
    }
  }

  /** Tells the usual strangers by their first bytes. */
  #checkFirst(length: number): void {
    const head = this.#peek(Math.min(this.#bytes, 8));
    const stranger = nameStranger(head);
    if (stranger !== null) throw new FrameError(`speaks another protocol: ${stranger}`);
    if (length > this.limitBytes || (head.length > 4 && head[4] !== 0x7b)) {
      throw new FrameError("speaks another protocol, not that of pg_replica");
    }
  }

  #peek(bytes: number): Buffer {
    const first = this.#chunks[0]!;
    if (first.length >= bytes) return first.subarray(0, bytes);
    const all = Buffer.concat(this.#chunks, this.#bytes);
    this.#chunks = [all];
    return all.subarray(0, bytes);
  }
}

function nameStranger(head: Buffer): string | null {
  const text = head.toString("latin1");
  if (/^(GET |HEAD|POST|PUT |OPTI|DELE|PATC|CONN|PRI |HTTP)/.test(text)) {
    return "this looks like HTTP (the HTTP port is pg_replica.http_port)";
  }
  if (text.startsWith("SSH-")) return "this looks like SSH";
  if (head[0] === 0x16 && head[1] === 0x03) return "this looks like TLS, which is not configured on this node";
  if (head[0] === 0x15 && head[1] === 0x03) return "this looks like a TLS alert: it requires TLS";
  // SSLRequest, GSSENCRequest, CancelRequest, or a startup packet of protocol 3.
  if (
    head.length >= 6 &&
    head[0] === 0 &&
    ((head[4] === 0x04 && head[5] === 0xd2) || (head[4] === 0 && head[5] === 3))
  ) {
    return "this looks like a PostgreSQL client (pg_replica.raft_port is not the server's port)";
  }
  return null;
}
