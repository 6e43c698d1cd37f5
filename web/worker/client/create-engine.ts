/** One call from a site's folder to a model that answers. */
import { LOCAL_BACKENDS } from "../shared/backends.ts";
import type { FitReport } from "../shared/protocol.ts";
import { isRemote } from "./backends.ts";
import type { CapabilityOptions } from "./capabilities.ts";
import { EngineClient } from "./client.ts";
import { checkOptions, type EngineOptions } from "./engine-options.ts";
import { bundleOf, listed } from "./site.ts";

/** The engine's script, beside this one: the build fills it in, with its hash in a site's folder. */
declare const ENGINE_WORKER: string;

/**
 * Starts an engine and loads a model; the page may be of another origin than the engine.
 *
 * Throws EngineError, or the signal's reason; then nothing goes on.
 */
export async function createEngine(given: EngineOptions = {}): Promise<EngineClient> {
  checkOptions(given);
  const { model, baseURL, workerURL, signal, onProgress, shared = true, memoryBudget, ...others } = given;
  const { backends = LOCAL_BACKENDS, ...options } = others;
  signal?.throwIfAborted();
  const bundles = backends.every(isRemote) ? [noBundle] : listed(model).map((one) => bundleOf(one, baseURL));
  const engine = newEngine({ workerURL, baseURL, shared, memoryBudget });
  engine.onEvent((event) => {
    if (event.kind === "progress") onProgress?.(event);
  });
  try {
    for (const bundle of bundles) {
      await engine.load(() => bundle(signal), { ...options, backends, ...(signal && { signal }) });
    }
    signal?.throwIfAborted();
    return engine;
  } catch (error) {
    engine.dispose();
    throw error;
  }
}

type FirstOptions = CapabilityOptions & Pick<EngineOptions, "memoryBudget">;

/** `engine.capabilities`, before there is an engine. */
export async function capabilities({ memoryBudget, ...options }: FirstOptions = {}): Promise<FitReport[]> {
  if (memoryBudget !== undefined) checkOptions({ memoryBudget });
  const engine = newEngine({ ...options, memoryBudget });
  try {
    return await engine.capabilities(options);
  } finally {
    engine.dispose();
  }
}

async function noBundle(): Promise<never> {
  throw new TypeError("a remote server has no bundle");
}

type Start = { [K in "workerURL" | "baseURL" | "shared" | "memoryBudget"]?: EngineOptions[K] | undefined };

function newEngine({ workerURL, baseURL, shared = false, memoryBudget }: Start): EngineClient {
  const workerUrl = workerURL ?? new URL(ENGINE_WORKER, import.meta.url);
  return new EngineClient({
    workerUrl,
    shared,
    ...(baseURL && { baseURL }),
    ...(memoryBudget && { memoryBudget }),
  });
}
