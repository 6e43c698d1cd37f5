/** One call from a site's folder to a model that answers. */
import { EngineError } from "../shared/errors.ts";
import type { LoadOptions, LoadProgress } from "../shared/protocol.ts";
import { EngineClient } from "./client.ts";

/** The engine's script, beside this one: the build fills it in, with its hash in a site's folder. */
declare const ENGINE_WORKER: string;
/** Whether this script lies in the folder of a site, which has models, or in the npm package. */
declare const IN_SITE: boolean;

export interface EngineOptions extends LoadOptions {
  /** Id of a model of the site, or a bundle's address on any origin, which has a slash; default: the first. */
  model?: string | URL;
  /** The folder that `mlc-edge site` wrote; default: the one that this script lies in, if it does. */
  baseURL?: string | URL;
  /** The engine's script; default: the one beside this one, which Vite and webpack find, too. */
  workerURL?: string | URL;
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

/**
 * Starts an engine and loads a model; the page may be of another origin than the engine.
 *
 * Throws EngineError, or the signal's reason; then nothing goes on.
 */
export async function createEngine({
  model,
  baseURL,
  workerURL,
  signal,
  onProgress,
  ...options
}: EngineOptions = {}): Promise<EngineClient> {
  signal?.throwIfAborted();
  const site = siteOf(baseURL);
  const engine = new EngineClient({ workerUrl: workerURL ?? new URL(ENGINE_WORKER, import.meta.url) });
  engine.onEvent((event) => {
    if (event.kind === "progress") onProgress?.(event);
  });
  try {
    const bundle = await bundleUrl(model, site, signal);
    await engine.load(bundle, { ...options, ...(signal && { signal }) });
    return engine;
  } catch (error) {
    engine.dispose();
    throw error;
  }
}

function siteOf(baseURL: string | URL | undefined): URL | null {
  if (baseURL !== undefined) return folder(baseURL);
  return IN_SITE ? new URL("../", import.meta.url) : null;
}

async function bundleUrl(
  model: string | URL | undefined,
  site: URL | null,
  signal: AbortSignal | undefined,
): Promise<URL> {
  if (model instanceof URL || model?.includes("/")) return folder(model);
  if (!site) throw noSite(model);
  const id = model ?? (await firstModel(new URL("bundles/index.json", site), signal));
  return new URL(`bundles/${encodeURIComponent(id)}/`, site);
}

async function firstModel(index: URL, signal: AbortSignal | undefined): Promise<string> {
  try {
    const response = await fetch(index, { cache: "no-cache", signal: signal ?? null });
    const { bundles } = (await response.json()) as { bundles: { id: string }[] };
    return bundles[0]!.id;
  } catch (cause) {
    signal?.throwIfAborted();
    throw new EngineError(
      {
        code: "network_error",
        message: `${index.href} names no model.`,
        remedy: "Name one as `model`, or check the site with `mlc-edge site --check`.",
      },
      { cause },
    );
  }
}

function noSite(model: string | undefined): EngineError {
  return new EngineError({
    code: "invalid_request",
    message: `There is no site to take ${model ?? "the first model"} from.`,
    remedy: "Give the address of a bundle as `model`, or that of a site's folder as `baseURL`.",
    param: "model",
  });
}

function folder(url: string | URL): URL {
  const found = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  if (!found.pathname.endsWith("/")) found.pathname += "/";
  return found;
}
