/** The locks of stored bundles: what each names, and how much of that is stored. */
import type { StoredBundle } from "../shared/protocol.ts";
import type { Documents } from "./documents.ts";
import type { StoredSize } from "./part-store.ts";

const LOCK_NAME = "/mlc-lock.json";
/** Marks a lock whose bundle takes another's place once it is whole. Never sent to a server. */
const NEXT = "?next";

/** What storage needs of mlc-lock.json, of whatever version. */
export interface StoredLock {
  model: { id: string; model_type: string; quantization: string; context_window_size?: number };
  files: { path: string; bytes: number; sha256: string }[];
  targets: Record<string, { library: string }>;
}

export type Sizes = ReadonlyMap<string, StoredSize>;

export class StoredLocks {
  readonly #documents: Documents;

  constructor(documents: Documents) {
    this.#documents = documents;
  }

  /** The lock in use, or the one that comes after it, as it was fetched; null without one. */
  get(lockUrl: string, which: "current" | "next"): Promise<unknown> {
    return this.#documents.stored(which === "next" ? lockUrl + NEXT : lockUrl);
  }

  keep(lockUrl: string, which: "current" | "next", lock: unknown): Promise<void> {
    return this.#documents.keep(which === "next" ? lockUrl + NEXT : lockUrl, lock);
  }

  dropNext(lockUrl: string): Promise<void> {
    return this.#documents.delete(lockUrl + NEXT);
  }

  /** Forgets both; whether there was one. */
  async delete(lockUrl: string): Promise<boolean> {
    const known = (await this.#urls()).some((url) => url === lockUrl || url === lockUrl + NEXT);
    await this.dropNext(lockUrl);
    await this.#documents.delete(lockUrl);
    return known;
  }

  async list(sizes: Sizes): Promise<StoredBundle[]> {
    const urls = (await this.#urls()).filter((url) => url.endsWith(LOCK_NAME));
    const bundles = await Promise.all(
      urls.map(async (lockUrl) => {
        const lock = asStoredLock(await this.get(lockUrl, "current"));
        const next = asStoredLock(await this.get(lockUrl, "next"));
        return lock ? [describe(lockUrl, lock, next, sizes)] : [];
      }),
    );
    return bundles.flat();
  }

  /** Hashes that any lock names; null if locks, or one, can't be read, such as a later version's. */
  async named(): Promise<Set<string> | null> {
    const named = new Set<string>();
    const urls = await this.#documents.urls();
    if (!urls) return null;
    for (const url of urls) {
      if (!url.endsWith(LOCK_NAME) && !url.endsWith(LOCK_NAME + NEXT)) continue;
      const lock = asStoredLock(await this.#documents.stored(url));
      if (!lock) return null;
      for (const { sha256 } of lock.files) named.add(sha256);
    }
    return named;
  }

  async #urls(): Promise<string[]> {
    return (await this.#documents.urls()) ?? [];
  }
}

/** Names of targets that load without a network: their library and all shared files are stored. */
export function offlineTargets(lock: StoredLock, sizes: Sizes): string[] {
  const libraries = new Set(Object.values(lock.targets).map(({ library }) => library));
  const missing = new Set(
    lock.files.filter(({ sha256 }) => !sizes.get(sha256)?.complete).map(({ path }) => path),
  );
  const sharedMissing = [...missing].some((path) => !libraries.has(path));
  return Object.entries(lock.targets)
    .filter(([, { library }]) => !sharedMissing && !missing.has(library))
    .map(([target]) => target);
}

export function asStoredLock(value: unknown): StoredLock | null {
  const lock = value as Partial<StoredLock> | null | undefined;
  const genuine =
    Array.isArray(lock?.files) &&
    lock.files.every((file) => typeof file?.sha256 === "string" && typeof file.path === "string") &&
    typeof lock.model?.id === "string" &&
    typeof lock.targets === "object" &&
    lock.targets !== null;
  return genuine ? (lock as StoredLock) : null;
}

function describe(
  lockUrl: string,
  lock: StoredLock,
  next: StoredLock | null,
  sizes: Sizes,
): StoredBundle {
  return {
    lockUrl,
    id: lock.model.id,
    modelType: lock.model.model_type,
    quantization: lock.model.quantization,
    contextWindowSize: lock.model.context_window_size ?? 0,
    ...amounts(lock, sizes),
    offlineTargets: offlineTargets(lock, sizes),
    update: next && amounts(next, sizes),
  };
}

function amounts({ files }: StoredLock, sizes: Sizes): { totalBytes: number; storedBytes: number } {
  const total = files.reduce((sum, { bytes }) => sum + bytes, 0);
  const stored = files.reduce((sum, { sha256 }) => sum + (sizes.get(sha256)?.bytes ?? 0), 0);
  return { totalBytes: total, storedBytes: stored };
}
