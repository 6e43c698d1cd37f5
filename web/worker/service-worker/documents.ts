/** Files that change in place: from the network, else as last seen; and what they say is stored. */
import type { PartStore, StoredSize } from "./part-store.ts";
import type { Limits } from "./policy.ts";
import type { DeletedBundle, StoredBundle } from "./protocol.ts";

const CACHE = "mlc-edge-documents-v1";
const LOCK_NAME = "/mlc-lock.json";

/** The part of mlc-lock.json that storage is about. */
interface BundleLock {
  model: { id: string; model_type: string; quantization: string };
  files: { path: string; bytes: number; sha256: string }[];
  targets: Record<string, { library: string }>;
}

export class Documents {
  readonly #store: PartStore;
  readonly #limits: Limits;

  constructor(store: PartStore, limits: Limits) {
    this.#store = store;
    this.#limits = limits;
  }

  /**
   * The network's answer while it is the document, else (an error, a portal's page, a connection
   * that hangs) the stored copy, if there is one. Fails only when there is neither.
   */
  async respond(request: Request): Promise<Response> {
    const key = documentKey(request.url);
    const cache = await caches.open(CACHE);
    const stored = await cache.match(key);
    const signal = stored ? AbortSignal.timeout(this.#limits.documentTimeoutMs) : null;
    try {
      const response = await fetch(request, { cache: "no-cache", signal });
      const content = response.ok ? parseJson(await response.clone().text()) : null;
      const genuine = key.endsWith(LOCK_NAME) ? isBundleLock(content) : isIndex(content);
      if (!genuine) return stored ?? response;
      await this.#keep(cache, key, response.clone(), content).catch(() => {});
      return response;
    } catch (error) {
      if (stored) return stored;
      throw error;
    }
  }

  async list(): Promise<StoredBundle[]> {
    const sizes = await this.#store.sizes();
    const locks = await this.#locks();
    return [...locks].map(([lockUrl, lock]) => describe(lockUrl, lock, sizes));
  }

  async delete(lockUrl: string): Promise<DeletedBundle> {
    const cache = await caches.open(CACHE);
    const key = documentKey(lockUrl);
    const lock = (await this.#locks()).get(key);
    if (!lock) throw new Error(`${lockUrl} is not stored.`);
    await cache.delete(key);
    return this.#deleteUnnamed(lock);
  }

  /** Deletes the files of a lock that is gone, as far as no stored lock names them. */
  async #deleteUnnamed(gone: BundleLock): Promise<DeletedBundle> {
    const named = new Set(
      [...(await this.#locks()).values()].flatMap((lock) => lock.files.map((f) => f.sha256)),
    );
    const hashes = [...new Set(gone.files.map((file) => file.sha256))];
    const doomed = hashes.filter((hash) => !named.has(hash));
    const sizes = await this.#store.sizes();
    await this.#store.delete(...doomed);
    const freedBytes = doomed.reduce((sum, hash) => sum + (sizes.get(hash)?.bytes ?? 0), 0);
    return { freedBytes, keptFiles: hashes.length - doomed.length };
  }

  async #keep(cache: Cache, key: string, response: Response, content: unknown): Promise<void> {
    const before = (await this.#locks()).get(key);
    await cache.put(key, response);
    if (before && JSON.stringify(before) !== JSON.stringify(content)) {
      await this.#deleteUnnamed(before);
    }
  }

  async #locks(): Promise<Map<string, BundleLock>> {
    const cache = await caches.open(CACHE);
    const locks = new Map<string, BundleLock>();
    for (const { url } of await cache.keys()) {
      if (!url.endsWith(LOCK_NAME)) continue;
      const lock: unknown = await (await cache.match(url))?.json();
      if (isBundleLock(lock)) locks.set(url, lock);
    }
    return locks;
  }
}

function documentKey(url: string): string {
  const key = new URL(url);
  key.search = "";
  key.hash = "";
  return key.href;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function isIndex(value: unknown): boolean {
  return Array.isArray((value as { bundles?: unknown } | null)?.bundles);
}

function isBundleLock(value: unknown): value is BundleLock {
  const lock = value as Partial<BundleLock> | null | undefined;
  return (
    Array.isArray(lock?.files) &&
    lock.files.every((file) => typeof file?.sha256 === "string" && typeof file.path === "string") &&
    typeof lock.model?.id === "string" &&
    typeof lock.targets === "object"
  );
}

function describe(
  lockUrl: string,
  lock: BundleLock,
  sizes: Map<string, StoredSize>,
): StoredBundle {
  const libraries = new Set(Object.values(lock.targets).map(({ library }) => library));
  const missing = new Set(
    lock.files.filter(({ sha256 }) => !sizes.get(sha256)?.complete).map(({ path }) => path),
  );
  const sharedMissing = [...missing].some((path) => !libraries.has(path));
  const offlineTargets = Object.entries(lock.targets)
    .filter(([, { library }]) => !sharedMissing && !missing.has(library))
    .map(([target]) => target);
  return {
    lockUrl,
    id: lock.model.id,
    modelType: lock.model.model_type,
    quantization: lock.model.quantization,
    totalBytes: lock.files.reduce((sum, { bytes }) => sum + bytes, 0),
    storedBytes: lock.files.reduce((sum, { sha256 }) => sum + (sizes.get(sha256)?.bytes ?? 0), 0),
    offlineTargets,
  };
}
