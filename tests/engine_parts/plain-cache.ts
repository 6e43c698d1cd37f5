/** Cache Storage in a map, by addresses as browsers write them, with room for so many entries. */
export class PlainCache {
  readonly entries = new Map<string, Uint8Array>();
  room = Infinity;

  async match(url: string): Promise<Response | undefined> {
    const bytes = this.entries.get(new URL(url).href);
    return bytes && new Response(bytes.slice());
  }

  async put(url: string, response: Response): Promise<void> {
    if (this.entries.size >= this.room) throw new DOMException("full", "QuotaExceededError");
    this.entries.set(new URL(url).href, new Uint8Array(await response.arrayBuffer()));
  }

  async delete(url: string): Promise<boolean> {
    return this.entries.delete(new URL(url).href);
  }

  async keys(): Promise<{ url: string }[]> {
    return [...this.entries.keys()].map((url) => ({ url }));
  }
}

/** The browser's storage, for modules that use it by its global names. */
export function install(cache: PlainCache): void {
  Object.assign(globalThis, {
    self: { location: { origin: "https://site.example" } },
    navigator: {},
    caches: { open: async () => cache },
  });
}
