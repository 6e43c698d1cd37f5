/** Where a file's bytes go as they arrive: to the store in parts, or to memory where it has no room. */
import type { Bytes } from "../shared/hash.ts";
import type { UnkeptReason } from "../shared/protocol.ts";
import type { Manifest, PartStore } from "./part-store.ts";

/** The parts of a whole file. */
export interface Parts {
  readonly partBytes: number;
  get(index: number): Promise<Bytes | null>;
}

export class StoredParts implements Parts {
  readonly partBytes: number;
  readonly #store: PartStore;
  readonly #sha256: string;

  constructor(store: PartStore, sha256: string, { partBytes }: Pick<Manifest, "partBytes">) {
    this.#store = store;
    this.#sha256 = sha256;
    this.partBytes = partBytes;
  }

  get(index: number): Promise<Bytes | null> {
    return this.#store.part(this.#sha256, index);
  }
}

/** Blobs, which browsers may keep outside of a worker's memory. */
class HeldParts implements Parts {
  readonly #blobs: Blob[] = [];

  constructor(readonly partBytes: number) {}

  put(bytes: Bytes): void {
    this.#blobs.push(new Blob([bytes]));
  }

  async get(index: number): Promise<Bytes | null> {
    const blob = this.#blobs[index];
    return blob ? new Uint8Array(await blob.arrayBuffer()) : null;
  }
}

/** What was stored of an unfinished file is gone: another tab deleted it. */
export class LostError extends Error {
  override readonly name = "LostError";
}

/** The browser has no room for a file that is of use only if it is stored. */
export class FullError extends Error {
  override readonly name = "FullError";
}

export interface DownloadTarget {
  store: PartStore;
  /** Whether the bytes are to be stored; if not, they are held in memory from the start. */
  keep: boolean;
  sha256: string;
  manifest: Manifest;
  /** Whole parts that are stored already. */
  parts: number;
  /** Called when storing has failed, before the file goes on in memory; ends it by throwing. */
  onUnkept: (reason: UnkeptReason) => void;
}

/** Holds at most two parts in memory while it stores them. */
export class Download {
  readonly #target: DownloadTarget;
  #held: HeldParts | null = null;
  #part: Bytes;
  #filled = 0;
  #index: number;
  #writing: Promise<void> = Promise.resolve();

  constructor(target: DownloadTarget) {
    this.#target = target;
    this.#index = target.parts;
    this.#part = new Uint8Array(target.manifest.partBytes);
  }

  /** Makes the download resumable from its first whole part on. */
  async begin(): Promise<void> {
    const { store, keep, sha256, manifest } = this.#target;
    if (!keep) this.#held = await this.#copy(this.#index);
    else if (this.#index === 0) await this.#try(() => store.putManifest(sha256, manifest));
  }

  /** Throws LostError if the parts before were deleted and storing goes on no more. */
  async write(bytes: Bytes): Promise<void> {
    let rest = bytes;
    while (rest.length > 0) {
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
  async complete(bytes: number): Promise<Parts> {
    if (this.#filled > 0) await this.#putPart();
    await this.#writing;
    const { store, sha256, manifest } = this.#target;
    await this.#try(() => store.putManifest(sha256, { ...manifest, bytes, complete: true }));
    return this.#held ?? new StoredParts(store, sha256, manifest);
  }

  async #putPart(): Promise<void> {
    const index = this.#index;
    const bytes = this.#part.subarray(0, this.#filled);
    this.#part = new Uint8Array(this.#part.length);
    this.#index += 1;
    this.#filled = 0;
    // One write at a time goes on while the next part arrives and is hashed.
    await this.#writing;
    this.#writing = this.#keep(index, bytes);
    this.#writing.catch(() => {});
  }

  async #keep(index: number, bytes: Bytes): Promise<void> {
    const { store, sha256 } = this.#target;
    await this.#try(async () => {
      if ((await store.manifest(sha256)) === null) throw new LostError("deleted on the way");
      await store.putPart(sha256, index, bytes);
    }, index);
    this.#held?.put(bytes);
  }

  /** When `put` fails (storage is full, broken or deleted), `parts` of them move to memory. */
  async #try(put: () => Promise<void>, parts = this.#index): Promise<void> {
    if (this.#held) return;
    try {
      await put();
    } catch (error) {
      const { store, sha256, onUnkept } = this.#target;
      // What somebody deleted meanwhile isn't stored, though there is room.
      onUnkept(error instanceof LostError ? "deleted" : "no-room");
      this.#held = await this.#copy(parts);
      await store.delete(sha256).catch(() => {});
    }
  }

  /** Stored parts in memory. */
  async #copy(parts: number): Promise<HeldParts> {
    const { store, sha256, manifest } = this.#target;
    const held = new HeldParts(manifest.partBytes);
    for (let index = 0; index < parts; index += 1) {
      const bytes = await store.part(sha256, index);
      if (!bytes) throw new LostError(`part ${index} of a download is no longer stored`);
      held.put(bytes);
    }
    return held;
  }
}
