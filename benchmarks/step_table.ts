/** What a library's steps tell a GPU to do, kernel by kernel. */
import { open } from "./steps.ts";

interface Kernel {
  readonly name: string;
  /** Threads of a workgroup. */
  readonly threads: number;
  /** In its code: loops come to them more often. */
  readonly barriers: number;
}

interface Dispatch extends Kernel {
  readonly workgroups: number;
  /** Of all buffers that it may read or write. */
  readonly bytes: number;
}

const kernels = new Map<string, Kernel>();
const names = new WeakMap<object, string>();
const bytes = new WeakMap<object, number>();
let dispatched: Dispatch[] = [];
let current = { name: "", bytes: 0 };

function note({ name }: { name: string }, code: string): void {
  const sizes = /@workgroup_size\((\d+), (\d+), (\d+)\)/.exec(code)?.slice(1).map(Number) ?? [];
  const threads = sizes.reduce((product, size) => product * size, 1);
  kernels.set(name, { name, threads, barriers: code.split("workgroupBarrier()").length - 1 });
}

function noted<T extends object>({ compute }: GPUComputePipelineDescriptor, pipeline: T): T {
  names.set(pipeline, compute.entryPoint ?? "");
  return pipeline;
}

function watch(): void {
  const { createComputePipeline, createComputePipelineAsync, createBindGroup } = GPUDevice.prototype;
  GPUDevice.prototype.createComputePipeline = function (descriptor) {
    return noted(descriptor, createComputePipeline.call(this, descriptor));
  };
  GPUDevice.prototype.createComputePipelineAsync = async function (descriptor) {
    return noted(descriptor, await createComputePipelineAsync.call(this, descriptor));
  };
  GPUDevice.prototype.createBindGroup = function (descriptor) {
    const group = createBindGroup.call(this, descriptor);
    const bound = [...descriptor.entries].map(({ resource }) => resource as GPUBufferBinding);
    const storage = bound.filter(({ buffer }) => (buffer.usage & GPUBufferUsage.UNIFORM) === 0);
    const sizes = storage.map(({ buffer, offset = 0, size = buffer.size - offset }) => size);
    bytes.set(group, sizes.reduce((sum, size) => sum + size, 0));
    return group;
  };
  const { setPipeline, setBindGroup, dispatchWorkgroups } = GPUComputePassEncoder.prototype;
  GPUComputePassEncoder.prototype.setPipeline = function (pipeline) {
    current.name = names.get(pipeline) ?? "";
    setPipeline.call(this, pipeline);
  };
  GPUComputePassEncoder.prototype.setBindGroup = function (...given: unknown[]) {
    current.bytes = bytes.get(given[1] as object) ?? 0;
    (setBindGroup as (...given: unknown[]) => void).apply(this, given);
  };
  GPUComputePassEncoder.prototype.dispatchWorkgroups = function (x, y = 1, z = 1) {
    const kernel = kernels.get(current.name);
    if (kernel) dispatched.push({ ...kernel, workgroups: x * y * z, bytes: current.bytes });
    dispatchWorkgroups.call(this, x, y, z);
  };
}

Object.assign(globalThis, {
  /** The dispatches of a step after `context` tokens. */
  async stepAfter(url: string, context: number): Promise<Dispatch[]> {
    const opened = await open("ours", await (await fetch(url)).arrayBuffer(), context + 1, note);
    await opened.read(context);
    dispatched = [];
    await opened.step();
    return dispatched;
  },
  /** The dispatches of a prompt of so many tokens. */
  async prompt(url: string, tokens: number): Promise<Dispatch[]> {
    const opened = await open("ours", await (await fetch(url)).arrayBuffer(), tokens, note);
    dispatched = [];
    await opened.read(tokens);
    return dispatched;
  },
  ready: true,
});

watch();
