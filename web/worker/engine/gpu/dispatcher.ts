/** Gathers a step's commands for the device, and submits them together. */
import { type Allocation, BufferTable } from "./buffers.ts";
import type { Gpu } from "./device.ts";
import { type Arguments, Kernel, type KernelInfo } from "./kernel.ts";
import { Readbacks } from "./readbacks.ts";
import { UniformArena } from "./uniforms.ts";

/** Of one dimension of a launch, as WebGPU guarantees it. */
const MAX_WORKGROUPS = 65_535;

/**
 * Commands take effect in the order of the calls, as if each was done at once: launches and copies wait in one
 * encoder, in one compute pass as far as no copy comes between, and are submitted by `flush` or `settle`, or
 * before a write to what they use.
 */
export class GpuDispatcher {
  readonly #gpu: Gpu;
  readonly #queue: GPUQueue;
  readonly #buffers: BufferTable;
  readonly #uniforms: UniformArena;
  readonly #readbacks: Readbacks;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #pipeline: GPUComputePipeline | null = null;
  /** Number of the commands that are gathered. */
  #batch = 1;
  /** Whether the last thing on the queue is something that comes back. */
  #endsWithReadback = false;
  readonly #offset = new Uint32Array(1);
  readonly #commands: GPUCommandBuffer[] = [];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
    this.#queue = gpu.device.queue;
    this.#buffers = new BufferTable(gpu);
    this.#uniforms = new UniformArena(gpu);
    this.#readbacks = new Readbacks(gpu);
  }

  /** Bytes of the buffers in use on the device. */
  get deviceBytes(): number {
    return this.#buffers.bytes;
  }

  /** A new buffer's pointer, which is never 0; what the buffer holds is undefined. */
  allocate(bytes: number): number {
    return this.#buffers.allocate(bytes);
  }

  free(pointer: number): void {
    this.#buffers.free(pointer, this.#batch);
  }

  /** What `make` returns, and what it allocates. */
  recordAllocations<T>(make: () => T): { made: T; allocations: readonly Allocation[] } {
    return this.#buffers.recordAllocations(make);
  }

  /** Copies bytes to the device; `offset` and their number are multiples of four. */
  write(pointer: number, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    const buffer = this.#buffers.at(pointer);
    // A write goes before all commands that aren't submitted.
    if (buffer.batch === this.#batch) this.flush();
    this.#queue.writeBuffer(buffer.gpu, offset, bytes);
    this.#endsWithReadback = false;
  }

  /** Copies between two buffers; offsets and bytes are multiples of four. */
  copy(from: number, fromOffset: number, to: number, toOffset: number, bytes: number): void {
    const [source, target] = [this.#buffers.at(from), this.#buffers.at(to)];
    this.#endPass().copyBufferToBuffer(source.gpu, fromOffset, target.gpu, toOffset, bytes);
    source.batch = target.batch = this.#batch;
  }

  /**
   * Copies `bytes` from each of `offsets` in a buffer, all multiples of four. `take` gets them one after another
   * before the next `settle` ends, and only for the time of its call.
   */
  read(
    pointer: number,
    offsets: readonly number[],
    bytes: number,
    take: (bytes: Uint8Array<ArrayBuffer>) => void,
  ): void {
    const buffer = this.#buffers.at(pointer);
    this.#readbacks.encode(this.#endPass(), buffer.gpu, offsets, bytes, take);
    buffer.batch = this.#batch;
  }

  /** Compiles a kernel at once. */
  compile(info: KernelInfo, code: string): Kernel {
    return Kernel.compile(this.#gpu.device, this.#uniforms, info, code);
  }

  /** Compiles a kernel without blocking. Rejects with GPUPipelineError if the device's driver refuses it. */
  compileAsync(info: KernelInfo, code: string): Promise<Kernel> {
    return Kernel.compileAsync(this.#gpu.device, this.#uniforms, info, code);
  }

  /** Throws Error for a pointer of no buffer. */
  launch(kernel: Kernel, args: Arguments): void {
    const { extents, scalars, uniformBytes } = kernel.signature;
    if (!this.#uniforms.hasRoom(uniformBytes)) this.flush();
    const group = kernel.bind(this.#buffers, args, this.#batch);
    const workgroups = extent(extents[0], args);
    if (extent(extents[2], args) !== 1) throw new Error("a launch has workgroups in z, which is for those beyond x");
    // The kernel reckons its place from z and x, and passes over what is beyond.
    let x = workgroups;
    let z = 1;
    while (x > MAX_WORKGROUPS) {
      x = Math.ceil(x / 2);
      z *= 2;
    }
    this.#offset[0] = this.#uniforms.add(scalars, args, workgroups - 1);
    const pass = this.#beginPass();
    if (this.#pipeline !== kernel.pipeline) pass.setPipeline((this.#pipeline = kernel.pipeline));
    pass.setBindGroup(0, group, this.#offset, 0, 1);
    pass.dispatchWorkgroups(x, extent(extents[1], args), z);
  }

  /** Submits what was gathered. */
  flush(): void {
    if (!this.#encoder) return;
    const encoder = this.#endPass();
    this.#uniforms.write();
    this.#commands[0] = encoder.finish();
    this.#queue.submit(this.#commands);
    this.#encoder = null;
    this.#batch += 1;
    this.#endsWithReadback = this.#readbacks.begin();
    this.#buffers.destroyDoomed();
  }

  /** Submits what was gathered and waits until the device has done all of it, and what was read is taken. */
  async settle(): Promise<void> {
    this.flush();
    const { arrived } = this.#readbacks;
    await (this.#endsWithReadback ? arrived : Promise.all([arrived, this.#queue.onSubmittedWorkDone()]));
  }

  #beginPass(): GPUComputePassEncoder {
    this.#encoder ??= this.#gpu.device.createCommandEncoder();
    return (this.#pass ??= this.#encoder.beginComputePass());
  }

  /** The encoder, for commands outside of passes. */
  #endPass(): GPUCommandEncoder {
    this.#pass?.end();
    this.#pass = this.#pipeline = null;
    return (this.#encoder ??= this.#gpu.device.createCommandEncoder());
  }
}

function extent(position: number | null | undefined, args: Arguments): number {
  return position == null ? 1 : args.integer(position);
}
