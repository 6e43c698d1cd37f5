/** Reads of stored weights: by the engine's store, and through a service worker as before. */
import { digest } from "../web/worker/shared/hash.ts";
import { Store } from "../web/worker/store/store.ts";

const SLICE_BYTES = 4 << 20;
const HELD_BYTES = 64 << 20;
const PART_BYTES = 1 << 20;
const CACHE = "benchmark-old-way";

interface Wanted {
  url: string;
  bytes: number;
  sha256: string;
}

const store = new Store((event) => console.warn(event));
const signal = new AbortController().signal;
const open = ({ url, bytes, sha256 }: Wanted) =>
  store.content.open({ url: new URL(url), bytes, sha256 }, { signal });

const calls = {
  /** Downloads, verifies and stores. */
  async fill(files: Wanted[]) {
    for (const file of files) await open(file);
  },

  /** As the loader does: the next file is opened while one is read in slices. */
  async read(files: Wanted[]) {
    const [first] = files;
    let next = first && open(first);
    let total = 0;
    for (let i = 0; i < files.length; i++) {
      const file = await next;
      const after = files[i + 1];
      next = after && open(after);
      for (let at = 0; file && at < file.bytes; at += SLICE_BYTES) {
        total += (await file.read(at, Math.min(SLICE_BYTES, file.bytes - at))).length;
      }
    }
    return total;
  },

  /** Stores what the service worker below answers with. */
  async fillOld(files: Wanted[]) {
    const cache = await caches.open(CACHE);
    for (const { url, bytes } of files) {
      const content = await (await fetch(url)).arrayBuffer();
      for (let at = 0; at < bytes; at += PART_BYTES) {
        await cache.put(`/old/${new URL(url).pathname}/${at}`, new Response(content.slice(at, at + PART_BYTES)));
      }
    }
  },

  /** One whole file after the other, the next while one is taken. */
  async readOld(files: Wanted[]) {
    const get = async ({ url, bytes, sha256 }: Wanted) => {
      const { body } = await fetch(`${url}?bytes=${bytes}&old=${sha256}`);
      const whole = new Uint8Array(bytes);
      const reader = body?.getReader();
      for (let at = 0; ; ) {
        const { done = true, value } = (await reader?.read()) ?? {};
        if (done || !value) return whole;
        whole.set(value, at);
        at += value.length;
      }
    };
    let total = 0;
    for (const file of files) total += (await get(file)).length;
    return total;
  },
};

/** What the service worker did with files of up to 64 MiB: read, verify, answer. */
async function answer(path: string, bytes: number, sha256: string): Promise<Response> {
  if (bytes > HELD_BYTES) throw new Error("bigger files were hashed in JavaScript, which is slower");
  const cache = await caches.open(CACHE);
  const whole = new Uint8Array(bytes);
  const read = async (at: number) => {
    const part = await cache.match(`/old/${path}/${at}`);
    whole.set(new Uint8Array((await part?.arrayBuffer()) ?? []), at);
  };
  await Promise.all(Array.from({ length: Math.ceil(bytes / PART_BYTES) }, (_, i) => read(i * PART_BYTES)));
  if ((await digest(whole)) !== sha256) throw new Error("damaged");
  return new Response(whole);
}

if ("registration" in self) {
  const worker = self as unknown as ServiceWorkerGlobalScope;
  worker.addEventListener("activate", (event) => event.waitUntil(worker.clients.claim()));
  worker.addEventListener("fetch", (event) => {
    const { pathname, searchParams } = new URL(event.request.url);
    const sha256 = searchParams.get("old");
    if (sha256) event.respondWith(answer(pathname, Number(searchParams.get("bytes")), sha256));
  });
} else {
  self.onmessage = async ({ data: [name, files], ports: [port] }: MessageEvent<[keyof typeof calls, Wanted[]]>) => {
    const start = performance.now();
    try {
      const bytes = await calls[name](files);
      port?.postMessage({ bytes, ms: performance.now() - start });
    } catch (error) {
      port?.postMessage({ error: String(error) });
    }
  };
}
