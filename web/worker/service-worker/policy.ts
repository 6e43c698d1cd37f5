/** What the service worker answers: the app's own files. How is in the other files. */

export type Route =
  /** The page itself: from the stored version of the app. */
  | { kind: "page" }
  /** Any other address typed by the user: from the network, else the page. */
  | { kind: "navigation" }
  /** A file that the stored app may have: from there, else from the network. */
  | { kind: "app" }
  /** Not ours. */
  | { kind: "network" };

// They say what the server has now, so a stored copy would be wrong.
const LIVE_PATHS = new Set(["app-lock.json", "health", "service-worker.js"]);
// The engine's worker keeps them, and a way through here would cost it its speed.
const BUNDLES = "bundles/";

/** Decides who answers a request, for an app whose pages live under `scope`. */
export function route(request: Request, scope: URL): Route {
  const url = new URL(request.url);
  if (request.method !== "GET" || request.headers.has("range")) return { kind: "network" };
  if (!url.protocol.startsWith("http")) return { kind: "network" };
  const path = pathInScope(url, scope);
  if (request.mode === "navigate") {
    return path === "" || path === "index.html" ? { kind: "page" } : { kind: "navigation" };
  }
  const isApp = path !== null && !LIVE_PATHS.has(path) && !path.startsWith(BUNDLES);
  return { kind: isApp ? "app" : "network" };
}

function pathInScope(url: URL, scope: URL): string | null {
  if (url.origin !== scope.origin || !url.pathname.startsWith(scope.pathname)) return null;
  return url.pathname.slice(scope.pathname.length);
}
