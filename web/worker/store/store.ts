/**
 * What this browser keeps of models: the engine's worker owns it, whatever serves its pages.
 *
 * A bundle that is stored whole is used at once. Its lock is looked up after that; a new one, and
 * the files that it names, are stored beside the old ones and take their place when they are whole.
 */
import { type Lock, runnableLock } from "../shared/lock.ts";
import type { DeletedFiles, DeletedLeftovers, StorageEvent, StoredContents } from "../shared/protocol.ts";
import { ContentFiles } from "./content.ts";
import { Documents, StatusError } from "./documents.ts";
import { FullError } from "./download.ts";
import { fileError, networkError, noRoom, notStored } from "./errors.ts";
import { LIMITS, type Limits } from "./limits.ts";
import { hold, ifFree } from "./locks.ts";
import { PartStore } from "./part-store.ts";
import { StateStore } from "./state-store.ts";
import { asStoredLock, offlineTargets, type Sizes, type StoredLock, StoredLocks } from "./stored-locks.ts";

/** Held, together with others, while files are used that a lock may stop naming. */
const IN_USE = "mlc-edge-models";

export interface OpenedLock {
  lock: Lock;
  /** As it was fetched. */
  raw: unknown;
  /** Whether it is the stored one of a whole bundle, which the server may have exchanged since. */
  fromStorage: boolean;
}

export interface OpenLockOptions {
  signal: AbortSignal;
  /** Whether the lock is stored, which makes its files stay. */
  keep: boolean;
}

export class Store {
  readonly content: ContentFiles;
  readonly states: StateStore;
  readonly #parts = new PartStore();
  readonly #documents: Documents;
  readonly #locks: StoredLocks;
  readonly #notify: (event: StorageEvent) => void;

  constructor(notify: (event: StorageEvent) => void, limits: Limits = LIMITS) {
    this.#notify = notify;
    this.states = new StateStore(limits);
    this.#documents = new Documents(limits);
    this.#locks = new StoredLocks(this.#documents);
    this.content = new ContentFiles(this.#parts, limits, notify);
  }

  /**
   * The lock to load by: of a bundle that is stored whole the stored one, else the server's, else
   * what is stored. Throws EngineError: network_error, bundle_invalid, abi_mismatch.
   */
  async openLock(lockUrl: string, { signal, keep }: OpenLockOptions): Promise<OpenedLock> {
    const next = await this.#wholeNext(lockUrl);
    if (next) return { ...next, fromStorage: true };
    const current = runnable(await this.#locks.get(lockUrl, "current"));
    if (current && (await this.#isWhole(current.raw))) return { ...current, fromStorage: true };
    try {
      const raw = await this.#fetchLock(lockUrl, signal, current !== null);
      const lock = runnableLock(raw);
      if (keep) await this.#locks.keep(lockUrl, "current", raw);
      return { lock, raw, fromStorage: false };
    } catch (error) {
      signal.throwIfAborted();
      if (current) return { ...current, fromStorage: false };
      throw error;
    }
  }

  /**
   * The lock to load by where a stored one failed: the server's, else the version that was in use
   * before; null where neither is another. Throws the signal's reason.
   */
  async openOther(
    lockUrl: string,
    failed: OpenedLock,
    { signal, keep }: OpenLockOptions,
  ): Promise<OpenedLock | null> {
    const current = runnable(await this.#locks.get(lockUrl, "current"));
    const served = await this.#fetchLock(lockUrl, signal, true).then(runnable, () => null);
    signal.throwIfAborted();
    const other = [served, current].find((known) => known && !isSame(known.raw, failed.raw));
    if (!other) return null;
    if (keep && other === served) await this.#follow(lockUrl, current?.raw, served.raw);
    return { ...other, fromStorage: false };
  }

  /** Makes a lock whose bundle has loaded the one in use; until then the version before it stays. */
  async confirm(lockUrl: string, { raw }: OpenedLock): Promise<void> {
    if (!isSame(await this.#locks.get(lockUrl, "next"), raw)) return;
    await this.#locks.keep(lockUrl, "current", raw);
    await this.#locks.dropNext(lockUrl);
  }

  /** Keeps the files of this moment's locks until the returned function is called. */
  async use(): Promise<() => void> {
    await this.deleteLeftovers();
    return hold(IN_USE);
  }

  /** Looks for another version of a stored bundle; says so if there is one. Never throws. */
  async revalidate(lockUrl: string, signal: AbortSignal): Promise<void> {
    try {
      const value = await this.#fetchLock(lockUrl, signal, true);
      runnableLock(value);
      const current = await this.#locks.get(lockUrl, "current");
      if (current === null) return;
      await this.#follow(lockUrl, current, value);
      const next = asStoredLock(value);
      if (!next || isSame(current, value)) return;
      const missing = await this.#missing(lockUrl, next);
      // The next load uses what is here, and falls back if that can't be loaded.
      if (missing.length === 0) return;
      const neededBytes = missing.reduce((sum, { bytes }) => sum + bytes, 0);
      const bundleUrl = new URL(".", lockUrl).href;
      this.#notify({ kind: "storage", state: "update-available", bundleUrl, id: next.model.id, neededBytes });
    } catch {
      // The stored bundle is as good as it was.
    }
  }

  /**
   * Stores the next version of a bundle, which the next load uses. Does nothing if there is none.
   *
   * Throws EngineError: quota_exceeded, before it downloads anything where the browser says so;
   * network_error, integrity_error.
   */
  async update(lockUrl: string, signal: AbortSignal): Promise<void> {
    const next = asStoredLock(await this.#locks.get(lockUrl, "next"));
    if (!next) return;
    const release = await hold(IN_USE);
    try {
      const missing = await this.#missing(lockUrl, next);
      if (!(await this.hasRoom(await this.missingBytes(missing)))) throw noRoom(next.model.id);
      for (const { path, bytes, sha256 } of missing) {
        const url = new URL(path, lockUrl);
        url.searchParams.set("sha256", sha256);
        await this.content.open({ url, bytes, sha256 }, { signal, onlyStored: true }).catch((error: unknown) => {
          signal.throwIfAborted();
          throw error instanceof FullError ? noRoom(next.model.id) : fileError(url, error);
        });
        if (!(await this.#parts.manifest(sha256))?.complete) throw noRoom(next.model.id);
      }
    } finally {
      release();
    }
  }

  /** Bytes of these files that are still to be downloaded; all where nothing can be stored. */
  async missingBytes(files: readonly { sha256: string; bytes: number }[]): Promise<number> {
    const sizes: Sizes = (await this.#parts.isAvailable()) ? await this.#parts.sizes() : new Map();
    const distinct = new Map(files.map(({ sha256, bytes }) => [sha256, bytes]));
    let missing = 0;
    for (const [sha256, bytes] of distinct) missing += Math.max(0, bytes - (sizes.get(sha256)?.bytes ?? 0));
    return missing;
  }

  /** Whether the browser lets this page keep anything. */
  isAvailable(): Promise<boolean> {
    return this.#parts.isAvailable();
  }

  /** Whether so many bytes more could be stored, as far as the browser says. */
  async hasRoom(bytes: number): Promise<boolean> {
    return (await this.#parts.isAvailable()) && this.content.hasRoom(bytes);
  }

  async list(): Promise<StoredContents> {
    if (!(await this.#parts.isAvailable())) return { bundles: [], states: [], leftovers: { files: 0, bytes: 0 } };
    const sizes = await this.#parts.sizes();
    const named = await this.#locks.named();
    const leftovers = named ? [...sizes].filter(([hash]) => !named.has(hash)) : [];
    const bytes = leftovers.reduce((sum, [, size]) => sum + size.bytes, 0);
    const [bundles, states] = [await this.#locks.list(sizes), await this.states.list()];
    return { bundles, states, leftovers: { files: leftovers.length, bytes } };
  }

  /** Deletes a bundle's lock, its states, and all its files that no other lock names. */
  async delete(lockUrl: string): Promise<DeletedFiles> {
    const locks = [await this.#locks.get(lockUrl, "current"), await this.#locks.get(lockUrl, "next")];
    const files = new Set(locks.flatMap((lock) => asStoredLock(lock)?.files ?? []).map(({ sha256 }) => sha256));
    if (!(await this.#locks.delete(lockUrl))) throw notStored(lockUrl);
    const named = (await this.#locks.named()) ?? files;
    const doomed = [...files].filter((hash) => !named.has(hash));
    const freedBytes = (await this.#free(doomed)) + (await this.states.deleteOf(lockUrl));
    return { freedBytes, keptFiles: files.size - doomed.length };
  }

  /** Deletes a saved state. */
  async deleteState(lockUrl: string, name: string): Promise<DeletedFiles> {
    const freedBytes = await this.states.delete({ lockUrl, name });
    if (freedBytes === 0) throw notStored(name);
    return { freedBytes, keptFiles: 0 };
  }

  /** Deletes what no lock names, unless models are in use. */
  async deleteLeftovers(): Promise<DeletedLeftovers> {
    let freedBytes = 0;
    const free = await ifFree(IN_USE, async () => {
      freedBytes = await this.#deleteUnnamed();
    });
    return { freedBytes, modelsInUse: !free };
  }

  /** Takes note of what the server has now. */
  #follow(lockUrl: string, current: unknown, served: unknown): Promise<void> {
    if (isSame(current, served)) return this.#locks.dropNext(lockUrl);
    return this.#locks.keep(lockUrl, "next", served);
  }

  /** The next version's lock, if it is stored whole. */
  async #wholeNext(lockUrl: string): Promise<StoredVersion | null> {
    const next = runnable(await this.#locks.get(lockUrl, "next"));
    if (!next) return null;
    const missing = await this.#missing(lockUrl, next.raw);
    return missing.length === 0 ? next : null;
  }

  /** Files that a new version needs, to be of the same use as the stored one, and that aren't stored whole. */
  async #missing(lockUrl: string, next: StoredLock): Promise<StoredLock["files"]> {
    const sizes = await this.#parts.sizes();
    const current = asStoredLock(await this.#locks.get(lockUrl, "current"));
    const usable = current ? offlineTargets(current, sizes) : [];
    const same = usable.filter((name) => name in next.targets);
    const targets = same.length > 0 ? same : Object.keys(next.targets);
    const needed = targets.map((name) => next.targets[name]?.library);
    const spared = new Set(
      Object.values(next.targets).map(({ library }) => library).filter((path) => !needed.includes(path)),
    );
    return next.files.filter(({ path, sha256 }) => !spared.has(path) && !sizes.get(sha256)?.complete);
  }

  async #isWhole(lock: StoredLock): Promise<boolean> {
    const sizes: Sizes = await this.#parts.sizes();
    return offlineTargets(lock, sizes).length > 0;
  }

  async #deleteUnnamed(): Promise<number> {
    if (!(await this.#parts.isAvailable())) return 0;
    const named = await this.#locks.named();
    if (!named) return 0;
    return this.#free([...(await this.#parts.sizes()).keys()].filter((hash) => !named.has(hash)));
  }

  async #free(hashes: string[]): Promise<number> {
    const sizes = await this.#parts.sizes();
    await this.#parts.delete(...hashes);
    return hashes.reduce((sum, hash) => sum + (sizes.get(hash)?.bytes ?? 0), 0);
  }

  async #fetchLock(lockUrl: string, signal: AbortSignal, impatient: boolean): Promise<unknown> {
    let value: unknown;
    try {
      value = await this.#documents.fetch(lockUrl, signal, impatient);
    } catch (error) {
      signal.throwIfAborted();
      throw networkError(new URL(lockUrl), error instanceof StatusError ? error.message : "no answer", error);
    }
    if (value === null) throw networkError(new URL(lockUrl), "what came in its place is no lock");
    return value;
  }
}

interface StoredVersion {
  lock: Lock;
  raw: StoredLock;
}

function runnable(value: unknown): StoredVersion | null {
  const raw = asStoredLock(value);
  try {
    return raw && { lock: runnableLock(value), raw };
  } catch {
    return null;
  }
}

function isSame(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
