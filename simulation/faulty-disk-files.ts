/**
 * A file system in memory for the real file storage: it records every operation, fails the one that it is told to, and
 * gives every state that a power cut after any of them may legally leave behind.
 *
 * What a cut may do, between one sync and the next: each write is lost, kept, or torn at any byte, in any order of
 * 512-byte sectors; a file that was to grow has any size up to the new one; each create, rename and remove that no sync
 * of the directory followed has happened or not, whatever became of the others. A sync of a file says nothing of its name.
 */
import type { Disk, DiskFile } from "../src/storage/disk.js";
import type { Random } from "./random.js";

export type DiskOperation =
  | { readonly kind: "makeDirectory"; readonly dir: string }
  | { readonly kind: "read"; readonly path: string }
  | { readonly kind: "create"; readonly path: string; readonly file: number }
  | { readonly kind: "write"; readonly file: number; readonly position: number; readonly bytes: Buffer }
  | { readonly kind: "sync"; readonly file: number }
  | { readonly kind: "close"; readonly file: number }
  | { readonly kind: "rename"; readonly from: string; readonly to: string }
  | { readonly kind: "remove"; readonly path: string }
  | { readonly kind: "syncDirectory"; readonly dir: string };

/** Contents by path. */
export type FileImage = ReadonlyMap<string, Buffer>;

/** The errno code to fail this operation with, or null. A failed write leaves what a torn one leaves. */
export type FaultPlan = (operation: DiskOperation) => string | null;

interface Write {
  readonly position: number;
  readonly bytes: Buffer;
}

type NameChange =
  | { readonly kind: "set"; readonly path: string; readonly file: number }
  | { readonly kind: "move"; readonly from: string; readonly to: string; readonly file: number }
  | { readonly kind: "drop"; readonly path: string };

export class FaultyDiskFiles implements Disk {
  /** What was there durably before the first operation. */
  readonly initial: FileImage;
  readonly operations: DiskOperation[] = [];
  plan: FaultPlan = () => null;
  readonly #contents: Buffer[] = [];
  readonly #names = new Map<string, number>();

  constructor(initial: FileImage = new Map()) {
    this.initial = initial;
    for (const [path, bytes] of initial) {
      this.#names.set(path, this.#contents.length);
      this.#contents.push(Buffer.from(bytes));
    }
  }

  /** As a process that goes on sees it, cache and all. */
  contents(path: string): Buffer | null {
    const file = this.#names.get(path);
    return file === undefined ? null : this.#contents[file]!;
  }

  get paths(): readonly string[] {
    return [...this.#names.keys()];
  }

  async makeDirectory(dir: string): Promise<void> {
    this.#record({ kind: "makeDirectory", dir });
  }

  async read(path: string): Promise<Buffer | null> {
    this.#record({ kind: "read", path });
    const bytes = this.contents(path);
    return bytes === null ? null : Buffer.from(bytes);
  }

  async exists(path: string): Promise<boolean> {
    return this.#names.has(path);
  }

  async create(path: string, _mode: number): Promise<DiskFile> {
    const file = this.#contents.length;
    this.#record({ kind: "create", path, file });
    if (this.#names.has(path)) throw errno("EEXIST", `create ${path}`);
    this.#contents.push(Buffer.alloc(0));
    this.#names.set(path, file);
    return {
      write: async (bytes, position) => {
        const write = { position, bytes: Buffer.from(bytes) };
        this.#record({ kind: "write", file, ...write });
        this.#contents[file] = written(this.#contents[file]!, write);
      },
      sync: async () => this.#record({ kind: "sync", file }),
      close: async () => this.#record({ kind: "close", file }),
    };
  }

  async rename(from: string, to: string): Promise<void> {
    this.#record({ kind: "rename", from, to });
    const file = this.#names.get(from);
    if (file === undefined) throw errno("ENOENT", `rename ${from}`);
    this.#names.delete(from);
    this.#names.set(to, file);
  }

  async remove(path: string): Promise<void> {
    this.#record({ kind: "remove", path });
    this.#names.delete(path);
  }

  async syncDirectory(dir: string): Promise<void> {
    this.#record({ kind: "syncDirectory", dir });
  }

  #record(operation: DiskOperation): void {
    const code = this.plan(operation);
    if (code !== null) throw errno(code, operation.kind);
    this.operations.push(operation);
  }
}

function errno(code: string, what: string): Error {
  return Object.assign(new Error(`${code}: ${what}, by the simulated disk`), { code });
}

function written(before: Buffer, write: Write): Buffer {
  const end = write.position + write.bytes.length;
  const after = end <= before.length ? before : Buffer.concat([before, Buffer.alloc(end - before.length)]);
  write.bytes.copy(after, write.position);
  return after;
}

/** Where a medium stands: what is durable, and what is under way. */
interface Medium {
  readonly durable: Buffer[];
  readonly pending: Write[][];
  readonly names: Map<string, number>;
  readonly changes: NameChange[];
}

function mediumAfter(disk: FaultyDiskFiles, operations: number): Medium {
  const medium: Medium = { durable: [], pending: [], names: new Map(), changes: [] };
  for (const [path, bytes] of disk.initial) {
    medium.names.set(path, medium.durable.length);
    medium.durable.push(bytes);
    medium.pending.push([]);
  }
  /** Names as the process sees them. */
  const seen = new Map(medium.names);
  for (const operation of disk.operations.slice(0, operations)) advance(medium, seen, operation);
  return medium;
}

function advance(medium: Medium, seen: Map<string, number>, operation: DiskOperation): void {
  switch (operation.kind) {
    case "create":
      medium.durable[operation.file] = Buffer.alloc(0);
      medium.pending[operation.file] = [];
      seen.set(operation.path, operation.file);
      medium.changes.push({ kind: "set", path: operation.path, file: operation.file });
      return;
    case "write":
      medium.pending[operation.file]!.push(operation);
      return;
    case "sync":
      for (const write of medium.pending[operation.file]!) {
        medium.durable[operation.file] = written(Buffer.from(medium.durable[operation.file]!), write);
      }
      medium.pending[operation.file] = [];
      return;
    case "rename": {
      const file = seen.get(operation.from)!;
      seen.delete(operation.from);
      seen.set(operation.to, file);
      medium.changes.push({ kind: "move", from: operation.from, to: operation.to, file });
      return;
    }
    case "remove":
      if (seen.delete(operation.path)) medium.changes.push({ kind: "drop", path: operation.path });
      return;
    case "syncDirectory":
      change(medium.names, medium.changes);
      medium.changes.length = 0;
      return;
    default:
      return;
  }
}

function change(names: Map<string, number>, changes: readonly NameChange[]): void {
  for (const one of changes) {
    if (one.kind === "drop") names.delete(one.path);
    else names.set(one.kind === "set" ? one.path : one.to, one.file);
    if (one.kind === "move") names.delete(one.from);
  }
}

export interface CrashImage {
  readonly files: FileImage;
  /** What became of what was under way, for the message of a failed test. */
  readonly what: string;
}

/**
 * Every state that a power cut after the first `operations` operations may leave: all subsets of the changes of names,
 * times for each file all the ways in which its unsynced writes may have been lost or torn. Sectors are sampled.
 */
export function* crashImages(disk: FaultyDiskFiles, operations: number, random: Random): Generator<CrashImage> {
  const medium = mediumAfter(disk, operations);
  for (let subset = 0; subset < 2 ** medium.changes.length; subset++) {
    const kept = medium.changes.filter((_, bit) => (subset >> bit) % 2 === 1);
    const names = new Map(medium.names);
    change(names, kept);
    const what = `names: ${kept.length} of ${medium.changes.length} changes (${subset.toString(2)})`;
    yield* contentImages(medium, names, what, random);
  }
}

function* contentImages(
  medium: Medium,
  names: ReadonlyMap<string, number>,
  what: string,
  random: Random,
): Generator<CrashImage> {
  const image = (torn: number, contents: Buffer): FileImage =>
    new Map([...names].map(([path, file]) => [path, file === torn ? contents : medium.durable[file]!]));
  yield { files: image(-1, Buffer.alloc(0)), what: `${what}, no unsynced write` };
  for (const file of new Set(names.values())) {
    const pending = medium.pending[file]!;
    if (pending.length === 0) continue;
    for (const { bytes, how } of tornContents(medium.durable[file]!, pending, random)) {
      yield { files: image(file, bytes), what: `${what}, file ${file}: ${how}` };
    }
  }
}

/** One state, drawn at random. */
export function crashImage(disk: FaultyDiskFiles, random: Random): CrashImage {
  const images = [...crashImages(disk, disk.operations.length, random)];
  return random.pick(images);
}

const sectorBytes = 512;
const sectorSamples = 8;

function* tornContents(
  durable: Buffer,
  pending: readonly Write[],
  random: Random,
): Generator<{ bytes: Buffer; how: string }> {
  const after = (writes: readonly Write[]): Buffer =>
    writes.reduce<Buffer>((bytes, write) => written(bytes, write), Buffer.from(durable));
  yield { bytes: after(pending), how: "all written" };
  for (const [at, write] of pending.entries()) {
    for (const cut of cuts(write.bytes)) {
      const head: Write = { position: write.position, bytes: write.bytes.subarray(0, cut) };
      const tail: Write = { position: write.position + cut, bytes: write.bytes.subarray(cut) };
      const before = pending.slice(0, at);
      yield { bytes: after([...before, head]), how: `write ${at} up to byte ${cut}` };
      yield { bytes: after([...before, tail]), how: `write ${at} from byte ${cut}` };
      if (at > 0) yield { bytes: after([head]), how: `write ${at} alone up to byte ${cut}` };
    }
  }
  for (let sample = 0; sample < sectorSamples; sample++) {
    const writes = pending.flatMap(sectors).filter(() => random.chance(0.5));
    yield { bytes: after(writes), how: `${writes.length} sectors` };
  }
}

/** Every byte of what says something; some places in zeros, which say nothing. */
function* cuts(bytes: Buffer): Generator<number> {
  const telling = bytes.some((byte) => byte !== 0);
  for (let cut = 0; cut < bytes.length; cut++) {
    if (telling || cut % sectorBytes === 0 || cut % sectorBytes === 1) yield cut;
  }
}

function sectors(write: Write): Write[] {
  const parts: Write[] = [];
  for (let from = write.position; from < write.position + write.bytes.length; ) {
    const to = Math.min((Math.floor(from / sectorBytes) + 1) * sectorBytes, write.position + write.bytes.length);
    parts.push({ position: from, bytes: write.bytes.subarray(from - write.position, to - write.position) });
    from = to;
  }
  return parts;
}
