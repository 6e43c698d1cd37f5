/** Files addressed by their SHA-256: from storage, else downloaded, verified and kept. */
import { type Bytes, IntegrityError, StreamDigest, digest } from "./hash.ts";
import type { Manifest, PartStore } from "./part-store.ts";
import { PartWriter } from "./part-writer.ts";
import type { Limits } from "./policy.ts";
import type { ServiceWorkerEvent } from "./protocol.ts";
import { RefusedError, Transfer } from "./transfer.ts";

/** A response, and when its body has been read, cancelled or has failed. */
interface Delivery {
  response: Response;
  finished: Promise<void>;
}

interface Address {
  request: Request;
  sha256: string;
}

export class ContentFiles {
  readonly #store: PartStore;
  readonly #limits: Limits;
  readonly #notify: (event: ServiceWorkerEvent) => void;

  constructor(store: PartStore, limits: Limits, notify: (event: ServiceWorkerEvent) => void) {
    this.#store = store;
    this.#limits = limits;
    this.#notify = notify;
  }

  /**
   * Answers a request for the file with this hash. Bytes that don't match never end a response
   * regularly: it fails, or its body does. A request with cache mode "reload" discards what is
   * stored. `finished` settles when nothing is left to do.
   */
  respond(
    request: Request,
    sha256: string,
  ): { response: Promise<Response>; finished: Promise<void> } {
    const address = { request, sha256 };
    const { promise: response, resolve, reject } = deferred<Response>();
    // Two tabs that load one model: the second waits, then finds the file in storage.
    const finished = navigator.locks.request(`mlc-edge-content ${sha256}`, async () => {
      if (request.cache === "reload") await this.#store.delete(sha256);
      const delivery = (await this.#fromStorage(address)) ?? (await this.#fromNetwork(address));
      resolve(delivery.response);
      await delivery.finished;
    });
    finished.catch(reject);
    return { response, finished };
  }

  async #fromStorage(address: Address): Promise<Delivery | null> {
    const { request, sha256 } = address;
    const manifest = await this.#store.manifest(sha256);
    if (!manifest?.complete || manifest.bytes === null) return null;
    const bytes = this.#storedBytes(address, manifest);
    if (manifest.bytes > this.#limits.heldStoredBytes) return stream(bytes, manifest);
    const buffer = await this.#store.whole(sha256, manifest);
    if ((await digest(buffer)) === sha256) return whole(buffer, manifest);
    await this.#discard(address, "cache");
    console.warn(`The stored copy of ${request.url} was damaged; it is downloaded again.`);
    return null;
  }

  async *#storedBytes(address: Address, manifest: Manifest): AsyncGenerator<Bytes, void> {
    const hash = new StreamDigest();
    for await (const part of this.#store.parts(address.sha256, partCount(manifest))) {
      hash.update(part);
      yield part;
    }
    await this.#verify(address, hash, "cache");
  }

  async #fromNetwork(address: Address): Promise<Delivery> {
    try {
      return await this.#download(address);
    } catch (error) {
      if (error instanceof RefusedError) return refused(error);
      if (!(error instanceof IntegrityError)) throw error;
      return await this.#downloadAgain(address);
    }
  }

  async #downloadAgain(address: Address): Promise<Delivery> {
    try {
      return await this.#download(address);
    } catch (error) {
      if (error instanceof IntegrityError) return damaged(error);
      throw error;
    }
  }

  async #download(address: Address): Promise<Delivery> {
    const { request, sha256 } = address;
    const partial = await this.#store.manifest(sha256);
    const parts = partial ? await this.#store.countParts(sha256) : 0;
    const offset = parts * (partial?.partBytes ?? 0);
    const start = { offset, etag: partial?.etag ?? null };
    const transfer = await Transfer.open(request, start, this.#limits);
    const resumed = transfer.offset > 0;
    if (partial && !resumed) await this.#store.delete(sha256);
    const manifest = resumed && partial ? partial : this.#manifestOf(transfer);
    const bytes = this.#downloadedBytes(address, transfer, manifest, resumed ? parts : 0);
    const held = transfer.encoded || (transfer.bytes ?? Infinity) <= this.#limits.heldDownloadBytes;
    if (held) return whole(await collect(bytes), manifest);
    return stream(bytes, { ...manifest, bytes: transfer.bytes }, () => transfer.abort());
  }

  async *#downloadedBytes(
    address: Address,
    transfer: Transfer,
    manifest: Manifest,
    parts: number,
  ): AsyncGenerator<Bytes, void> {
    const hash = new StreamDigest();
    let position = 0;
    for await (const part of this.#store.parts(address.sha256, parts)) {
      hash.update(part);
      position += part.length;
      yield part;
    }
    const writer = await this.#writer(address, transfer, manifest, parts);
    for await (const chunk of transfer.body()) {
      hash.update(chunk);
      position += chunk.length;
      await writer?.write(chunk);
      yield chunk;
    }
    await writer?.settle();
    await this.#verify(address, hash, "network");
    await writer?.complete(position);
  }

  /** Null when there is no room for the rest of the file, which then only passes through. */
  async #writer(
    { request, sha256 }: Address,
    transfer: Transfer,
    manifest: Manifest,
    parts: number,
  ): Promise<PartWriter | null> {
    const neededBytes = transfer.bytes === null ? null : transfer.bytes - transfer.offset;
    const onFull = () =>
      this.#notify({ kind: "storage", state: "memory-only", url: request.url, neededBytes });
    if (!(await this.#hasRoom(neededBytes ?? 0))) {
      onFull();
      return null;
    }
    const writer = new PartWriter(this.#store, sha256, manifest, parts, onFull);
    await writer.begin();
    return writer;
  }

  async #hasRoom(bytes: number): Promise<boolean> {
    const { usage = 0, quota = Infinity } = await navigator.storage.estimate();
    return usage + bytes + this.#limits.reservedBytes <= quota;
  }

  async #verify(address: Address, hash: StreamDigest, source: "network" | "cache"): Promise<void> {
    const actual = hash.finish();
    if (actual === address.sha256) return;
    await this.#discard(address, source);
    throw new IntegrityError(address.request.url, address.sha256, actual);
  }

  async #discard({ request, sha256 }: Address, source: "network" | "cache"): Promise<void> {
    await this.#store.delete(sha256);
    this.#notify({ kind: "integrity", url: request.url, source });
  }

  #manifestOf(transfer: Transfer): Manifest {
    return {
      bytes: transfer.bytes,
      partBytes: this.#limits.partBytes(transfer.bytes),
      etag: transfer.etag,
      contentType: transfer.contentType,
      complete: false,
    };
  }
}

function partCount(manifest: Manifest): number {
  return Math.ceil((manifest.bytes ?? 0) / manifest.partBytes);
}

function verifiedHeaders(contentType: string, bytes: number | null): Headers {
  const headers = new Headers({
    "content-type": contentType,
    "x-mlc-edge-verified": "sha256",
    // An isolated page refuses a worker's script, or a file of another site, without these.
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "cross-origin",
  });
  if (bytes !== null) headers.set("content-length", String(bytes));
  return headers;
}

function whole(bytes: Bytes, { contentType }: Manifest): Delivery {
  const response = new Response(bytes, { headers: verifiedHeaders(contentType, bytes.length) });
  return { response, finished: Promise.resolve() };
}

/**
 * Delivers bytes while they arrive; they are verified when, and only if, the body ends well.
 * `abort` makes `bytes` stop waiting.
 */
function stream(
  bytes: AsyncGenerator<Bytes, void>,
  manifest: Manifest,
  abort: () => void = () => {},
): Delivery {
  const { promise: finished, resolve } = deferred<void>();
  const body = new ReadableStream<Bytes>({
    async pull(controller) {
      try {
        const { done, value } = await bytes.next();
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (error) {
        controller.error(error);
      }
      resolve();
    },
    async cancel() {
      abort();
      await bytes.return();
      resolve();
    },
  });
  const headers = verifiedHeaders(manifest.contentType, manifest.bytes);
  return { response: new Response(body, { headers }), finished };
}

function refused(error: RefusedError): Delivery {
  return { response: error.response, finished: Promise.resolve() };
}

/** The server has other bytes than the lock says; a status that nobody takes for the file. */
function damaged(error: IntegrityError): Delivery {
  const body = { error: { code: "integrity_error", message: error.message } };
  const headers = { "x-mlc-edge-error": "integrity_error" };
  return { response: Response.json(body, { status: 502, headers }), finished: Promise.resolve() };
}

async function collect(pieces: AsyncIterable<Bytes>): Promise<Bytes> {
  const kept: Bytes[] = [];
  let length = 0;
  for await (const piece of pieces) {
    kept.push(piece);
    length += piece.length;
  }
  const bytes = new Uint8Array(length);
  let position = 0;
  for (const piece of kept) {
    bytes.set(piece, position);
    position += piece.length;
  }
  return bytes;
}

function deferred<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
} {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
