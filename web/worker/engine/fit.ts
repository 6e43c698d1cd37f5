/** Whether a bundle would run here, before anything big is downloaded. */
import { EngineError } from "../shared/errors.ts";
import type { LockedTarget } from "../shared/lock.ts";
import type { ErrorData, FitReport } from "../shared/protocol.ts";
import type { Bundle } from "./bundle.ts";
import { findAdapter, misfits, outOfMemory, preferred, unsuitable } from "./device.ts";
import type { ChatConfig } from "./files.ts";
import { Progress } from "./progress.ts";

/** navigator.deviceMemory may say no more than this, in GiB. */
export const TOLD_MEMORY_GIB = 8;

export interface Choice {
  readonly adapter: GPUAdapter;
  readonly target: LockedTarget;
}

/**
 * The best target of the bundle that the adapter runs, or the one that was asked for.
 *
 * Throws EngineError: webgpu_unavailable, adapter_unsuitable.
 */
export async function choose(bundle: Bundle, wanted: string | undefined): Promise<Choice> {
  const adapter = await findAdapter();
  const { targets } = bundle.lock;
  const candidates = preferred(targets.values()).filter(({ name }) => !wanted || name === wanted);
  const target = candidates.find((candidate) => misfits(adapter, candidate).length === 0);
  if (target) return { adapter, target };
  const last = candidates.at(-1);
  const name = wanted ?? last?.name ?? bundle.lock.model.id;
  throw new EngineError(unsuitable(name, last ? misfits(adapter, last) : []));
}

/** Bytes of all files but other targets' own. */
export function downloadBytes({ lock }: Bundle, target: LockedTarget | null): number {
  const others = [...lock.targets.values()].filter((other) => other !== target);
  const skipped = new Set(others.map(({ library }) => library));
  let sum = 0;
  for (const file of lock.files.values()) if (!skipped.has(file.path)) sum += file.bytes;
  return sum;
}

export async function checkFit(bundle: Bundle, signal: AbortSignal): Promise<FitReport> {
  const problems: ErrorData[] = [];
  const choice = await choose(bundle, undefined).catch((error: unknown) => {
    if (!(error instanceof EngineError)) throw error;
    problems.push(error.toData());
    return null;
  });
  const target = choice?.target ?? null;
  const memoryBytes = target ? await neededMemory(bundle, target, signal) : 0;
  const memory = memoryProblem(memoryBytes);
  if (memory) problems.push(memory);
  const fits = problems.length === 0;
  const storage = await storageEstimate();
  const needed = downloadBytes(bundle, target);
  const short = storageProblem(needed, storage);
  if (short) problems.push(short);
  return { fits, target: target?.name ?? null, problems, downloadBytes: needed, memoryBytes, storage };
}

/** Bytes of device memory for weights and KV cache. */
export async function neededMemory(bundle: Bundle, target: LockedTarget, signal: AbortSignal): Promise<number> {
  return target.parameterBytes + (await cacheBytes(bundle, target, signal));
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
  // Where more is stored than this bundle has, it may be among it.
  if (bytes <= quota - usage || usage >= bytes) return null;
  return {
    code: "quota_exceeded",
    message: `The browser stores up to ${gib(quota)} GiB for this site; the model has ${gib(bytes)}.`,
    remedy: "Delete other models or free disk space, or the model is downloaded at every visit.",
  };
}

async function cacheBytes(bundle: Bundle, target: LockedTarget, signal: AbortSignal): Promise<number> {
  const quiet = new Progress(() => undefined);
  const path = "mlc-chat-config.json";
  const { model_config: config } = await bundle.readJson<ChatConfig>(path, quiet, signal);
  const size = (name: string): number => Number(config[name] ?? 0);
  const element = target.needs.features.includes("shader-f16") ? 2 : 4;
  const token = size("num_hidden_layers") * size("num_key_value_heads") * size("head_dim");
  return 2 * token * element * bundle.lock.model.contextWindowSize;
}

async function storageEstimate(): Promise<FitReport["storage"]> {
  const { usage = 0, quota = 0 } = (await navigator.storage?.estimate?.()) ?? {};
  const persisted = (await navigator.storage?.persisted?.()) ?? false;
  return { usage, quota, persisted };
}

function gib(bytes: number): string {
  return (bytes / 2 ** 30).toFixed(2);
}
