/** The host's list of models, and what this device keeps beside it. */
import type { StoredBundle } from "../shared/protocol.ts";
import { Documents } from "../store/documents.ts";
import { LIMITS } from "../store/limits.ts";
import { filled } from "../ui/strings.ts";
import type { Bundle } from "../ui/types.ts";
import { daemonUrl } from "./daemon.ts";
import { record } from "./record.ts";
import { STRINGS } from "./strings.ts";

const documents = new Documents(LIMITS);

/** bundles/index.json as it was last seen; null if it never was. */
export async function lastSeenBundles(indexUrl: string): Promise<Bundle[] | null> {
  const stored = await documents.stored(new URL(indexUrl, document.baseURI).href);
  return stored === null ? null : parseIndex(stored);
}

/** Reads bundles/index.json; throws with a remedy when it can't be had or read. */
export async function fetchBundles(indexUrl: string): Promise<Bundle[]> {
  const url = new URL(indexUrl, document.baseURI).href;
  try {
    const body = await documents.fetch(url, new AbortController().signal, false);
    const bundles = parseIndex(body);
    if (bundles === null) throw new Error("it isn't a list of models");
    await documents.keep(url, body);
    return bundles;
  } catch (error) {
    throw Object.assign(new Error(filled(STRINGS.listUnreadable, { reason: String(error) })), {
      code: "network_error",
      remedy: STRINGS.checkConnection,
    });
  }
}

/** Null for what isn't the list, such as a portal's page. */
function parseIndex(body: unknown): Bundle[] | null {
  const { bundles, daemon } = record(body);
  if (!Array.isArray(bundles)) return null;
  return [...bundles.flatMap((entry) => parseBundle(entry)), ...daemonBundles(record(daemon))];
}

/** What the daemon that serves this page runs itself; other hosts name none. */
function daemonBundles({ url, models }: Record<string, unknown>): Bundle[] {
  const api = typeof url === "string" ? folder(url) : null;
  if (api === null) return [];
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
  const address = folder(url);
  return address ? [{ key: id, id, place: "browser", url: address, bytes: number(bytes), ...facts(rest) }] : [];
}

/** The contract's addresses are relative to the page, not to the list; null for what is none. */
function folder(url: string): string | null {
  try {
    return new URL(url.endsWith("/") ? url : `${url}/`, document.baseURI).href;
  } catch {
    return null;
  }
}

function facts({ model_type, quantization, context_window_size }: Record<string, unknown>) {
  return {
    modelType: text(model_type),
    quantization: text(quantization),
    contextWindowSize: number(context_window_size),
  };
}

const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
const number = (value: unknown) => (typeof value === "number" && value > 0 ? value : 0);
const text = (value: unknown) => (typeof value === "string" ? value : "");

/** Null for what isn't kept in browsers. */
export const lockUrlOf = (bundle: Bundle) =>
  bundle.place === "browser" ? new URL("mlc-lock.json", bundle.url).href : null;

/** A stored bundle as one to choose, which the host doesn't offer. */
export function unlistedBundle(stored: StoredBundle): Bundle {
  return {
    key: `stored:${stored.lockUrl}`,
    id: stored.id,
    place: "browser",
    url: new URL(".", stored.lockUrl).href,
    bytes: stored.totalBytes,
    modelType: stored.modelType,
    quantization: stored.quantization,
    contextWindowSize: stored.contextWindowSize,
  };
}
