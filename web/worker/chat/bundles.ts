/** The host's list of models, and what of it this device keeps. */
import { daemonUrl } from "./daemon.ts";
import type { OfflineFiles } from "./dependencies.ts";
import type { Bundle } from "./types.ts";

/** Reads bundles/index.json; throws with a remedy when it can't be had or read. */
export async function fetchBundles(indexUrl: string): Promise<Bundle[]> {
  const base = new URL(indexUrl, document.baseURI);
  let body: unknown;
  try {
    const response = await fetch(base, { cache: "no-cache" });
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    body = await response.json();
  } catch (error) {
    throw Object.assign(new Error(`The list of models can't be read: ${String(error)}`), {
      code: "network_error",
      remedy: "Check the connection and try again.",
    });
  }
  const { bundles, daemon } = record(body);
  return [...list(bundles).flatMap((entry) => parseBundle(entry)), ...daemonBundles(record(daemon))];
}

/** What the daemon that serves this page runs itself; other hosts name none. */
function daemonBundles({ url, models }: Record<string, unknown>): Bundle[] {
  if (typeof url !== "string") return [];
  const api = new URL(url.endsWith("/") ? url : `${url}/`, document.baseURI).href;
  return list(models).flatMap((entry) => {
    const { id } = record(entry);
    if (typeof id !== "string") return [];
    const common = { key: `daemon:${id}`, id, place: "daemon" as const, url: daemonUrl(api, id), bytes: 0 };
    return [{ ...common, ...facts(record(entry)) }];
  });
}

function parseBundle(entry: unknown): Bundle[] {
  const { id, url, bytes, ...rest } = record(entry);
  if (typeof id !== "string" || typeof url !== "string") return [];
  return [
    {
      key: id,
      id,
      place: "browser",
      // The contract's addresses are relative to the page, not to the list.
      url: new URL(url.endsWith("/") ? url : `${url}/`, document.baseURI).href,
      bytes: number(bytes),
      ...facts(rest),
    },
  ];
}

function facts({ model_type, quantization, context_window_size }: Record<string, unknown>) {
  return {
    modelType: text(model_type),
    quantization: text(quantization),
    contextWindowSize: number(context_window_size),
  };
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? { ...value } : {};
const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const number = (value: unknown) => (typeof value === "number" && value > 0 ? value : 0);
const text = (value: unknown) => (typeof value === "string" ? value : "");

/** Null for what isn't kept in browsers. */
export const lockUrlOf = (bundle: Bundle) =>
  bundle.place === "browser" ? new URL("mlc-lock.json", bundle.url).href : null;

/** Addresses of the bundles that load without a network. */
export async function storedBundles(files: OfflineFiles): Promise<Set<string>> {
  try {
    const stored = await files.listStoredBundles();
    const complete = stored.filter((bundle) => bundle.offlineTargets.length > 0);
    return new Set(complete.map((bundle) => new URL(bundle.lockUrl, document.baseURI).href));
  } catch {
    return new Set();
  }
}
