/** A bundle as the engine reads it: its lock, and its files, from the store or the server. */
import { EngineError } from "../shared/errors.ts";
import type { Bytes } from "../shared/hash.ts";
import type { Lock, LockedFile } from "../shared/lock.ts";
import type { StorageEvent, UnkeptReason } from "../shared/protocol.ts";
import type { FileAddress } from "../store/content.ts";
import { fileError } from "../store/errors.ts";
import type { OpenedLock, Store } from "../store/store.ts";
import type { StoredFile } from "../store/stored-file.ts";
import { RefusedError } from "../store/transfer.ts";
import { isObject, understood, unusable } from "./bundle-errors.ts";
import { show } from "./fields.ts";
import type { Progress } from "./progress.ts";

const ATTEMPTS = 4;
const retryDelayMs = (attempt: number): number => 250 * 2 ** attempt;

export interface BundleOptions {
  signal: AbortSignal;
  /** Whether its lock and files are stored; only looked at, if not. */
  keep: boolean;
}

export class Bundle {
  readonly #opened: OpenedLock;
  readonly #url: URL;
  readonly #store: Store;
  readonly #keep: boolean;

  /** Reads the lock. Throws EngineError: network_error, bundle_invalid, abi_mismatch. */
  static async open(url: string, store: Store, options: BundleOptions): Promise<Bundle> {
    const lockUrl = lockUrlOf(url);
    const opened = await store.openLock(lockUrl, options);
    return new Bundle(opened, new URL(lockUrl), store, options.keep);
  }

  private constructor(opened: OpenedLock, url: URL, store: Store, keep: boolean) {
    this.#opened = opened;
    this.#url = url;
    this.#store = store;
    this.#keep = keep;
  }

  get lock(): Lock {
    return this.#opened.lock;
  }

  /** The same for bundles of the same files. */
  get identity(): string {
    return JSON.stringify(this.#opened.raw);
  }

  /** Whether the lock is a stored one that the server wasn't asked about. */
  get fromStorage(): boolean {
    return this.#opened.fromStorage;
  }

  /** Another version to load where this one, from storage, can't be; null if there is none. */
  async other(signal: AbortSignal): Promise<Bundle | null> {
    const options = { signal, keep: this.#keep };
    const opened = await this.#store.openOther(this.#url.href, this.#opened, options);
    return opened && new Bundle(opened, this.#url, this.#store, this.#keep);
  }

  /** To be called once it has loaded: the version before it is needed no more. */
  confirm(): Promise<void> {
    return this.#store.confirm(this.#url.href, this.#opened);
  }

  /** The lock's entry. Throws EngineError "bundle_invalid" if there is none. */
  entry(path: string): LockedFile {
    const file = this.lock.files.get(path);
    if (file) return file;
    throw new EngineError({
      code: "bundle_invalid",
      message: `The bundle ${this.lock.model.id} has no ${path}.`,
      remedy: "Build it again with `mlc-edge build`.",
    });
  }

  /** All bytes of a file, verified. Errors of the network are tried again. */
  read(path: string, progress: Progress, signal: AbortSignal): Promise<Bytes> {
    const file = this.#address(path);
    return persistently(file, signal, () => this.#store.content.read(file, this.#options(progress, signal)));
  }

  /** A file to read in ranges, once it is here whole and verified; it was, if it is stored. */
  open(path: string, progress: Progress, signal: AbortSignal): Promise<StoredFile> {
    const file = this.#address(path);
    return persistently(file, signal, () => this.#store.content.open(file, this.#options(progress, signal)));
  }

  /** A JSON object, whose fields are for the caller to check. Throws EngineError "bundle_invalid" for others. */
  async readJson<T extends object>(path: string, progress: Progress, signal: AbortSignal): Promise<T> {
    const bytes = await this.read(path, progress, signal);
    const value: unknown = understood(path, () => JSON.parse(new TextDecoder().decode(bytes)));
    if (!isObject(value)) throw unusable(`${path} holds ${show(value)}, expected a JSON object`);
    return value as T;
  }

  /** Whether the browser lets the page keep files. */
  isKeepable(): Promise<boolean> {
    return this.#store.isAvailable();
  }

  /** Bytes of these files that aren't stored. */
  missingBytes(files: readonly LockedFile[]): Promise<number> {
    return this.#store.missingBytes(files);
  }

  /** What is told to a page that loads it while these files are in use already; null if all are stored. */
  async unkept(files: readonly LockedFile[]): Promise<StorageEvent | null> {
    const neededBytes = await this.#store.missingBytes(files);
    if (neededBytes === 0) return null;
    const reason = await this.#reason(neededBytes);
    return { kind: "storage", state: "memory-only", url: this.#url.href, neededBytes, reason };
  }

  /** Deletes stored files that aren't what they were; whether there were any. */
  async dropDamaged(): Promise<boolean> {
    let damaged = false;
    for (const path of this.lock.files.keys()) {
      if (await this.#store.content.dropDamaged(this.#address(path))) damaged = true;
    }
    return damaged;
  }

  async #reason(neededBytes: number): Promise<UnkeptReason> {
    if (!(await this.#store.isAvailable())) return "denied";
    return (await this.#store.hasRoom(neededBytes)) ? "deleted" : "no-room";
  }

  #address(path: string): FileAddress {
    const { bytes, sha256 } = this.entry(path);
    const url = new URL(path, this.#url);
    url.searchParams.set("sha256", sha256);
    return { url, bytes, sha256 };
  }

  #options(progress: Progress, signal: AbortSignal) {
    return { signal, keep: this.#keep, onBytes: (bytes: number) => progress.loaded(bytes) };
  }
}

export function lockUrlOf(bundleUrl: string): string {
  return new URL("mlc-lock.json", bundleUrl.endsWith("/") ? bundleUrl : `${bundleUrl}/`).href;
}

/** Tries again where the network is to blame. Throws EngineError: network_error, integrity_error. */
async function persistently<T>(
  { url }: FileAddress,
  signal: AbortSignal,
  read: () => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await read();
    } catch (error) {
      signal.throwIfAborted();
      const busy = error instanceof RefusedError && error.status >= 500;
      if (attempt === ATTEMPTS || !(busy || error instanceof TypeError)) throw fileError(url, error);
      await delay(retryDelayMs(attempt), signal);
    }
  }
}

function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
