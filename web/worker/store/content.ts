/** Files addressed by their SHA-256: from storage, else downloaded, verified and kept. */
import { type Bytes, digest, IntegrityError, StreamDigest } from "../shared/hash.ts";
import type { StorageEvent, UnkeptReason } from "../shared/protocol.ts";
import { Download, type DownloadTarget, FullError, LostError, type Parts, StoredParts } from "./download.ts";
import type { Limits } from "./limits.ts";
import { exclusively } from "./locks.ts";
import type { Manifest, PartStore } from "./part-store.ts";
import { StoredFile } from "./stored-file.ts";
import { Transfer } from "./transfer.ts";

export interface FileAddress {
  /** Where to download it. */
  readonly url: URL;
  readonly bytes: number;
  /** 64 hex digits. */
  readonly sha256: string;
}

export interface OpenOptions {
  signal: AbortSignal;
  /** So many bytes more are here; negative if they must come again. */
  onBytes?: (bytes: number) => void;
  /** Whether what is downloaded is stored. */
  keep?: boolean;
  /** Throws FullError where there is no room, in place of holding the file in memory. */
  onlyStored?: boolean;
}

interface Job extends FileAddress, Required<OpenOptions> {}

export class ContentFiles {
  readonly #store: PartStore;
  readonly #limits: Limits;
  readonly #notify: (event: StorageEvent) => void;

  constructor(store: PartStore, limits: Limits, notify: (event: StorageEvent) => void) {
    this.#store = store;
    this.#limits = limits;
    this.#notify = notify;
  }

  /**
   * The file with this hash, once it is here whole: its bytes were verified when they were stored.
   *
   * Throws IntegrityError when the server has other bytes twice, or what is stored another size;
   * RefusedError and TypeError when server or network don't give them; the signal's reason.
   */
  async open(file: FileAddress, options: OpenOptions): Promise<StoredFile> {
    const { signal, onBytes = () => {}, keep = true, onlyStored = false } = options;
    const job = { ...file, signal, onBytes, keep, onlyStored };
    const parts = await this.#parts(job);
    return new StoredFile(parts, file.bytes, async (keepAgain) => {
      onBytes(-file.bytes);
      await this.#store.delete(file.sha256);
      return this.#parts({ ...job, keep: keep && keepAgain });
    });
  }

  /** All bytes of a file, verified again where they were stored: for what is run or parsed. */
  async read(file: FileAddress, options: OpenOptions): Promise<Bytes> {
    const opened = await this.open(file, options);
    const bytes = await opened.read(0, file.bytes);
    if ((await digest(bytes)) === file.sha256) return bytes;
    this.#notify({ kind: "storage", state: "damaged", url: file.url.href, source: "cache" });
    return opened.readAnew();
  }

  /** Deletes the stored file if it isn't what it was; whether it had to. */
  async dropDamaged({ sha256, bytes, url }: FileAddress): Promise<boolean> {
    const manifest = await this.#complete(sha256);
    if (manifest?.bytes !== bytes) return false;
    const hash = new StreamDigest();
    const parts = new StoredParts(this.#store, sha256, manifest);
    for (let index = 0; index * manifest.partBytes < bytes; index += 1) {
      hash.update((await parts.get(index)) ?? new Uint8Array());
    }
    if (hash.finish() === sha256) return false;
    this.#notify({ kind: "storage", state: "damaged", url: url.href, source: "cache" });
    await this.#store.delete(sha256);
    return true;
  }

  /** Whether the browser has room for so many bytes more, as far as it says. */
  async hasRoom(bytes: number): Promise<boolean> {
    const { usage = 0, quota = Infinity } = (await navigator.storage?.estimate?.()) ?? {};
    return usage + bytes + this.#limits.reservedBytes <= quota;
  }

  async #parts(job: Job): Promise<Parts> {
    if (!(await this.#store.isAvailable())) {
      if (job.keep) this.#tellUnkept(job, 0, "denied");
      return this.#downloadTwice({ ...job, keep: false });
    }
    const stored = await this.#stored(job);
    if (stored) return stored;
    if (!job.keep) return this.#downloadTwice(job);
    // Two tabs that load one model: the second waits, then finds the file in storage.
    return exclusively(`mlc-edge-content ${job.sha256}`, job.signal, async () => {
      const found = await this.#stored(job);
      if (found) return found;
      try {
        return await this.#downloadTwice(job);
      } catch (error) {
        if (!(error instanceof LostError)) throw error;
        return this.#downloadTwice({ ...job, keep: false });
      }
    });
  }

  async #stored({ sha256, bytes, url, onBytes }: Job): Promise<Parts | null> {
    const manifest = await this.#complete(sha256);
    if (!manifest) return null;
    // A lock that is wrong on this must not cost another bundle its file.
    if (manifest.bytes !== bytes) throw new IntegrityError(url.href, sha256, "of another size");
    onBytes(bytes);
    return new StoredParts(this.#store, sha256, manifest);
  }

  async #complete(sha256: string): Promise<Manifest | null> {
    const manifest = await this.#store.manifest(sha256);
    return manifest?.complete ? manifest : null;
  }

  async #downloadTwice(job: Job): Promise<Parts> {
    try {
      return await this.#download(job);
    } catch (error) {
      if (!(error instanceof IntegrityError)) throw error;
      return this.#download(job);
    }
  }

  async #download(job: Job): Promise<Parts> {
    const { sha256, bytes, signal } = job;
    const partial = job.keep ? await this.#store.manifest(sha256) : null;
    const parts = partial ? await this.#store.countParts(sha256) : 0;
    const offset = parts * (partial?.partBytes ?? 0);
    const start = { offset, etag: partial?.etag ?? null };
    const transfer = await Transfer.open(job, start, this.#limits);
    const resumed = transfer.offset > 0;
    let arrived = 0;
    const onBytes = (length: number) => {
      arrived += length;
      job.onBytes(length);
    };
    try {
      if (partial && !resumed) await this.#store.delete(sha256);
      return await this.#receive({ ...job, onBytes }, transfer, {
        store: this.#store,
        keep: job.keep && (await this.#hasRoom(job, transfer.offset)),
        sha256,
        manifest: resumed && partial ? partial : this.#manifest(bytes, transfer.etag),
        parts: resumed ? parts : 0,
        onUnkept: (reason) => this.#tellUnkept(job, transfer.offset, reason),
      });
    } catch (error) {
      job.onBytes(-arrived);
      signal.throwIfAborted();
      throw error;
    } finally {
      transfer.abort();
    }
  }

  async #receive(job: Job, transfer: Transfer, target: DownloadTarget): Promise<Parts> {
    const download = new Download(target);
    const hash = new StreamDigest();
    let position = 0;
    const take = (bytes: Bytes) => {
      position += bytes.length;
      // Whatever comes after these is no part of the file.
      if (position > job.bytes) throw new IntegrityError(job.url.href, job.sha256, "of a longer file");
      hash.update(bytes);
      job.onBytes(bytes.length);
    };
    try {
      await download.begin();
      for (let index = 0; index < target.parts; index += 1) {
        take((await this.#store.part(job.sha256, index)) ?? new Uint8Array());
      }
      for await (const chunk of transfer.body()) {
        take(chunk);
        await download.write(chunk);
      }
      await download.settle();
      const actual = hash.finish();
      if (actual !== job.sha256) throw new IntegrityError(job.url.href, job.sha256, actual);
      return await download.complete(position);
    } catch (error) {
      await download.settle().catch(() => {});
      if (error instanceof IntegrityError) {
        this.#notify({ kind: "storage", state: "damaged", url: job.url.href, source: "network" });
        if (job.keep) await this.#store.delete(job.sha256);
      }
      throw error;
    }
  }

  async #hasRoom(job: Job, offset: number): Promise<boolean> {
    if (await this.hasRoom(job.bytes - offset)) return true;
    this.#tellUnkept(job, offset, "no-room");
    return false;
  }

  #tellUnkept({ url, bytes, onlyStored }: Job, offset: number, reason: UnkeptReason): void {
    if (onlyStored) throw new FullError(`no room for ${url.href}`);
    const neededBytes = bytes - offset;
    this.#notify({ kind: "storage", state: "memory-only", url: url.href, neededBytes, reason });
  }

  #manifest(bytes: number, etag: string | null): Manifest {
    return { bytes, partBytes: this.#limits.partBytes(bytes), etag, complete: false };
  }
}
