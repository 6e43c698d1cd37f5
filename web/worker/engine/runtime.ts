/** What opens model libraries: one runtime for each kind of device. */
import type { LockedTarget } from "../shared/lock.ts";
import { EngineError } from "../shared/errors.ts";
import type { AdapterDescription } from "../shared/protocol.ts";
import { unusable } from "./bundle-errors.ts";
import { describe, findAdapter, Gpu, misfits } from "./gpu/device.ts";
import { ModelRunner } from "./model-runner.ts";
import { type DeviceSpeed, measureGpu } from "./speed.ts";

export type Device = "webgpu" | "wasm";

export interface Runtime {
  /** Null where no GPU computes. */
  readonly adapter: AdapterDescription | null;
  /** What a target needs and this device lacks; empty if it fits. */
  misfits(target: LockedTarget): string[];
  /** How fast it reads weights and starts kernels. */
  measure(): Promise<DeviceSpeed>;
  /** `onLost` is called once, if the device goes away by itself. */
  open(library: ArrayBuffer, target: LockedTarget, onLost: (reason: string) => void): Promise<ModelRunner>;
}

/** How to find each device's runtime. Throws EngineError "webgpu_unavailable". */
export type Runtimes = Partial<Record<Device, () => Promise<Runtime>>>;

export class WebGpuRuntime implements Runtime {
  readonly #adapter: GPUAdapter;
  readonly adapter: AdapterDescription;

  /** Throws EngineError "webgpu_unavailable". */
  static async find(): Promise<WebGpuRuntime> {
    return new WebGpuRuntime(await findAdapter());
  }

  private constructor(adapter: GPUAdapter) {
    this.#adapter = adapter;
    this.adapter = describe(adapter);
  }

  misfits(target: LockedTarget): string[] {
    return misfits(this.#adapter, target);
  }

  measure(): Promise<DeviceSpeed> {
    return measureGpu(findAdapter, this.adapter);
  }

  async open(library: ArrayBuffer, target: LockedTarget, onLost: (reason: string) => void): Promise<ModelRunner> {
    // An adapter gives one device only.
    const gpu = await Gpu.open(await findAdapter(), target, onLost);
    try {
      return await ModelRunner.open(library, gpu);
    } catch (error) {
      const explained = await gpu.explain(error);
      gpu.close();
      if (explained instanceof EngineError) throw explained;
      throw unusable(`${target.library} is no model library (${explained})`, explained);
    }
  }
}

/** There is none for WebAssembly yet. */
export const RUNTIMES: Runtimes = { webgpu: () => WebGpuRuntime.find() };
