/** Files in Cache Storage by hash: a manifest and parts of equal size, whole or unfinished. */
import type { Bytes } from "./hash.ts";

const CACHE = "mlc-edge-content-v1";
// Never requested from a server: only the key under which Cache Storage files an entry.
const KEY_PREFIX = "/__mlc-edge/content/";

export interface Manifest {
  /** Size of the whole file; null while the server hasn't said. */
  bytes: number | null;
  /** Size of every part but the last. */
  partBytes: number;
  /** The server's strong validator, to continue an unfinished download. */
  etag: string | null;
  contentType: string;
  /** All parts are stored, and their hash was right when they were. */
  complete: boolean;
}

export interface StoredSize {
  bytes: number;
  complete: boolean;
}

export class PartStore {
  readonly #origin: string;

  constructor(origin: string) {
    this.#origin = origin;
  }

  async manifest(sha256: string): Promise<Manifest | null> {
    const response = await (await this.#cache()).match(this.#key(sha256));
    return response ? ((await response.json()) as Manifest) : null;
  }

  async putManifest(sha256: string, manifest: Manifest): Promise<void> {
    await (await this.#cache()).put(this.#key(sha256), Response.json(manifest));
  }

  async part(sha256: string, index: number): Promise<Bytes | null> {
    const response = await (await this.#cache()).match(this.#key(sha256, index));
    return response ? new Uint8Array(await response.arrayBuffer()) : null;
  }

  async putPart(sha256: string, index: number, bytes: Bytes): Promise<void> {
    await (await this.#cache()).put(this.#key(sha256, index), new Response(bytes));
  }

  /** Number of parts stored without a gap from the first. */
  async countParts(sha256: string): Promise<number> {
    const cache = await this.#cache();
    let count = 0;
    while (await cache.match(this.#key(sha256, count))) count += 1;
    return count;
  }

  /** Parts in order; ends early where one is missing. */
  async *parts(sha256: string, count: number): AsyncGenerator<Bytes, void> {
    for (let index = 0; index < count; index += 1) {
      const bytes = await this.part(sha256, index);
      if (!bytes) return;
      yield bytes;
    }
  }

  /** The whole of a file that is `bytes` long; zeros where a part is missing or short. */
  async whole(sha256: string, { bytes, partBytes }: Manifest): Promise<Bytes> {
    const buffer = new Uint8Array(bytes ?? 0);
    const read = async (index: number) => {
      const room = buffer.subarray(index * partBytes, (index + 1) * partBytes);
      room.set((await this.part(sha256, index))?.subarray(0, room.length) ?? []);
    };
    const count = Math.ceil(buffer.length / partBytes);
    await Promise.all(Array.from({ length: count }, (_, index) => read(index)));
    return buffer;
  }

  async delete(...hashes: string[]): Promise<void> {
    const doomed = new Set(hashes);
    const cache = await this.#cache();
    const keys = (await cache.keys()).filter((key) => doomed.has(this.#hashOf(key)));
    await Promise.all(keys.map((key) => cache.delete(key)));
  }

  /** What is stored of every file, by hash. */
  async sizes(): Promise<Map<string, StoredSize>> {
    const parts = new Map<string, number>();
    for (const key of await (await this.#cache()).keys()) {
      const isPart = key.url.slice(this.#origin.length).split("/").length === 5;
      const hash = this.#hashOf(key);
      parts.set(hash, (parts.get(hash) ?? 0) + (isPart ? 1 : 0));
    }
    const sizes = new Map<string, StoredSize>();
    for (const [hash, count] of parts) {
      const manifest = await this.manifest(hash);
      if (!manifest) continue;
      const { complete, bytes, partBytes } = manifest;
      const stored = Math.min(count * partBytes, bytes ?? Infinity);
      sizes.set(hash, { bytes: stored, complete });
    }
    return sizes;
  }

  #cache(): Promise<Cache> {
    return caches.open(CACHE);
  }

  #key(sha256: string, part?: number): string {
    return `${this.#origin}${KEY_PREFIX}${sha256}${part === undefined ? "" : `/${part}`}`;
  }

  #hashOf(key: Request): string {
    return key.url.slice(this.#origin.length + KEY_PREFIX.length).split("/")[0] ?? "";
  }
}
