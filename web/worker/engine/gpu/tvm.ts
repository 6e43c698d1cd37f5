/** TVM's device API for WebGPU: the functions that a library's wasm calls to use the device. */
import type { Instance, PackedFunc } from "@mlc-ai/web-runtime";
import { type Gpu, refusedCommand } from "./device.ts";
import type { GpuDispatcher } from "./dispatcher.ts";
import type { Arguments, Kernel, KernelInfo } from "./kernel.ts";

/** A TVMFFIAny is an int32 type index, four bytes of padding, and eight of the value. */
const ANY_BYTES = 16;
const ANY_VALUE_BYTES = 8;
const FLOAT_TYPE = 3;

/** As TVM calls functions: pointers to TVMFFIAny, and 0 for success. */
type SafeCall = (self: number, args: number, count: number, result: number) => number;

/** What tvmjs's types keep private. Functions that it wraps itself take apart their arguments one object at a time. */
interface Internals {
  createPackedFuncFromSafeCallType(call: SafeCall): PackedFunc;
}

export class DeviceApi {
  readonly #tvm: Instance;
  readonly #gpu: Gpu;
  readonly #dispatcher: GpuDispatcher;
  readonly #arguments: PackedArguments;
  /** Functions that launch kernels, by the kernels' code. */
  readonly #launchers = new Map<string, PackedFunc>();

  /** Registers the functions; they live as long as the instance. */
  constructor(tvm: Instance, gpu: Gpu, dispatcher: GpuDispatcher) {
    this.#tvm = tvm;
    this.#gpu = gpu;
    this.#dispatcher = dispatcher;
    this.#arguments = new PackedArguments(tvm.memory.memory);
    const functions = this.#functions();
    tvm.registerFunc("wasm.WebGPUDeviceAPI", (name: string) => {
      const found = functions[name];
      if (!found) throw new Error(`the device has no function ${name}`);
      return found;
    });
    tvm.registerFunc("wasm.WebGPUCreateShader", (info: string, code: string) =>
      this.#launcherNow(JSON.parse(info) as KernelInfo, code),
    );
    if (tvm.asyncifyEnabled()) {
      tvm.registerAsyncifyFunc("__asyncify.WebGPUWaitForTasks", () => dispatcher.settle());
    }
  }

  /**
   * The function that launches a kernel, compiled without blocking; for the same code, the same function. Rejects
   * with GPUPipelineError if the device's driver refuses the kernel.
   */
  async launcher(info: KernelInfo, code: string): Promise<PackedFunc> {
    const known = this.#launchers.get(code);
    if (known) return known;
    const kernel = await this.#dispatcher.compileAsync(info, code);
    return this.#launchers.get(code) ?? this.#register(kernel, code);
  }

  /** The same for a kernel that TVM wants to launch at once. */
  #launcherNow(info: KernelInfo, code: string): PackedFunc {
    return this.#launchers.get(code) ?? this.#register(this.#dispatcher.compile(info, code), code);
  }

  #register(kernel: Kernel, code: string): PackedFunc {
    const args = this.#arguments;
    const call: SafeCall = (_self, packed) => {
      try {
        this.#dispatcher.launch(kernel, args.at(packed));
      } catch (error) {
        // No exception may unwind the wasm; whoever waits for the device is told.
        this.#gpu.fail(refusedCommand(String(error)));
      }
      return 0;
    };
    const launcher = (this.#tvm as unknown as Internals).createPackedFuncFromSafeCallType(call);
    this.#launchers.set(code, launcher);
    return launcher;
  }

  #functions(): Record<string, (...args: number[]) => number | undefined> {
    const dispatcher = this.#dispatcher;
    const { memory } = this.#tvm;
    return {
      deviceAllocDataSpace: (bytes = 0) => dispatcher.allocate(bytes),
      deviceFreeDataSpace: (pointer = 0) => void dispatcher.free(pointer),
      deviceCopyToGPU: (from = 0, to = 0, offset = 0, bytes = 0) =>
        void dispatcher.write(to, offset, padded(memory.viewRawBytes(from, bytes))),
      deviceCopyFromGPU: (from = 0, offset = 0, to = 0, bytes = 0) => {
        if (bytes === 0) return undefined;
        const store = (read: Uint8Array): void => memory.storeRawBytes(to, read.subarray(0, bytes));
        return void dispatcher.read(from, [offset], roundUp(bytes), store);
      },
      deviceCopyWithinGPU: (from = 0, fromOffset = 0, to = 0, toOffset = 0, bytes = 0) =>
        void dispatcher.copy(from, fromOffset, to, toOffset, bytes),
    };
  }
}

/** Arguments as they lie in the wasm's memory; one object for all launches. */
class PackedArguments implements Arguments {
  readonly #memory: WebAssembly.Memory;
  #words = new Int32Array();
  #floats = new Float64Array();
  #start = 0;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
  }

  /** Those of a launch, until the wasm goes on. */
  at(start: number): this {
    const { buffer } = this.#memory;
    if (this.#words.buffer !== buffer) {
      this.#words = new Int32Array(buffer);
      this.#floats = new Float64Array(buffer);
    }
    this.#start = start;
    return this;
  }

  integer(position: number): number {
    return this.#words[this.#value(position) / 4] as number;
  }

  float(position: number): number {
    const type = this.#words[(this.#start + position * ANY_BYTES) / 4];
    return type === FLOAT_TYPE ? (this.#floats[this.#value(position) / 8] as number) : this.integer(position);
  }

  #value(position: number): number {
    return this.#start + position * ANY_BYTES + ANY_VALUE_BYTES;
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}

/** WebGPU writes four bytes at a time, and TVM's buffers have room for the last ones. */
function padded(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const view = bytes as Uint8Array<ArrayBuffer>;
  if (view.length % 4 === 0) return view;
  const whole = new Uint8Array(roundUp(view.length));
  whole.set(view);
  return whole;
}
