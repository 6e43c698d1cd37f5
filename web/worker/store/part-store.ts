/**
 * Files in Cache Storage by hash: a manifest and parts of equal size, whole or unfinished.
 *
 * Cache Storage because every worker of every browser has it: WebKit lacks the origin private file
 * system where it is automated, and shared workers have no synchronous access to it. What earlier
 * versions stored through the service worker has the same form and is read as it is.
 */
import type { Bytes } from "../shared/hash.ts";

const CACHE = "mlc-edge-content-v1";
// Never requested from a server: only the key under which Cache Storage files an entry.
const KEY_PREFIX = "/__mlc-edge/content/";

export interface Manifest {
  /** Size of the whole file; null in what earlier versions left unfinished. */
  bytes: number | null;
  /** Size of every part but the last. */
  partBytes: number;
  /** The server's strong validator, to continue an unfinished download. */
  etag: string | null;
  /** All parts are stored, and their hash was right when they were. */
  complete: boolean;
}

export interface StoredSize {
  bytes: number;
  complete: boolean;
}

export class PartStore {
  readonly #origin = self.location.origin;

  /** Whether the browser lets this page keep anything, and what it kept can be read. */
  async isAvailable(): Promise<boolean> {
    try {
      await (await this.#cache()).match(this.#key(""));
      return true;
    } catch {
      return false;
    }
  }

  /** Null without one that can be read: the file is fetched again then. */
  async manifest(sha256: string): Promise<Manifest | null> {
    const response = await (await this.#cache()).match(this.#key(sha256));
    const manifest = (await response?.json().catch(() => null)) as Manifest | null | undefined;
    return typeof manifest?.partBytes === "number" ? manifest : null;
  }

  async putManifest(sha256: string, manifest: Manifest): Promise<void> {
    await (await this.#cache()).put(this.#key(sha256), Response.json(manifest));
  }

  /** Null if it isn't stored, or the disk doesn't give it. */
  async part(sha256: string, index: number): Promise<Bytes | null> {
    try {
      const response = await (await this.#cache()).match(this.#key(sha256, index));
      return response ? new Uint8Array(await response.arrayBuffer()) : null;
    } catch {
      return null;
    }
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

  async delete(...hashes: string[]): Promise<void> {
    const doomed = new Set(hashes);
    const cache = await this.#cache();
    const keys = (await cache.keys()).filter((key) => doomed.has(this.#hashOf(key)));
    await Promise.all(keys.map((key) => cache.delete(key)));
  }

  /** What is stored of every file, by hash; parts that no manifest describes have the size 0. */
  async sizes(): Promise<Map<string, StoredSize>> {
    const parts = new Map<string, number>();
    for (const key of await (await this.#cache()).keys()) {
      const isPart = key.url.slice(this.#origin.length).split("/").length === 5;
      const hash = this.#hashOf(key);
      parts.set(hash, (parts.get(hash) ?? 0) + (isPart ? 1 : 0));
    }
    const sizes = [...parts].map(async ([hash, count]): Promise<[string, StoredSize]> => {
      const { complete, bytes, partBytes } = (await this.manifest(hash)) ?? NOT_DESCRIBED;
      return [hash, { bytes: Math.min(count * partBytes, bytes ?? Infinity), complete }];
    });
    return new Map(await Promise.all(sizes));
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

const NOT_DESCRIBED: Manifest = { bytes: 0, partBytes: 0, etag: null, complete: false };
