/** One call from a site's folder to a model that answers. */
import { EngineError } from "../shared/errors.ts";
import { Documents } from "../store/documents.ts";
import { LIMITS } from "../store/limits.ts";
import { EngineClient } from "./client.ts";
import { checkOptions, invalid, resolved, type EngineOptions } from "./engine-options.ts";

/** The engine's script, beside this one: the build fills it in, with its hash in a site's folder. */
declare const ENGINE_WORKER: string;
/** Whether this script lies in the folder of a site, which has models, or in the npm package. */
declare const IN_SITE: boolean;

/**
 * Starts an engine and loads a model; the page may be of another origin than the engine.
 *
 * Throws EngineError, or the signal's reason; then nothing goes on.
 */
export async function createEngine(given: EngineOptions = {}): Promise<EngineClient> {
  checkOptions(given);
  const { model, baseURL, workerURL, signal, onProgress, ...options } = given;
  signal?.throwIfAborted();
  const bundle = bundleOf(model, baseURL);
  const engine = new EngineClient({ workerUrl: workerURL ?? new URL(ENGINE_WORKER, import.meta.url) });
  engine.onEvent((event) => {
    if (event.kind === "progress") onProgress?.(event);
  });
  try {
    await engine.load(await bundle(signal), { ...options, ...(signal && { signal }) });
    signal?.throwIfAborted();
    return engine;
  } catch (error) {
    engine.dispose();
    throw error;
  }
}

export type FindBundle = (signal: AbortSignal | undefined) => Promise<URL>;

/** How to find a bundle by createEngine's options; throws EngineError if nothing says where it is. */
export function bundleOf(model: string | URL | undefined, baseURL: string | URL | undefined): FindBundle {
  if (model instanceof URL || model?.includes("/")) {
    const address = folder(model);
    return async () => address;
  }
  const site = siteOf(baseURL);
  if (!site) {
    const remedy = "Give the address of a bundle as `model`, or that of a site's folder as `baseURL`.";
    throw invalid("model", `There is no site to take ${model ?? "the first model"} from`, remedy);
  }
  return async (signal) => {
    const id = model ?? (await firstModel(new URL("bundles/index.json", site), signal));
    return new URL(`bundles/${encodeURIComponent(id)}/`, site);
  };
}

function siteOf(baseURL: string | URL | undefined): URL | null {
  if (baseURL !== undefined) return folder(baseURL);
  return IN_SITE ? new URL("../", import.meta.url) : null;
}

/** Of the site's models as the network says, or, where that fails, as they were last seen. */
async function firstModel(index: URL, signal: AbortSignal | undefined): Promise<string> {
  const documents = new Documents(LIMITS);
  const stored = idsOf(await documents.stored(index.href));
  const [id] = (await seenModels(index.href, documents, stored !== null, signal)) ?? stored ?? [];
  if (id !== undefined) return id;
  throw new EngineError({
    code: "network_error",
    message: `${index.href} names no model.`,
    remedy: "Name one as `model`, or check the site with `mlc-edge site --check`.",
  });
}

/** Ids that the network says now, which are kept; null if it says nothing, or something else. */
async function seenModels(
  url: string,
  documents: Documents,
  impatient: boolean,
  signal: AbortSignal = new AbortController().signal,
): Promise<string[] | null> {
  const body = await documents.fetch(url, signal, impatient).catch(() => null);
  signal.throwIfAborted();
  const ids = idsOf(body);
  if (ids !== null) await documents.keep(url, body);
  return ids;
}

/** Null for what isn't a list of models, such as a portal's page. */
function idsOf(body: unknown): string[] | null {
  const { bundles } = (body ?? {}) as { bundles?: unknown };
  if (!Array.isArray(bundles)) return null;
  return bundles.map((entry: { id?: unknown } | null) => entry?.id).filter((id) => typeof id === "string");
}

function folder(url: string | URL): URL {
  const found = resolved(url);
  if (!found.pathname.endsWith("/")) found.pathname += "/";
  return found;
}
