/** Addresses that a page gives, relative to itself. */

/** Against the page's own. */
export function resolved(url: string | URL): URL {
  return new URL(url, base());
}

/** One that others can be relative to. */
export function isFolder(value: unknown): boolean {
  return isAddress(value) && URL.canParse(".", resolved(value as string | URL));
}

/** Text that is resolved like a link, but not the page itself. */
export function isAddress(value: unknown): boolean {
  if (value instanceof URL) return true;
  return isText(value) && URL.canParse(value, base());
}

export function isText(value: unknown): value is string {
  return typeof value === "string" && value !== "";
}

/** A worker resolves relative addresses against its own file, a page against itself. */
function base(): string | undefined {
  return globalThis.document?.baseURI ?? globalThis.location?.href;
}
