/** JSON files that change in place, as they were last seen: locks, and a host's list of models. */
import type { Limits } from "./limits.ts";
import { within } from "./patience.ts";

const CACHE = "mlc-edge-documents-v1";

/** The server answered with an error's status. */
export class StatusError extends Error {
  override readonly name = "StatusError";
}

export class Documents {
  readonly #limits: Limits;

  constructor(limits: Limits) {
    this.#limits = limits;
  }

  /** The stored copy, parsed; null without one, or without storage. */
  async stored(url: string): Promise<unknown> {
    const response = await (await open())?.match(keyOf(url));
    return (await response?.json().catch(() => null)) ?? null;
  }

  /** Addresses of all stored documents; null where they can't be read. */
  async urls(): Promise<string[] | null> {
    const keys = await (await open())?.keys();
    return keys?.map(({ url }) => url) ?? null;
  }

  /** Keeps a document, as far as there is room. */
  async keep(url: string, content: unknown): Promise<void> {
    await (await open())?.put(keyOf(url), Response.json(content)).catch(() => {});
  }

  async delete(url: string): Promise<void> {
    await (await open())?.delete(keyOf(url));
  }

  /**
   * What the server says now, parsed; null if that is no JSON. With `impatient` a network that is
   * silent counts as absent. Throws StatusError, TypeError, the signal's reason.
   */
  async fetch(url: string, signal: AbortSignal, impatient: boolean): Promise<unknown> {
    const abort = new AbortController();
    const answer = async (): Promise<unknown> => {
      const both = AbortSignal.any([signal, abort.signal]);
      const response = await fetch(url, { cache: "no-cache", signal: both });
      if (!response.ok) throw new StatusError(`status ${response.status}`);
      return parseJson(await response.text());
    };
    try {
      return await within(impatient ? this.#limits.documentTimeoutMs : this.#limits.silenceMs, answer());
    } finally {
      abort.abort();
    }
  }
}

/** Null where nothing can be kept, or what was kept can't be read. */
async function open(): Promise<Cache | null> {
  try {
    const cache = await caches.open(CACHE);
    // A worker that was started from a blob has no address to which others could be relative.
    await cache.match(`${self.location.origin}/`);
    return cache;
  } catch {
    return null;
  }
}

function keyOf(url: string): string {
  const key = new URL(url);
  key.hash = "";
  return key.href;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
