/** A site's models: where their bundles are. */
import { EngineError } from "../shared/errors.ts";
import { isBundleId } from "../shared/lock.ts";
import { Documents } from "../store/documents.ts";
import { LIMITS } from "../store/limits.ts";
import { resolved } from "./address.ts";
import { invalid } from "./engine-options.ts";

/** Whether this script lies in the folder of a site, which has models, or in the npm package. */
declare const IN_SITE: boolean;

export type FindBundle = (signal: AbortSignal | undefined) => Promise<URL>;

/** What was named, each by itself; undefined stands for the site's first. */
export function listed(model: string | URL | (string | URL)[] | undefined): (string | URL | undefined)[] {
  return Array.isArray(model) ? model : [model];
}

/** Throws EngineError if nothing says where the bundle is, or no site can have a model of this name. */
export function bundleOf(model: string | URL | undefined, baseURL: string | URL | undefined): FindBundle {
  if (model instanceof URL || model?.includes("/")) {
    const address = folder(model);
    return async () => address;
  }
  const site = siteOf(baseURL);
  if (!site) throw noSite(model ?? "the first model");
  if (model !== undefined && !isBundleId(model)) throw noId(model);
  return async (signal) => bundleIn(site, model ?? (await models(site, signal))[0]);
}

/** Of all models of a site. Throws EngineError: invalid_request without a site, network_error. */
export async function bundlesOf(baseURL: string | URL | undefined, signal: AbortSignal | undefined): Promise<URL[]> {
  const site = siteOf(baseURL);
  if (!site) throw noSite("all models");
  return (await models(site, signal)).map((id) => bundleIn(site, id));
}

function bundleIn(site: URL, id: string): URL {
  return new URL(`bundles/${id}/`, site);
}

function noId(model: string): EngineError {
  const remedy = "Use one of its ids, or the address of a bundle, which has a slash.";
  return invalid("model", `No model of a site is called ${JSON.stringify(model.slice(0, 60))}`, remedy);
}

function noSite(what: string): EngineError {
  const remedy = "Give the address of a bundle as `model`, or that of a site's folder as `baseURL`.";
  return invalid("model", `There is no site to take ${what} from`, remedy);
}

function siteOf(baseURL: string | URL | undefined): URL | null {
  if (baseURL !== undefined) return folder(baseURL);
  return IN_SITE ? new URL("../", import.meta.url) : null;
}

/** Of the site's models as the network says, or, where that fails, as they were last seen. */
async function models(site: URL, signal: AbortSignal | undefined): Promise<[string, ...string[]]> {
  const index = new URL("bundles/index.json", site);
  const documents = new Documents(LIMITS);
  const stored = idsOf(await documents.stored(index.href));
  const [first, ...others] = (await seenModels(index.href, documents, stored !== null, signal)) ?? stored ?? [];
  if (first !== undefined) return [first, ...others];
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

/** Null for what isn't a list of models, such as a portal's page; entries that name none are left out. */
function idsOf(body: unknown): string[] | null {
  const { bundles } = (body ?? {}) as { bundles?: unknown };
  if (!Array.isArray(bundles)) return null;
  return bundles.map((entry: { id?: unknown } | null) => entry?.id).filter(isBundleId);
}

function folder(url: string | URL): URL {
  const found = resolved(url);
  if (!found.pathname.endsWith("/")) found.pathname += "/";
  return found;
}
