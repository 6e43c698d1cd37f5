/** What would run of a site's models, before a byte of their weights is downloaded. */
import { LOCAL_BACKENDS } from "../shared/backends.ts";
import { EngineError } from "../shared/errors.ts";
import type { Backend, ErrorData, FitReport, LeftBackend, LocalBackend } from "../shared/protocol.ts";
import { type BackendOption, groups, isRemote } from "./backends.ts";
import { checkOptions, type EngineOptions } from "./engine-options.ts";
import { originOf, type RemoteBackend } from "./remote.ts";
import { bundleOf, bundlesOf, listed } from "./site.ts";

export interface CapabilityOptions extends Pick<EngineOptions, "baseURL" | "workerURL" | "backends" | "signal"> {
  /** As for `createEngine`; default: all of the site. */
  model?: EngineOptions["model"];
  /** Measures the adapter once, for some tenths of a second, to tell `speed`; default: true. */
  measure?: boolean;
}

/** The part of the engine that is asked. */
interface Checking {
  check(
    bundleUrl: URL,
    options: { backends: LocalBackend[]; measure: boolean; signal?: AbortSignal },
  ): Promise<FitReport>;
}

/** One report for each model. Throws EngineError: invalid_request, network_error for a site; the signal's reason. */
export async function capabilitiesOf(
  engine: Checking,
  { model, measure = true, ...given }: CapabilityOptions,
): Promise<FitReport[]> {
  checkOptions({ ...given, ...(model !== undefined && { model }) });
  const { baseURL, backends = LOCAL_BACKENDS, signal } = given;
  if (backends.every(isRemote)) return [remoteReport(backends[0] as RemoteBackend, null)];
  const bundles = model === undefined
    ? await bundlesOf(baseURL, signal)
    : await Promise.all(listed(model).map((one) => bundleOf(one, baseURL)(signal)));
  const reports: FitReport[] = [];
  for (const bundle of bundles) {
    const check = (backends: LocalBackend[]): Promise<FitReport> =>
      engine.check(bundle, { backends, measure, ...(signal && { signal }) });
    reports.push(await reportOf(bundle, backends, check, signal));
  }
  return reports;
}

/** The first backend that would be used, and what the model needs there. */
async function reportOf(
  bundle: URL,
  backends: readonly BackendOption[],
  check: (backends: LocalBackend[]) => Promise<FitReport>,
  signal: AbortSignal | undefined,
): Promise<FitReport> {
  let report: FitReport | null = null;
  const tried: LeftBackend[] = [];
  for (const group of groups(backends)) {
    if (!Array.isArray(group)) return remoteReport(group, report, tried);
    report = await check(group).catch((error: unknown) => {
      signal?.throwIfAborted();
      if (error instanceof EngineError) return brokenReport(bundle, error);
      throw error;
    });
    if (report.fits) return report;
    tried.push(...leftOf(group, report));
  }
  return report ?? brokenReport(bundle, new EngineError(NOTHING));
}

function leftOf(group: LocalBackend[], { problems, backend }: FitReport): LeftBackend[] {
  const [problem = NOTHING] = problems;
  if (problem.tried) return problem.tried;
  const { code, message: reason } = problem;
  const kinds = backend ? [backend.kind] : group;
  return kinds.map((kind) => ({ kind, target: backend?.target ?? null, code, reason }));
}

/** Nothing is downloaded, and how fast a server is isn't known. */
function remoteReport(
  backend: RemoteBackend,
  local: FitReport | null,
  tried: LeftBackend[] = [],
): FitReport {
  const origin = originOf(backend);
  const reason = `Messages would be sent to ${origin}${backend.consent === true ? "" : ", if the user agrees"}.`;
  const chosen: Backend = { kind: "remote", target: null, adapter: null, origin, reason, tried };
  return {
    ...(local ?? { id: backend.model ?? origin, problems: [], storage: NO_STORAGE }),
    ...NEEDS_NOTHING,
    backend: chosen,
  };
}

function brokenReport(bundle: URL, error: EngineError): FitReport {
  const id = bundle.pathname.split("/").filter(Boolean).at(-1) ?? "";
  return { id, ...NEEDS_NOTHING, backend: null, problems: [error.toData()], storage: NO_STORAGE };
}

const NO_STORAGE = { usage: 0, quota: 0, persisted: false, available: false };

const NEEDS_NOTHING = {
  fits: false,
  target: null,
  downloadBytes: 0,
  missingBytes: 0,
  memoryBytes: 0,
  speed: null,
} as const;
const NOTHING: ErrorData = {
  code: "adapter_unsuitable",
  message: "No backend fits.",
  remedy: "Choose a smaller model or another device.",
};
