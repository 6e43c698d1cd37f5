/** A worker with the engine's store, and what tests ask of it. */
import { digest } from "../../../web/worker/shared/hash.ts";
import type { StorageEvent } from "../../../web/worker/shared/protocol.ts";
import type { FileAddress } from "../../../web/worker/store/content.ts";
import { Store } from "../../../web/worker/store/store.ts";

interface Wanted {
  url: string;
  bytes: number;
  sha256: string;
}

interface Loaded {
  /** Of what was read; null if nothing could be. */
  sha256: string | null;
  /** Name of the error. */
  error: string | null;
  /** What `onBytes` told, added up. */
  counted: number;
}

const RANGE = 1_000_003;
const events: StorageEvent[] = [];
const store = new Store((event) => events.push(event));
let stopping = new AbortController();
let stopped: Promise<Loaded> | null = null;

const address = ({ url, bytes, sha256 }: Wanted): FileAddress => ({ url: new URL(url), bytes, sha256 });
const within2min = (signal?: AbortSignal): AbortSignal =>
  AbortSignal.any([AbortSignal.timeout(120_000), ...(signal ? [signal] : [])]);

/** Opens a file and reads it in ranges that fit no part. */
async function load(wanted: Wanted, { signal, whole = false }: { signal?: AbortSignal; whole?: boolean } = {}): Promise<Loaded> {
  let counted = 0;
  const options = { signal: within2min(signal), onBytes: (bytes: number) => void (counted += bytes) };
  try {
    const read = async () => {
      if (whole) return store.content.read(address(wanted), options);
      const file = await store.content.open(address(wanted), options);
      const bytes = new Uint8Array(wanted.bytes);
      for (let at = 0; at < bytes.length; at += RANGE) {
        bytes.set(await file.read(at, Math.min(RANGE, bytes.length - at)), at);
      }
      return bytes;
    };
    const bytes = await read();
    return { sha256: await digest(bytes), error: null, counted };
  } catch (error) {
    return { sha256: null, error: (error as Error).name, counted };
  }
}

/** What a call throws, or gives. */
async function outcome(call: () => Promise<unknown>): Promise<unknown> {
  try {
    return { value: await call() };
  } catch (error) {
    const { name, code, message } = error as Error & { code?: string };
    return { error: { name, code, message } };
  }
}

Object.assign(globalThis, {
  store,
  events,
  load,
  outcome,
  startLoading: (wanted: Wanted) => {
    stopping = new AbortController();
    stopped = load(wanted, { signal: stopping.signal });
  },
  stopLoading: () => {
    stopping.abort();
    return stopped;
  },
  loaded: () => stopped,
  openLock: (url: string, options: object = {}) =>
    outcome(async () => {
      const { lock, fromStorage } = await store.openLock(url, { signal: within2min(), keep: true, ...options });
      return { files: [...lock.files.keys()], fromStorage };
    }),
  /** What follows a load by the lock that `openLock` gives. */
  confirm: async (url: string) => {
    await store.confirm(url, await store.openLock(url, { signal: within2min(), keep: true }));
  },
  revalidate: (url: string) => store.revalidate(url, within2min()),
  update: (url: string) => outcome(() => store.update(url, within2min())),
});
