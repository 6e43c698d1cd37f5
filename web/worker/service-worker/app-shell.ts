/** The app's own files, kept as whole versions: a page never gets files of two of them. */
import { type Bytes, IntegrityError, digest } from "../shared/hash.ts";
import type { ServiceWorkerReplies } from "./protocol.ts";

const STATE_CACHE = "mlc-edge-state-v1";
const HASH_HEADER = "x-mlc-edge-sha256";
const PAGE = "index.html";

interface AppLock {
  /** Lazy files are kept from their first use on, all others at once. */
  files: { path: string; bytes: number; sha256: string; lazy?: true }[];
}

/** Names of versions. The previous one serves pages that were opened before the update. */
interface Versions {
  current: string;
  previous: string | null;
  /** Hashes of the current version's lazy files, by their addresses; versions stored by earlier scripts have none. */
  lazy?: Record<string, string>;
}

export class AppShell {
  readonly #scope: URL;

  constructor(scope: URL) {
    this.#scope = scope;
  }

  /**
   * The file that a request asks for, stored or fetched to be, and checked; null when no kept version has it. Throws for
   * a lazy file that can't be had.
   */
  async match(request: Request): Promise<Response | null> {
    const url = new URL(request.url);
    url.search = "";
    const versions = await this.#versions();
    return (
      (await this.#find(versions?.current, url.href)) ??
      (await this.#find(versions?.previous, url.href)) ??
      (await this.#fetchLazy(versions, url.href))
    );
  }

  async #fetchLazy(versions: Versions | null, url: string): Promise<Response | null> {
    const sha256 = versions?.lazy?.[url];
    if (!versions || !sha256) return null;
    const response = await fetchVerified(url, sha256);
    const cache = await caches.open(this.#cacheName(versions.current));
    // The page has it, whatever the browser's storage says.
    await cache.put(url, response.clone()).catch(() => {});
    return response;
  }

  /** The stored page, of the current version only; null before the first update. */
  async page(): Promise<Response | null> {
    const versions = await this.#versions();
    return this.#find(versions?.current, this.#address(PAGE));
  }

  /**
   * Fetches the app's lock and, when it differs, all its files into a new version, which replaces
   * the current one only when every file is stored and verified. Throws without a network.
   */
  update(): Promise<ServiceWorkerReplies["check-update"]> {
    return navigator.locks.request(`mlc-edge-app ${this.#scope.href}`, async () => {
      const text = await this.#fetchLock();
      const version = await digest(new TextEncoder().encode(text));
      const lock = JSON.parse(text) as AppLock;
      const versions = await this.#versions();
      const changed = versions?.current !== version;
      if (!changed && (await this.#isWhole(version, lock))) return { version, changed };
      await this.#store(version, lock, versions?.current ?? null);
      const lazy = this.#lazyFiles(lock);
      if (changed) await this.#switch({ current: version, previous: versions?.current ?? null, lazy });
      return { version, changed: changed && versions !== null };
    });
  }

  async #find(version: string | null | undefined, key: string): Promise<Response | null> {
    if (!version) return null;
    const cache = await caches.open(this.#cacheName(version));
    const response = await cache.match(key);
    if (!response) return null;
    const bytes = new Uint8Array(await response.arrayBuffer());
    if ((await digest(bytes)) === response.headers.get(HASH_HEADER)) {
      return new Response(bytes, { headers: response.headers });
    }
    await cache.delete(key);
    return null;
  }

  async #fetchLock(): Promise<string> {
    const response = await fetch(new URL("app-lock.json", this.#scope), { cache: "no-store" });
    if (!response.ok) throw new Error(`${response.url} answered ${response.status}`);
    return response.text();
  }

  async #isWhole(version: string, lock: AppLock): Promise<boolean> {
    const cache = await caches.open(this.#cacheName(version));
    const kept = new Set((await cache.keys()).map(({ url }) => url));
    return lock.files.every(({ path, lazy }) => lazy || kept.has(this.#address(path)));
  }

  #lazyFiles({ files }: AppLock): Record<string, string> {
    return Object.fromEntries(files.flatMap(({ path, sha256, lazy }) => (lazy ? [[this.#address(path), sha256]] : [])));
  }

  #address(path: string): string {
    return new URL(path, this.#scope).href;
  }

  async #store(version: string, lock: AppLock, previous: string | null): Promise<void> {
    const name = this.#cacheName(version);
    const cache = await caches.open(name);
    const old = previous === null ? null : await caches.open(this.#cacheName(previous));
    try {
      await Promise.all(
        lock.files.map(async ({ path, sha256, lazy }) => {
          const url = this.#address(path);
          const kept = await old?.match(url);
          const unchanged = kept?.headers.get(HASH_HEADER) === sha256;
          if (kept && unchanged) await cache.put(url, kept);
          else if (!lazy) await cache.put(url, await fetchVerified(url, sha256));
        }),
      );
    } catch (error) {
      if (version !== previous) await caches.delete(name);
      throw error;
    }
  }

  async #switch(versions: Versions): Promise<void> {
    const state = await caches.open(STATE_CACHE);
    await state.put(this.#stateKey(), Response.json(versions));
    const kept = [versions.current, versions.previous].map((v) => v && this.#cacheName(v));
    for (const name of await caches.keys()) {
      if (name.startsWith(this.#cacheName("")) && !kept.includes(name)) await caches.delete(name);
    }
  }

  async #versions(): Promise<Versions | null> {
    const state = await caches.open(STATE_CACHE);
    const response = await state.match(this.#stateKey());
    return response ? ((await response.json()) as Versions) : null;
  }

  // One origin may hold several copies of the app, each under its own prefix.
  #stateKey(): string {
    return this.#address("__mlc-edge/app-versions");
  }

  #cacheName(version: string): string {
    return `mlc-edge-app-v1 ${this.#scope.href} ${version}`;
  }
}

async function fetchVerified(url: string, sha256: string): Promise<Response> {
  const response = await fetch(url, { cache: "reload" });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  const bytes: Bytes = new Uint8Array(await response.arrayBuffer());
  const actual = await digest(bytes);
  if (actual !== sha256) throw new IntegrityError(url, sha256, actual);
  const headers = new Headers(response.headers);
  // The stored body is decoded.
  headers.delete("content-encoding");
  headers.set("content-length", String(bytes.length));
  headers.set(HASH_HEADER, sha256);
  // Hosts that can't set headers get an isolated page, too, from the second visit on.
  if (!headers.has("cross-origin-embedder-policy")) {
    headers.set("cross-origin-embedder-policy", "require-corp");
    headers.set("cross-origin-opener-policy", "same-origin");
  }
  return new Response(bytes, { headers });
}
