/** A whole file, read in ranges. */
import type { Bytes } from "../shared/hash.ts";
import type { Parts } from "./download.ts";

export class StoredFile {
  readonly bytes: number;
  #parts: Parts;
  readonly #fetchAnew: (keep: boolean) => Promise<Parts>;
  /** The part that was read last, and the one after it. */
  readonly #near = new Map<number, Promise<Bytes>>();

  /** `fetchAnew` gives the parts again when they turn out to be gone; from memory if not to be kept. */
  constructor(parts: Parts, bytes: number, fetchAnew: (keep: boolean) => Promise<Parts>) {
    this.#parts = parts;
    this.bytes = bytes;
    this.#fetchAnew = fetchAnew;
  }

  /** `length` bytes from `offset` on; maybe a view of more. Downloads the file again if it is gone. */
  async read(offset: number, length: number): Promise<Bytes> {
    if (offset < 0 || length < 0 || offset + length > this.bytes) throw new RangeError("no such bytes");
    return (await this.#tryRead(offset, length)) ?? this.#readAnew(offset, length);
  }

  /** All bytes, downloaded again. */
  readAnew(): Promise<Bytes> {
    return this.#readAnew(0, this.bytes);
  }

  async #readAnew(offset: number, length: number): Promise<Bytes> {
    // A disk that takes bytes may still not give them back.
    for (const keep of [true, false]) {
      this.#parts = await this.#fetchAnew(keep);
      this.#near.clear();
      const bytes = await this.#tryRead(offset, length);
      if (bytes) return bytes;
    }
    throw new Error("A file is gone as soon as it is here.");
  }

  /** Null where a part is missing or short. */
  async #tryRead(offset: number, length: number): Promise<Bytes | null> {
    const { partBytes } = this.#parts;
    let result: Bytes | null = null;
    for (let position = offset; position < offset + length; ) {
      const index = Math.floor(position / partBytes);
      const part = await this.#part(index);
      if (part.length !== Math.min(partBytes, this.bytes - index * partBytes)) return null;
      const begin = position - index * partBytes;
      const piece = part.subarray(begin, begin + offset + length - position);
      if (piece.length === length) return piece;
      result ??= new Uint8Array(length);
      result.set(piece, position - offset);
      position += piece.length;
    }
    return result ?? new Uint8Array();
  }

  #part(index: number): Promise<Bytes> {
    const wanted = [index, index + 1].filter((i) => i * this.#parts.partBytes < this.bytes);
    for (const kept of this.#near.keys()) if (!wanted.includes(kept)) this.#near.delete(kept);
    for (const i of wanted) {
      if (this.#near.has(i)) continue;
      const part = this.#parts.get(i).then((bytes) => bytes ?? new Uint8Array());
      part.catch(() => {});
      this.#near.set(i, part);
    }
    return this.#near.get(index) as Promise<Bytes>;
  }
}
