/** Scenes with kernels of a few lines on the page's device; each gives numbers that the test knows. */
import { findAdapter, Gpu } from "../../web/worker/engine/gpu/device.ts";
import { GpuDispatcher } from "../../web/worker/engine/gpu/dispatcher.ts";
import type { Arguments, Kernel, KernelInfo } from "../../web/worker/engine/gpu/kernel.ts";
import { DeviceApi } from "../../web/worker/engine/gpu/tvm.ts";

const COUNTED: [{ prototype: object }, string[]][] = [
  [GPUDevice, ["createBuffer", "createBindGroup", "createComputePipeline"]],
  [GPUQueue, ["submit", "writeBuffer"]],
  [GPUCommandEncoder, ["beginComputePass"]],
  [GPUBuffer, ["destroy"]],
];
let counts: Record<string, number> = {};
for (const [type, names] of COUNTED) {
  const prototype = type.prototype as Record<string, (...args: unknown[]) => unknown>;
  for (const name of names) {
    const original = prototype[name]!;
    prototype[name] = function (...args) {
      counts[name] = (counts[name] ?? 0) + 1;
      return original.apply(this, args);
    };
  }
}

/** sum[i] += addend[i] * factor + shift, of 64 numbers. */
const ADD: [KernelInfo, string] = [
  {
    name: "add",
    arg_types: ["handle", "handle", "float32", "int32"],
    launch_param_tags: ["blockIdx.x", "threadIdx.x", "paramWriteAccess:[0,1]"],
  },
  `@group(0) @binding(0) var<storage, read> addend: array<f32>;
   @group(0) @binding(1) var<storage, read_write> sum: array<f32>;
   struct Uniforms { factor: f32, shift: i32, last: u32 }
   @group(0) @binding(2) var<uniform> uniforms: Uniforms;
   @compute @workgroup_size(64)
   fn add(@builtin(global_invocation_id) id: vec3<u32>) {
     sum[id.x] += addend[id.x] * uniforms.factor + f32(uniforms.shift);
   }`,
];
/** cells[x + y * width] counts how often workgroup (x, y) runs, by place and bound as TVM's kernels reckon them. */
const COUNT: [KernelInfo, string] = [
  {
    name: "count",
    arg_types: ["handle", "int32"],
    launch_param_tags: ["blockIdx.y", "blockIdx.x", "threadIdx.x", "paramWriteAccess:[1]"],
  },
  `@group(0) @binding(0) var<storage, read_write> cells: array<atomic<u32>>;
   struct Uniforms { width: i32, last: u32 }
   @group(0) @binding(1) var<uniform> uniforms: Uniforms;
   @compute @workgroup_size(1)
   fn count(@builtin(workgroup_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
     if (id.z * groups.x + id.x > uniforms.last) { return; }
     let x = id.z * groups.x + id.x;
     atomicAdd(&cells[x + id.y * u32(uniforms.width)], 1 + 1000 * id.y);
   }`,
];
const SUMS = 64;
const BYTES = 4 * SUMS;
/** More than is kept of freed buffers. */
const LARGE = 64 << 20;

const args = (...values: number[]): Arguments => ({
  integer: (position) => Math.trunc(values[position] as number),
  float: (position) => values[position] as number,
});
const all = (value: number): Uint8Array<ArrayBuffer> => new Uint8Array(new Float32Array(SUMS).fill(value).buffer);

class Scene {
  readonly add: Kernel;
  readonly addend: number;
  readonly sum: number;

  static async open(): Promise<Scene> {
    const target = { name: "test", needs: { features: [], limits: {} } };
    const gpu = await Gpu.open(await findAdapter(), target as never, () => undefined);
    const device = new GpuDispatcher(gpu);
    const scene = new Scene(gpu, device, await device.compileAsync(...ADD));
    await device.settle();
    counts = {};
    return scene;
  }

  constructor(
    readonly gpu: Gpu,
    readonly device: GpuDispatcher,
    add: Kernel,
  ) {
    this.add = add;
    [this.addend, this.sum] = [this.filled(1), this.filled(0)];
  }

  filled(value: number): number {
    const pointer = this.device.allocate(BYTES);
    this.device.write(pointer, 0, all(value));
    return pointer;
  }

  launch(factor: number, shift = 0, addend = this.addend): void {
    this.device.launch(this.add, args(addend, this.sum, factor, shift, 1, 64));
  }

  /** The number that all of a buffer are. */
  async value(pointer = this.sum): Promise<number> {
    const values = new Set(await this.words(pointer, BYTES, Float32Array));
    if (values.size !== 1) throw new Error(`not one value: ${[...values].slice(0, 9)}`);
    return [...values][0] as number;
  }

  async words(pointer: number, bytes: number, type: typeof Float32Array | typeof Uint32Array): Promise<number[]> {
    let found: number[] = [];
    this.device.read(pointer, [0], bytes, (read) => (found = [...new type(read.slice().buffer)]));
    await this.gpu.guard(this.device.settle());
    return found;
  }
}

type Call = (...args: unknown[]) => never;

/** What a library's wasm does with the functions that are registered for it, and its memory. */
class Library {
  readonly memory = new WebAssembly.Memory({ initial: 1 });
  readonly #registered = new Map<string, Call>();

  constructor(gpu: Gpu, device: GpuDispatcher) {
    const instance = {
      memory: {
        memory: this.memory,
        viewRawBytes: (start: number, bytes: number) => new Uint8Array(this.memory.buffer, start, bytes),
        storeRawBytes: (start: number, bytes: Uint8Array) => new Uint8Array(this.memory.buffer).set(bytes, start),
      },
      registerFunc: (name: string, call: Call) => this.#registered.set(name, call),
      asyncifyEnabled: () => false,
      createPackedFuncFromSafeCallType: (call: Call) => call,
    };
    new DeviceApi(instance as never, gpu, device);
  }

  call(name: string, ...args: number[]): void {
    (this.#registered.get("wasm.WebGPUDeviceAPI")!(name) as Call)(...args);
  }

  launch(info: KernelInfo, code: string, args: (number | { float: number })[]): void {
    const view = new DataView(this.memory.buffer);
    for (const [index, arg] of args.entries()) {
      const at = 1024 + 16 * index;
      view.setInt32(at, typeof arg === "number" ? 1 : 3, true);
      if (typeof arg === "number") view.setBigInt64(at + 8, BigInt(arg), true);
      else view.setFloat64(at + 8, arg.float, true);
    }
    const launcher: Call = this.#registered.get("wasm.WebGPUCreateShader")!(JSON.stringify(info), code);
    launcher(0, 1024, args.length, 0);
  }
}

const scenes = {
  /** A write to what a launch reads takes effect after it; one to another buffer needs no submit of its own. */
  async uploads(scene: Scene) {
    const other = scene.filled(0);
    scene.launch(1);
    scene.device.write(other, 0, all(7));
    const before = counts.submit;
    scene.device.write(scene.addend, 0, all(10));
    scene.launch(1);
    return { submits: [before ?? 0, counts.submit], sum: await scene.value(), other: await scene.value(other) };
  },

  /** Each launch of a step has numbers of its own; those of the step before aren't written again. */
  async scalars(scene: Scene) {
    const step = async (...factors: number[]): Promise<number[]> => {
      scene.device.write(scene.sum, 0, all(0));
      counts = {};
      for (const [index, factor] of factors.entries()) scene.launch(factor, -index);
      return [await scene.value(), counts.writeBuffer ?? 0];
    };
    return [await step(0.5, 2, 4), await step(0.5, 2, 4), await step(0.5, 3, 4)];
  },

  /** A copy takes what the launch before it made, not what the next one makes of it. */
  async copies(scene: Scene) {
    const copied = scene.filled(0);
    scene.launch(3);
    scene.device.copy(scene.sum, 0, copied, 0, BYTES);
    scene.launch(5);
    const [taken, sum] = [await scene.value(copied), await scene.value()];
    return { taken, sum, passes: counts.beginComputePass };
  },

  async steps(scene: Scene) {
    const second = scene.filled(100);
    const step = async (): Promise<number> => {
      for (let launch = 0; launch < 20; launch++) scene.launch(1, 0, launch % 2 ? second : scene.addend);
      return scene.value();
    };
    await step();
    const { createBindGroup } = counts;
    counts = {};
    return { sum: await step(), first: createBindGroup, counts };
  },

  /** More launches in a step than there is room for uniforms. */
  async many(scene: Scene) {
    for (let launch = 0; launch < 3000; launch++) scene.launch(0, launch % 7);
    return scene.value();
  },

  /** What each cell of a launch counted; `width` may be more than WebGPU takes. */
  async dimensions(scene: Scene, [width = 1, height = 1]: number[]) {
    const { device } = scene;
    const cells = device.allocate(4 * width * height);
    const kernel = await device.compileAsync(...COUNT);
    device.launch(kernel, args(cells, width, height, width, 64));
    const found = await scene.words(cells, 4 * width * height, Uint32Array);
    return Array.from({ length: height }, (_, y) => [...new Set(found.slice(y * width, (y + 1) * width))]);
  },

  /** A freed buffer is the next one of its size, with commands that still use it before what comes then. */
  async reuse(scene: Scene) {
    const { device } = scene;
    const temporary = scene.filled(5);
    counts = {};
    scene.launch(1, 0, temporary);
    device.free(temporary);
    const next = scene.filled(7);
    scene.launch(1, 0, next);
    return { sum: await scene.value(), created: counts.createBuffer, groups: counts.createBindGroup };
  },

  /** How many buffers are made for as many of other sizes, which are freed, and again for the same sizes. */
  async bound({ gpu, device }: Scene, sizes: number[]) {
    const before = device.deviceBytes;
    const created = async (): Promise<number> => {
      counts = {};
      const pointers = sizes.map((size) => device.allocate(size));
      for (const pointer of pointers) device.free(pointer);
      await gpu.guard(device.settle());
      return counts.createBuffer ?? 0;
    };
    return { created: [await created(), await created()], inUse: device.deviceBytes - before };
  },

  /** A buffer that is too large to be kept, and freed while commands use it. */
  async freed(scene: Scene) {
    const { device } = scene;
    for (const value of [3, 4]) {
      const large = device.allocate(LARGE);
      device.write(large, 0, all(value));
      scene.launch(1, 0, large);
      device.free(large);
    }
    const sum = await scene.value();
    return { sum, destroyed: counts.destroy };
  },

  /** Launches whose buffers have the same hash: 31 times a number of one and that of the other. */
  async alike(scene: Scene) {
    const buffers = Array.from({ length: 32 }, (_, index) => scene.filled(index));
    const pairs = [
      [0, 31],
      [1, 0],
    ].map((pair) => pair.map((index) => buffers[index] as number));
    for (const pair of pairs) scene.device.launch(scene.add, args(...pair, 1, 1, 1, 64));
    return [await scene.value(buffers[31]), await scene.value(buffers[0])];
  },

  /** Whether a launch makes a bind group again, after as many others as are kept; with buffers freed by then, or not. */
  async forgotten(scene: Scene, [isFreed]: number[]) {
    scene.launch(1);
    for (let other = 1; other <= 1100; other++) {
      const pointer = scene.device.allocate(BYTES + 4 * other);
      scene.launch(0, 0, pointer);
      if (isFreed) scene.device.free(pointer);
    }
    counts = {};
    scene.launch(1);
    const { createBindGroup = 0 } = counts;
    return { sum: await scene.value(), createBindGroup };
  },

  /** Some reads at once, of some places each. */
  async reads(scene: Scene) {
    const { device } = scene;
    const buffer = device.allocate(16);
    device.write(buffer, 0, new Uint8Array(new Uint32Array([1, 2, 3, 4]).buffer));
    const found: number[][] = [];
    for (const offsets of [[12, 0], [4], []]) {
      device.read(buffer, offsets, 4, (read) => found.push([...new Uint32Array(read.slice().buffer)]));
    }
    await device.settle();
    return { found, submits: counts.submit };
  },

  /** Launches and copies as a library's wasm asks for them, before and after its memory grew. */
  async calls({ gpu, device, sum, addend }: Scene) {
    const library = new Library(gpu, device);
    const launch = (): void => library.launch(...ADD, [addend, sum, { float: 0.5 }, -2, 1, 64]);
    launch();
    library.memory.grow(1);
    launch();
    launch();
    new Float32Array(library.memory.buffer, 64, 2).set([7, 8]);
    // Five bytes, of which the last is the first of eight.
    library.call("deviceCopyToGPU", 64, addend, 8, 5);
    library.call("deviceCopyWithinGPU", addend, 8, sum, 4, 4);
    new Float32Array(library.memory.buffer, 128, 3).fill(1);
    // The last byte is 0 either way.
    library.call("deviceCopyFromGPU", sum, 0, 128, 9);
    await gpu.guard(device.settle());
    return { found: [...new Float32Array(library.memory.buffer, 128, 3)], compiled: counts.createComputePipeline };
  },

  async unknown({ gpu, device, addend }: Scene) {
    new Library(gpu, device).launch(...ADD, [addend, 12345, { float: 1 }, 0, 1, 64]);
    return gpu.guard(device.settle()).catch(({ code, message }) => ({ code, message }));
  },

  /** What a device says that has no room for a buffer, even if it refuses to write there before it says why. */
  async full({ gpu, device }: Scene) {
    const pop = GPUDevice.prototype.popErrorScope;
    const refused = new Promise((resolve) => gpu.device.addEventListener("uncapturederror", resolve));
    GPUDevice.prototype.popErrorScope = async function () {
      await pop.call(this);
      await refused;
      return new GPUOutOfMemoryError("no room");
    };
    const pointer = device.allocate(400);
    GPUDevice.prototype.popErrorScope = pop;
    device.write(pointer, 0, new Uint8Array(404));
    await refused;
    return gpu.guard(device.settle()).catch(({ code, message }) => ({ code, message }));
  },
};

const run = async (name: keyof typeof scenes, argument: number[]): Promise<unknown> => {
  const scene = await Scene.open();
  try {
    return await scenes[name](scene, argument);
  } finally {
    scene.gpu.close();
  }
};
Object.assign(globalThis, { run, ready: true });
