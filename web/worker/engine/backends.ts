/** Which of a bundle's targets to try, in which order, and why others can't be. */
import { LOCAL_BACKENDS } from "../shared/backends.ts";
import { EngineError } from "../shared/errors.ts";
import type { LockedTarget } from "../shared/lock.ts";
import type { Backend, ErrorData, LeftBackend, LocalBackend } from "../shared/protocol.ts";
import type { Bundle } from "./bundle.ts";
import { unsuitable } from "./gpu/device.ts";
import type { Device, Runtime, Runtimes } from "./runtime.ts";

export interface Candidate {
  readonly kind: LocalBackend;
  readonly target: LockedTarget;
  readonly runtime: Runtime;
}

/** One that can't be tried; `isAbsent` if that is because the bundle has no target for it. */
export interface Unfit {
  readonly kind: LocalBackend;
  readonly target: LockedTarget | null;
  readonly problem: ErrorData;
  readonly isAbsent: boolean;
}

/** One that was left, and why. */
export interface TriedOption {
  readonly option: Candidate | Unfit;
  readonly problem: ErrorData;
}

export interface Wanted {
  /** In the order to try; default: all. */
  readonly backends?: readonly LocalBackend[] | undefined;
  /** Name of the only target to try. */
  readonly target?: string | undefined;
}

export function isCandidate(option: Candidate | Unfit): option is Candidate {
  return "runtime" in option;
}

/** Null for a target of another kind of machine. */
export function kindOf({ device, needs }: LockedTarget): LocalBackend | null {
  if (device === "wasm") return "wasm";
  if (device !== "webgpu") return null;
  return needs.features.includes("shader-f16") ? "webgpu-f16" : "webgpu-f32";
}

export function deviceOf(kind: LocalBackend): Device {
  return kind === "wasm" ? "wasm" : "webgpu";
}

/** All that `wanted` allows, in the order to try: a GPU that the CPU stands in for comes after WebAssembly. */
export async function rank(
  { lock }: Pick<Bundle, "lock">,
  { backends = LOCAL_BACKENDS, target: name }: Wanted,
  runtimes: Runtimes,
): Promise<(Candidate | Unfit)[]> {
  const targets = [...lock.targets.values()].filter((target) => !name || target.name === name);
  if (name && targets.length === 0) return backends.map((kind) => absent(kind, lock.model.id, `target ${name}`));
  const devices = [...new Set(backends.map(deviceOf))];
  const found = new Map<Device, Runtime | ErrorData>();
  for (const device of devices) found.set(device, await find(runtimes[device]));
  const webgpu = found.get("webgpu");
  const isSoftware = webgpu !== undefined && "adapter" in webgpu && webgpu.adapter?.isSoftware;
  return inOrder(backends, isSoftware === true).flatMap((kind) => {
    const own = targets.filter((target) => kindOf(target) === kind);
    if (own.length === 0) return name ? [] : [absent(kind, lock.model.id, `${kind} target`)];
    return mostSpecial(own.map((target) => optionOf(kind, target, found.get(deviceOf(kind)))));
  });
}

/** Those that fit, the ones that were made for fewer devices first; if none does, the one that came nearest. */
function mostSpecial(options: (Candidate | Unfit)[]): (Candidate | Unfit)[] {
  const fitting = options.filter(isCandidate);
  if (fitting.length > 0) return fitting.toSorted((one, other) => demands(other.target) - demands(one.target));
  return options.toSorted((one, other) => demands(one.target) - demands(other.target)).slice(0, 1);
}

/** How much a target asks of an adapter. */
function demands(target: LockedTarget | null): number {
  return target ? target.needs.features.length + Object.keys(target.needs.adapter).length : 0;
}

function inOrder(backends: readonly LocalBackend[], isSoftware: boolean): LocalBackend[] {
  if (!isSoftware || !backends.includes("wasm")) return [...backends];
  const gpu = backends.filter((kind) => deviceOf(kind) === "webgpu");
  return ["wasm", ...gpu];
}

async function find(runtime: (() => Promise<Runtime>) | undefined): Promise<Runtime | ErrorData> {
  if (!runtime) return NO_WASM_YET;
  try {
    return await runtime();
  } catch (error) {
    if (error instanceof EngineError) return error.toData();
    throw error;
  }
}

function optionOf(
  kind: LocalBackend,
  target: LockedTarget,
  runtime: Runtime | ErrorData = NO_WASM_YET,
): Candidate | Unfit {
  if (!("adapter" in runtime)) return { kind, target, problem: runtime, isAbsent: false };
  const lacking = runtime.misfits(target);
  if (lacking.length === 0) return { kind, target, runtime };
  return { kind, target, problem: unsuitable(target.name, lacking), isAbsent: false };
}

/** The first that can be tried. Throws EngineError: webgpu_unavailable, adapter_unsuitable. */
export function first(options: readonly (Candidate | Unfit)[]): Candidate & { tried: readonly TriedOption[] } {
  const tried: TriedOption[] = [];
  for (const option of options) {
    if (isCandidate(option)) return { ...option, tried };
    tried.push({ option, problem: option.problem });
  }
  throw noneLeft(tried);
}

/** Where a candidate runs, once those of `tried` were left. */
export function backendOf({ kind, target, runtime }: Candidate, tried: readonly TriedOption[]): Backend {
  const { adapter } = runtime;
  const slow = adapter?.isSoftware ? " It is computed on the CPU, since there is no GPU." : "";
  const place = tried.length === 0 ? "It is the first choice." : `It is what is left after ${tried.length} others.`;
  const left = tried.map(leftBackend);
  return { kind, target: target.name, adapter, origin: null, reason: `${place}${slow}`, tried: left };
}

/** Why nothing runs: of those that the bundle has, the last. */
export function noneLeft(tried: readonly TriedOption[]): EngineError {
  const present = tried.filter(({ option }) => isCandidate(option) || !option.isAbsent);
  const last = present.at(-1) ?? tried.at(-1);
  return new EngineError({ ...(last?.problem ?? NO_WASM_YET), tried: tried.map(leftBackend) });
}

function leftBackend({ option: { kind, target }, problem }: TriedOption): LeftBackend {
  return { kind, target: target?.name ?? null, code: problem.code, reason: problem.message };
}

function absent(kind: LocalBackend, model: string, what: string): Unfit {
  const problem: ErrorData = {
    code: "adapter_unsuitable",
    message: `The bundle ${model} has no ${what}.`,
    remedy: "Choose another model, or build it for this target.",
  };
  return { kind, target: null, problem, isAbsent: true };
}

const NO_WASM_YET: ErrorData = {
  code: "adapter_unsuitable",
  message: "This version of the engine has nothing that runs models in WebAssembly.",
  remedy: "Use a browser with WebGPU, or a newer version of mlc-edge.",
};
