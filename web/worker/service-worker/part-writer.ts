/** Keeps a file's bytes as they pass by; gives up quietly when the browser has no room. */
import type { Bytes } from "./hash.ts";
import type { Manifest, PartStore } from "./part-store.ts";

export class PartWriter {
  readonly #store: PartStore;
  readonly #sha256: string;
  readonly #manifest: Manifest;
  readonly #onFull: () => void;
  readonly #part: Bytes;
  #filled = 0;
  #index: number;
  #stopped = false;
  #writing: Promise<void> = Promise.resolve();

  /** `index` is the first part to write. `onFull` is called once, when nothing is kept any more. */
  constructor(
    store: PartStore,
    sha256: string,
    manifest: Manifest,
    index: number,
    onFull: () => void,
  ) {
    this.#store = store;
    this.#sha256 = sha256;
    this.#manifest = manifest;
    this.#index = index;
    this.#onFull = onFull;
    this.#part = new Uint8Array(manifest.partBytes);
  }

  /** Makes the download resumable from its first whole part on. */
  async begin(): Promise<void> {
    if (this.#index > 0) return;
    await this.#try(() => this.#store.putManifest(this.#sha256, this.#manifest));
  }

  async write(bytes: Bytes): Promise<void> {
    let rest = bytes;
    while (rest.length > 0 && !this.#stopped) {
      const taken = rest.subarray(0, this.#part.length - this.#filled);
      this.#part.set(taken, this.#filled);
      this.#filled += taken.length;
      rest = rest.subarray(taken.length);
      if (this.#filled === this.#part.length) await this.#putPart();
    }
  }

  /** Waits for parts that are still being written. */
  async settle(): Promise<void> {
    await this.#writing;
  }

  /** Call it when the hash of all bytes is right: writes the last part and marks the file whole. */
  async complete(bytes: number): Promise<void> {
    if (this.#filled > 0) await this.#putPart();
    await this.#writing;
    const manifest = { ...this.#manifest, bytes, complete: true };
    await this.#try(() => this.#store.putManifest(this.#sha256, manifest));
  }

  async #putPart(): Promise<void> {
    const index = this.#index;
    const bytes = this.#part.slice(0, this.#filled);
    this.#index += 1;
    this.#filled = 0;
    // One write at a time goes on while the next part arrives and is hashed.
    await this.#writing;
    this.#writing = this.#try(async () => {
      if (await this.#isDeleted()) throw new Error("The file was deleted while it was stored.");
      await this.#store.putPart(this.#sha256, index, bytes);
    });
  }

  async #isDeleted(): Promise<boolean> {
    return (await this.#store.manifest(this.#sha256)) === null;
  }

  async #try(put: () => Promise<void>): Promise<void> {
    if (this.#stopped) return;
    try {
      await put();
    } catch {
      // Full, broken, or deleted by another tab: in any case the file still reaches its reader.
      this.#stopped = true;
      this.#onFull();
      await this.#store.delete(this.#sha256).catch(() => {});
    }
  }
}
