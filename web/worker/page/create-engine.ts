/** One call from a site's folder to a model that answers. */
import { EngineError } from "../shared/errors.ts";
import type { LoadOptions, LoadProgress } from "../shared/protocol.ts";
import { EngineClient } from "./client.ts";

/** Name of the engine's script beside this one: the bundler knows its hash. */
declare const ENGINE_WORKER: string;

export interface EngineOptions extends LoadOptions {
  /** Id of a model of the site, or a bundle's address on any origin, which has a slash; default: the first. */
  model?: string | URL;
  /** The folder that `mlc-edge site` wrote; default: the one that this script lies in. */
  baseURL?: string | URL;
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
  signal,
  onProgress,
  ...options
}: EngineOptions = {}): Promise<EngineClient> {
  const here = baseURL === undefined ? new URL("../", import.meta.url) : folder(baseURL);
  const workerUrl = new URL(`dist/${ENGINE_WORKER}`, here);
  const engine = new EngineClient({ workerUrl });
  engine.onEvent((event) => {
    if (event.kind === "progress") onProgress?.(event);
  });
  try {
    const bundle = await bundleUrl(model, here, signal);
    await engine.load(bundle, { ...options, ...(signal && { signal }) });
    return engine;
  } catch (error) {
    engine.dispose();
    throw error;
  }
}

async function bundleUrl(
  model: string | URL | undefined,
  site: URL,
  signal: AbortSignal | undefined,
): Promise<URL> {
  if (model instanceof URL) return folder(model);
  if (model?.includes("/")) return folder(model);
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

function folder(url: string | URL): URL {
  const found = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
  if (!found.pathname.endsWith("/")) found.pathname += "/";
  return found;
}
