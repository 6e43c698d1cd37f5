/** The host's list of models, and what of it this device keeps. */
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
  const entries = (body as { bundles?: unknown } | null)?.bundles;
  return (Array.isArray(entries) ? entries : []).flatMap((entry) => parseBundle(entry));
}

function parseBundle(entry: unknown): Bundle[] {
  const record = (typeof entry === "object" && entry !== null ? entry : {}) as Record<
    string,
    unknown
  >;
  const { id, url, bytes, model_type, quantization, context_window_size } = record;
  if (typeof id !== "string" || typeof url !== "string") return [];
  const number = (value: unknown) => (typeof value === "number" && value > 0 ? value : 0);
  const text = (value: unknown) => (typeof value === "string" ? value : "");
  return [
    {
      id,
      // The contract's addresses are relative to the page, not to the list.
      url: new URL(url.endsWith("/") ? url : `${url}/`, document.baseURI).href,
      bytes: number(bytes),
      modelType: text(model_type),
      quantization: text(quantization),
      contextWindowSize: number(context_window_size),
    },
  ];
}

export const lockUrlOf = (bundle: Bundle) => new URL("mlc-lock.json", bundle.url).href;

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
