/** Whether a bundle would run here, before anything big is downloaded. */
import { EngineError } from "../shared/errors.ts";
import type { Lock, LockedFile, LockedTarget } from "../shared/lock.ts";
import type {
  CheckOptions, ErrorData, FitReport, LocalBackend, SpeedEstimate,
} from "../shared/protocol.ts";
import { backendOf, type Candidate, first, rank } from "./backends.ts";
import type { Bundle } from "./bundle.ts";
import { outOfMemory } from "./gpu/device.ts";
import type { ChatConfig } from "./files.ts";
import { Progress } from "./progress.ts";
import { RUNTIMES } from "./runtime.ts";
import { estimate } from "./speed.ts";
import { CHAT_CONFIG, modelConfigOf } from "./text-files.ts";

/** navigator.deviceMemory may say no more than this, in GiB. */
export const TOLD_MEMORY_GIB = 8;

/** Bytes of the files that a target needs. */
export function downloadBytes({ lock }: Bundle, target: LockedTarget | null): number {
  return neededFiles(lock, target).reduce((sum, { bytes }) => sum + bytes, 0);
}

/** All files but other targets' own. */
export function neededFiles(lock: Lock, target: LockedTarget | null): LockedFile[] {
  const others = [...lock.targets.values()].filter((other) => other !== target);
  const skipped = new Set(others.map(({ library }) => library));
  return [...lock.files.values()].filter(({ path }) => !skipped.has(path));
}

export async function checkFit(
  bundle: Bundle,
  { backends, measure = false }: CheckOptions,
  signal: AbortSignal,
): Promise<FitReport> {
  const problems: ErrorData[] = [];
  const candidate = await firstChoice(bundle, backends).catch((error: unknown) => {
    if (!(error instanceof EngineError)) throw error;
    problems.push(error.toData());
    return null;
  });
  const target = candidate?.target ?? null;
  const config = target ? await readConfig(bundle, signal) : {};
  const memoryBytes = target ? target.parameterBytes + cacheBytes(bundle, target, config) : 0;
  const memory = memoryProblem(memoryBytes);
  if (memory) problems.push(memory);
  const fits = problems.length === 0;
  const storage = { ...(await storageEstimate()), available: await bundle.isKeepable() };
  const files = neededFiles(bundle.lock, target);
  const missingBytes = await bundle.missingBytes(files);
  const short = storageProblem(missingBytes, storage);
  if (short) problems.push(short);
  return {
    id: bundle.lock.model.id,
    fits,
    target: target?.name ?? null,
    backend: candidate && backendOf(candidate, candidate.tried),
    problems,
    downloadBytes: downloadBytes(bundle, target),
    missingBytes,
    memoryBytes,
    storage,
    speed: measure && candidate ? await speedOf(candidate, config) : null,
  };
}

async function firstChoice(bundle: Bundle, backends: readonly LocalBackend[] | undefined) {
  return first(await rank(bundle, { backends }, RUNTIMES));
}

/** Null where there is no way to measure, as for a device that can't be opened. */
async function speedOf({ runtime, target }: Candidate, config: ModelConfig): Promise<SpeedEstimate | null> {
  const measured = await runtime.measure().catch(() => null);
  const layers = Number(config["num_hidden_layers"] ?? 0);
  return measured && estimate(measured, { layers, weightBytes: target.parameterBytes });
}

/** Bytes of device memory for weights and KV cache. */
export async function neededMemory(bundle: Bundle, target: LockedTarget, signal: AbortSignal): Promise<number> {
  return target.parameterBytes + cacheBytes(bundle, target, await readConfig(bundle, signal));
}

/** Throws EngineError "out_of_memory" if the weights can't fit. */
export function checkMemory({ parameterBytes }: LockedTarget): void {
  const problem = memoryProblem(parameterBytes);
  if (problem) throw new EngineError(problem);
}

function memoryProblem(bytes: number): ErrorData | null {
  const { deviceMemory } = navigator as { deviceMemory?: number };
  if (!deviceMemory || deviceMemory >= TOLD_MEMORY_GIB || bytes < deviceMemory * 2 ** 30) return null;
  const detail = `it needs ${gib(bytes)} GiB, of ${deviceMemory} GiB in all`;
  return outOfMemory(detail).toData();
}

/** Not a reason to refuse: what can't be stored is downloaded again at the next visit. */
function storageProblem(bytes: number, { usage, quota }: FitReport["storage"]): ErrorData | null {
  if (bytes <= quota - usage) return null;
  return {
    code: "quota_exceeded",
    message: `The browser has room for ${gib(Math.max(0, quota - usage))} GiB more of this site's; the model needs ${gib(bytes)}.`,
    remedy: "Delete other models or free disk space, or the model is downloaded at every visit.",
  };
}

type ModelConfig = ChatConfig["model_config"];

async function readConfig(bundle: Bundle, signal: AbortSignal): Promise<ModelConfig> {
  const quiet = new Progress(() => undefined);
  return modelConfigOf(await bundle.readJson(CHAT_CONFIG, quiet, signal));
}

function cacheBytes({ lock }: Bundle, target: LockedTarget, config: ModelConfig): number {
  const size = (name: string): number => Number(config[name] ?? 0);
  const element = target.needs.features.includes("shader-f16") ? 2 : 4;
  const token = size("num_hidden_layers") * size("num_key_value_heads") * size("head_dim");
  return 2 * token * element * lock.model.contextWindowSize;
}

async function storageEstimate(): Promise<Omit<FitReport["storage"], "available">> {
  const { usage = 0, quota = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  const persisted = (await navigator.storage?.persisted?.()) ?? false;
  return { usage, quota, persisted };
}

function gib(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(2);
}
