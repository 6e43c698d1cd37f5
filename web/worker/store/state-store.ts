/**
 * Saved states of models in Cache Storage: keys and values of a text's tokens, layer by layer.
 *
 * A state has a name within its bundle. Its header is written last, and names the hash of every layer.
 */
import { EngineError } from "../shared/errors.ts";
import { type Bytes, digest } from "../shared/hash.ts";
import type { SavedState } from "../shared/protocol.ts";
import type { Limits } from "./limits.ts";
import { exclusively } from "./locks.ts";

const CACHE = "mlc-edge-states-v1";
// Never requested from a server, like those of stored files.
const KEY_PREFIX = "/__mlc-edge/states/";
/** Addresses collapse segments that are "." or ".."; encodeURIComponent writes no "=". */
const NAME_PREFIX = "=";
const LOCK = "mlc-edge-states";

export interface StateKey {
  readonly lockUrl: string;
  readonly name: string;
}

/** What a state is of, and how much there is. */
export interface StateHeader {
  /** Hex digest of all that its numbers depend on beside the tokens. */
  readonly identity: string;
  readonly tokens: readonly number[];
  /** So many of the first tokens were computed in whole chunks of the grid. */
  readonly onGrid: number;
  readonly layerBytes: number;
  readonly layerCount: number;
}

export interface StoredHeader extends StateHeader {
  readonly savedAt: number;
  /** Hex digests. */
  readonly layers: readonly string[];
}

/** A stored layer isn't what it was. */
export class DamagedStateError extends Error {
  override readonly name = "DamagedStateError";
}

/** The state was deleted or replaced while it was read. */
export class GoneStateError extends Error {
  override readonly name = "GoneStateError";
}

export class StateStore {
  readonly #limits: Limits;
  readonly #origin = self.location.origin;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** All states, the last saved last; none where they can't be read. */
  async list(): Promise<SavedState[]> {
    const cache = await this.#open();
    const stored = cache ? await this.#all(cache) : [];
    return stored.map(({ key, header }) => describeState(key, header));
  }

  /** Null without one that can be read. */
  async header(key: StateKey): Promise<StoredHeader | null> {
    const cache = await this.#open();
    return cache && this.#header(cache, this.#address(key));
  }

  /** The layers of a header that was read, each verified. Throws DamagedStateError, GoneStateError. */
  async *layers(key: StateKey, header: StoredHeader): AsyncGenerator<Bytes, void> {
    const cache = await this.#open();
    for (const [index, hash] of header.layers.entries()) {
      const response = await cache?.match(this.#address(key, index)).catch(() => undefined);
      const content = await response?.arrayBuffer().catch(() => null);
      const bytes = new Uint8Array(content ?? new ArrayBuffer());
      if (bytes.length !== header.layerBytes || (await digest(bytes)) !== hash) {
        const now = await this.header(key);
        const isSame = now?.savedAt === header.savedAt && String(now.layers) === String(header.layers);
        if (!isSame) throw new GoneStateError(`the state ${key.name} went while it was read`);
        throw new DamagedStateError(`layer ${index} of the state ${key.name} is damaged`);
      }
      yield bytes;
    }
  }

  /** Throws EngineError "quota_exceeded" for a state that can't be stored, whatever is deleted. */
  async admit(name: string, bytes: number): Promise<void> {
    if (bytes > this.#limits.maxStateBytes || !(await this.#open())) throw noRoom(name, bytes);
  }

  /**
   * Stores a state in the place of an older one of its name; the oldest states make room.
   *
   * Throws EngineError "quota_exceeded", what `layers` throws, and the signal's reason.
   */
  async save(
    key: StateKey,
    { header, layers }: { header: StateHeader; layers: AsyncIterable<Bytes> },
    signal: AbortSignal,
  ): Promise<void> {
    const cache = await this.#open();
    const bytes = header.layerBytes * header.layerCount;
    if (!cache || bytes > this.#limits.maxStateBytes) throw noRoom(key.name, bytes);
    await exclusively(LOCK, signal, async () => {
      await this.#delete(cache, key);
      await this.#makeRoom(cache, bytes);
      try {
        const hashes: string[] = [];
        for await (const layer of layers) {
          signal.throwIfAborted();
          await this.#put(cache, this.#address(key, hashes.length), new Response(layer), key.name, bytes);
          hashes.push(await digest(layer));
        }
        const body = JSON.stringify({ ...header, savedAt: Date.now(), layers: hashes });
        const signed = { sha256: await digest(encoded(body)), body };
        await this.#put(cache, this.#address(key), Response.json(signed), key.name, bytes);
      } catch (error) {
        await this.#delete(cache, key);
        throw error;
      }
    });
  }

  /** Bytes that this freed; 0 if there was none. */
  async delete(key: StateKey): Promise<number> {
    const cache = await this.#open();
    return cache ? this.#delete(cache, key) : 0;
  }

  /** Deletes the states of a bundle; bytes that this freed. */
  async deleteOf(lockUrl: string): Promise<number> {
    let freed = 0;
    for (const { name, bundleUrl } of await this.list()) {
      if (bundleUrl === bundleOf(lockUrl)) freed += await this.delete({ lockUrl, name });
    }
    return freed;
  }

  async #put(cache: Cache, url: string, response: Response, name: string, bytes: number): Promise<void> {
    await cache.put(url, response).catch((error: unknown) => {
      throw noRoom(name, bytes, error);
    });
  }

  /** Deletes what crashes left, and the oldest states until there is room for so many bytes. */
  async #makeRoom(cache: Cache, bytes: number): Promise<void> {
    const stored = await this.#all(cache);
    const whole = new Set(stored.map(({ key }) => this.#address(key)));
    for (const { url } of await cache.keys()) {
      const address = this.#parse(url);
      if (!address || !whole.has(this.#address(address.key))) await cache.delete(url);
    }
    let sum = stored.reduce((total, { header }) => total + bytesOf(header), bytes);
    for (const { key, header } of stored) {
      if (sum <= this.#limits.maxStateBytes) return;
      sum -= bytesOf(header);
      await this.#delete(cache, key);
    }
  }

  async #delete(cache: Cache, key: StateKey): Promise<number> {
    const address = this.#address(key);
    const header = await this.#header(cache, address);
    // Without its header the rest is no state any more.
    await cache.delete(address);
    for (const { url } of await cache.keys()) {
      if (url.startsWith(`${address}/`)) await cache.delete(url);
    }
    return header ? bytesOf(header) : 0;
  }

  async #all(cache: Cache): Promise<{ key: StateKey; header: StoredHeader }[]> {
    const found = [];
    for (const { url } of await cache.keys()) {
      const address = this.#parse(url);
      const header = address?.isHeader ? await this.#header(cache, url) : null;
      if (address && header) found.push({ key: address.key, header });
    }
    return found.sort((a, b) => a.header.savedAt - b.header.savedAt);
  }

  async #header(cache: Cache, address: string): Promise<StoredHeader | null> {
    try {
      const { sha256, body } = (await (await cache.match(address))?.json()) as Record<string, string>;
      return body && sha256 === (await digest(encoded(body))) ? (JSON.parse(body) as StoredHeader) : null;
    } catch {
      return null;
    }
  }

  #address({ lockUrl, name }: StateKey, layer?: number): string {
    const [bundle, state] = [lockUrl, name].map(encodeURIComponent);
    const path = `${bundle}/${NAME_PREFIX}${state}`;
    return `${this.#origin}${KEY_PREFIX}${path}${layer === undefined ? "" : `/${layer}`}`;
  }

  /** Null for an address of another form. */
  #parse(url: string): { key: StateKey; isHeader: boolean } | null {
    const [bundle = "", state = "", layer] = url.slice(this.#origin.length + KEY_PREFIX.length).split("/");
    if (!state.startsWith(NAME_PREFIX)) return null;
    const name = decodeURIComponent(state.slice(NAME_PREFIX.length));
    return { key: { lockUrl: decodeURIComponent(bundle), name }, isHeader: layer === undefined };
  }

  /** Null where the browser lets this page keep nothing. */
  async #open(): Promise<Cache | null> {
    try {
      const cache = await caches.open(CACHE);
      await cache.match(`${this.#origin}${KEY_PREFIX}`);
      return cache;
    } catch {
      return null;
    }
  }
}

export function describeState({ lockUrl, name }: StateKey, header: StateHeader): SavedState {
  return { name, bundleUrl: bundleOf(lockUrl), tokens: header.tokens.length, bytes: bytesOf(header) };
}

function bundleOf(lockUrl: string): string {
  return new URL(".", lockUrl).href;
}

function bytesOf({ layerBytes, layerCount }: StateHeader): number {
  return layerBytes * layerCount;
}

function encoded(text: string): Bytes {
  return new TextEncoder().encode(text);
}

function noRoom(name: string, bytes: number, cause?: unknown): EngineError {
  const size = `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  return new EngineError(
    {
      code: "quota_exceeded",
      message: `The state ${JSON.stringify(name)} of ${size} can't be stored: this browser has no room for it.`,
      remedy: "Delete models or states, free disk space, or save a shorter prefix.",
    },
    { cause },
  );
}
