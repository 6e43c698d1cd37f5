/** What the service worker answers, and with which limits. How is in the other files. */

const MIB = 1 << 20;

export const LIMITS = {
  /** An interrupted download loses at most one part; more parts cost more storage calls. */
  partBytes: (fileBytes: number | null): number =>
    fileBytes !== null && fileBytes > 4 * MIB ? MIB : MIB / 8,
  /** Downloads up to this size are delivered after verification; bigger ones are streamed. */
  heldDownloadBytes: 8 * MIB,
  /** Stored files up to this size are verified whole before delivery; it bounds memory. */
  heldStoredBytes: 64 * MIB,
  /** A broken transfer is continued so often without one new byte before it is given up. */
  resumeAttempts: 5,
  resumeDelayMs: (attempt: number): number => Math.min(200 * 2 ** attempt, 5_000),
  /** A connection that brings nothing for so long is given up for a new one. */
  silenceMs: 30_000,
  /** A network that doesn't answer for so long counts as absent, where a copy is stored. */
  documentTimeoutMs: 5_000,
  /** Storage that is left to the browser and to the page's own data. */
  reservedBytes: MIB,
} as const;

export type Limits = typeof LIMITS;

export type Route =
  /** Addressed by hash: from storage, else downloaded, verified and kept. */
  | { kind: "content"; sha256: string }
  /** Changes in place (locks, the list of bundles): from the network, else as last seen. */
  | { kind: "document" }
  /** The page itself: from the stored version of the app. */
  | { kind: "page" }
  /** Any other address typed by the user: from the network, else the page. */
  | { kind: "navigation" }
  /** A file that the stored app may have: from there, else from the network. */
  | { kind: "app" }
  /** Not ours. */
  | { kind: "network" };

const CONTENT_HASH = /^[0-9a-f]{64}$/;
// They say what the server has now, so a stored copy would be wrong.
const LIVE_PATHS = new Set(["app-lock.json", "health", "service-worker.js"]);

/** Decides who answers a request, for an app whose pages live under `scope`. */
export function route(request: Request, scope: URL): Route {
  const url = new URL(request.url);
  if (request.method !== "GET" || request.headers.has("range")) return { kind: "network" };
  if (!url.protocol.startsWith("http")) return { kind: "network" };
  const path = pathInScope(url, scope);
  if (request.mode === "navigate") {
    return path === "" || path === "index.html" ? { kind: "page" } : { kind: "navigation" };
  }
  const sha256 = url.searchParams.get("sha256");
  if (sha256 !== null && CONTENT_HASH.test(sha256)) return { kind: "content", sha256 };
  if (url.pathname.endsWith("/mlc-lock.json") || path === "bundles/index.json") {
    return { kind: "document" };
  }
  return path === null || LIVE_PATHS.has(path) ? { kind: "network" } : { kind: "app" };
}

function pathInScope(url: URL, scope: URL): string | null {
  if (url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname)) return null;
  return url.pathname.slice(scope.pathname.length);
}
