/** Widgets of one page that name the same model share one engine: it is loaded once. */
import { EngineClient } from "../client/client.ts";
import { bundleOf } from "../client/site.ts";
import type { Backend } from "./backends.ts";
import { DeviceBackend } from "./backends.ts";

/** The engine's script, beside this one; see page/create-engine.ts. */
declare const ENGINE_WORKER: string;

interface Shared {
  backend: Backend;
  users: number;
}

const shared = new Map<string, Shared>();

/**
 * The backend of a model, by createEngine's rules for `model`; null is the site's first one.
 *
 * Throws EngineError if nothing says where it is. Each call takes one `release`.
 */
export function acquire(model: string | null, workerURL: string | URL | null): Backend {
  const key = keyOf(model);
  const found = shared.get(key);
  if (found) {
    found.users += 1;
    return found.backend;
  }
  const findBundle = bundleOf(model ?? undefined, undefined);
  const workerUrl = workerURL ?? new URL(ENGINE_WORKER, import.meta.url);
  const engine = new EngineClient({ workerUrl, shared: true });
  const backend = new DeviceBackend(engine, findBundle);
  shared.set(key, { backend, users: 1 });
  return backend;
}

/** Ends an engine whose last widget went. */
export function release(model: string | null): void {
  const key = keyOf(model);
  const found = shared.get(key);
  if (!found) return;
  found.users -= 1;
  if (found.users > 0) return;
  shared.delete(key);
  found.backend.dispose();
}

function keyOf(model: string | null): string {
  return model?.includes("/") ? new URL(model, document.baseURI).href : (model ?? "");
}
