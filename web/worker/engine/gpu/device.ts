/** The GPU: whether it will do, opening it, and noticing what goes wrong on it. */
import { EngineError } from "../../shared/errors.ts";
import type { LockedTarget } from "../../shared/lock.ts";
import type { AdapterDescription, ErrorData } from "../../shared/protocol.ts";

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|warp|basic render/i;
const LOSS_NOTICE_MS = 500;

/** Throws EngineError "webgpu_unavailable". */
export async function findAdapter(): Promise<GPUAdapter> {
  const gpu = (navigator as { gpu?: GPU }).gpu;
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (adapter) return adapter;
  throw new EngineError({
    code: "webgpu_unavailable",
    message: gpu ? "The browser offers no GPU adapter." : "This browser has no WebGPU here.",
    remedy:
      "Use a current Chrome, Edge, Safari or Firefox over https or on localhost, and turn on " +
      "hardware acceleration in its settings.",
  });
}

export function describe({ info }: GPUAdapter): AdapterDescription {
  const { vendor, architecture, description } = info;
  const fallback = (info as { isFallbackAdapter?: boolean }).isFallbackAdapter === true;
  const isSoftware = fallback || SOFTWARE.test(`${vendor} ${architecture} ${description}`);
  return { vendor, architecture, description, isSoftware };
}

/** What a target needs and the adapter lacks; empty if it fits. */
export function misfits(adapter: GPUAdapter, target: LockedTarget): string[] {
  const features = target.needs.features
    .filter((feature) => !adapter.features.has(feature as GPUFeatureName))
    .map((feature) => `the feature ${feature}`);
  const limits = Object.entries(target.needs.limits).flatMap(([limit, needed]) => {
    const offered = limitOf(adapter.limits, limit);
    return offered >= needed ? [] : [`${limit} of ${needed} (it has ${offered})`];
  });
  const minima = Object.entries(target.needs.adapter).flatMap(([name, needed]) => {
    const offered = numberOf(adapter, name);
    return offered >= needed ? [] : [`${name} of ${needed} (it has ${offered})`];
  });
  return [...features, ...limits, ...minima];
}

/** A number that describes an adapter, 0 where the browser doesn't tell it. */
function numberOf(adapter: GPUAdapter, name: string): number {
  if (name === "isSoftware") return Number(describe(adapter).isSoftware);
  return Number((adapter.info as unknown as Record<string, unknown>)[name] ?? 0);
}

/** Why the adapter can't run a target, as data for people. */
export function unsuitable(target: string, lacking: string[]): ErrorData {
  return {
    code: "adapter_unsuitable",
    message: `This GPU lacks what ${target} needs: ${lacking.join(", ")}.`,
    remedy: "Choose a smaller model or another device.",
  };
}

function limitOf(limits: GPUSupportedLimits, name: string): number {
  return Number((limits as unknown as Record<string, number>)[name] ?? 0);
}

/** An open GPU device that remembers its first failure. */
export class Gpu {
  readonly device: GPUDevice;
  readonly #gone: Promise<never>;
  /** Ends the waiting of each who waits for work. A race with `#gone` would keep a bit of all that ever was. */
  readonly #waiting = new Set<(failure: unknown) => void>();
  #failure: EngineError | null = null;
  #closing = false;
  #isGone = false;

  /** `onLost` is called once, if the device goes away by itself. */
  static async open(
    adapter: GPUAdapter,
    target: LockedTarget,
    onLost: (reason: string) => void,
  ): Promise<Gpu> {
    const requiredLimits: Record<string, number> = {
      maxBufferSize: Math.min(2 ** 28, adapter.limits.maxBufferSize),
      maxStorageBufferBindingSize: Math.min(2 ** 27, adapter.limits.maxStorageBufferBindingSize),
    };
    for (const [limit, needed] of Object.entries(target.needs.limits)) {
      requiredLimits[limit] = Math.max(needed, requiredLimits[limit] ?? 0);
    }
    const requiredFeatures = target.needs.features as GPUFeatureName[];
    try {
      return new Gpu(await adapter.requestDevice({ requiredLimits, requiredFeatures }), onLost);
    } catch (error) {
      throw new EngineError(unsuitable(target.name, [String(error)]), { cause: error });
    }
  }

  private constructor(device: GPUDevice, onLost: (reason: string) => void) {
    this.device = device;
    device.addEventListener("uncapturederror", ({ error }) => {
      this.fail(gpuError(error));
    });
    this.#gone = device.lost.then(({ message }) => {
      const reason = message || "the GPU was reset or taken away";
      const known = this.#failure !== null;
      this.fail(lost(reason));
      if (!this.#closing && !known) onLost(reason);
      this.#isGone = true;
      for (const reject of this.#waiting) reject(this.#failure);
      throw this.#failure;
    });
    this.#gone.catch(() => undefined);
  }

  /** The first thing that went wrong on the device, or null. */
  get failure(): EngineError | null {
    return this.#failure;
  }

  /** A new buffer; that there is no room for it will be the device's failure. */
  createBuffer(size: number, usage: GPUBufferUsageFlags): GPUBuffer {
    const { device } = this;
    device.pushErrorScope("out-of-memory");
    const buffer = device.createBuffer({ size, usage });
    device.popErrorScope().then(
      (error) => {
        if (error) this.fail(gpuError(error));
      },
      // The device was lost.
      () => undefined,
    );
    return buffer;
  }

  /** Notes that something went wrong on the device. The first counts, or a lack of memory that it came of. */
  fail(error: EngineError): void {
    const explains = error.code === "out_of_memory" && this.#failure?.code === "internal";
    if (!this.#failure || explains) this.#failure = error;
  }

  /** Waits for work of the device; throws the device's failure if there is one. */
  async guard<T>(work: Promise<T>): Promise<T> {
    let stop: (failure: unknown) => void = () => undefined;
    try {
      const value = await new Promise<T>((resolve, reject) => {
        this.#waiting.add((stop = reject));
        work.then(resolve, reject);
        if (this.#isGone) reject(this.#failure);
      });
      if (this.#failure) throw this.#failure;
      return value;
    } catch (error) {
      throw await this.explain(error);
    } finally {
      this.#waiting.delete(stop);
    }
  }

  /** The device's failure if that is what `error` comes from, else `error`. */
  async explain(error: unknown): Promise<unknown> {
    if (!this.#failure && error instanceof DOMException) {
      // Work that a loss interrupts may fail before the loss is announced.
      const patience = new Promise((resolve) => setTimeout(resolve, LOSS_NOTICE_MS));
      await Promise.race([this.#gone.catch(() => undefined), patience]);
    }
    return this.#failure ?? error;
  }

  /** Acts as if the device was lost. */
  lose(): void {
    this.device.destroy();
  }

  /** Gives the device back. */
  close(): void {
    this.#closing = true;
    this.device.destroy();
  }
}

function gpuError(error: GPUError): EngineError {
  return error instanceof GPUOutOfMemoryError ? outOfMemory(error.message) : refusedCommand(error.message);
}

export function refusedCommand(detail: string): EngineError {
  return new EngineError({
    code: "internal",
    message: `The GPU refused a command: ${detail}`,
    remedy: "Load the model again; if that fails, update browser and GPU driver.",
  });
}

export function outOfMemory(detail: string): EngineError {
  return new EngineError({
    code: "out_of_memory",
    message: `The device has too little memory for this model${detail ? `: ${detail}` : ""}.`,
    remedy: "Close other tabs and programs, or choose a smaller model.",
  });
}

/** What failed to allocate memory in JavaScript, typed: browsers throw a RangeError then. */
export function failedAllocation(error: unknown): unknown {
  return error instanceof RangeError ? outOfMemory(error.message) : error;
}

function lost(reason: string): EngineError {
  return new EngineError({
    code: "device_lost",
    message: `The GPU was lost: ${reason}.`,
    remedy: "Load the model again; if that happens often, choose a smaller model.",
  });
}
