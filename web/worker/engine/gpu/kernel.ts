/** A compiled kernel: what its arguments are for, and the bind groups it was launched with. */
import type { BufferTable, Dependent, DeviceBuffer } from "./buffers.ts";
import type { Scalar, UniformArena } from "./uniforms.ts";

/** More than any model's layers and temporaries ask for. */
const MAX_BIND_GROUPS = 1024;
const WRITE_ACCESS = "paramWriteAccess:";
const NUMBER = /^(?:u?int|float)\d+$/;

/** As TVM's module describes it. */
export interface KernelInfo {
  readonly name: string;
  readonly arg_types: readonly string[];
  /** For each argument after those: the dimension of the launch it says; and which buffers are written. */
  readonly launch_param_tags: readonly string[];
}

/** Of one launch, by position. */
export interface Arguments {
  /** A pointer, an extent of the launch, or a number of an integer type. */
  integer(position: number): number;
  float(position: number): number;
}

/** Which argument is what. */
export class Signature {
  /** Positions of pointers, in the order of their bindings. */
  readonly buffers: readonly number[];
  readonly isWritten: readonly boolean[];
  readonly scalars: readonly Scalar[];
  /** Positions of the number of workgroups in x, y and z; null where it is 1. */
  readonly extents: readonly (number | null)[];

  /** Throws Error for what no kernel for WebGPU has. */
  constructor({ name, arg_types: types, launch_param_tags: tags }: KernelInfo) {
    const position = types.map((type, index) => ({ type, index }));
    const scalars = position.filter(({ type }) => type !== "handle");
    const unknown = scalars.find(({ type }) => !NUMBER.test(type));
    if (unknown) throw new Error(`the kernel ${name} has an argument of type ${unknown.type}`);
    this.buffers = position.filter(({ type }) => type === "handle").map(({ index }) => index);
    this.scalars = scalars.map(({ type, index }) => ({ position: index, isFloat: type.startsWith("float") }));
    const access = tags.find((tag) => tag.startsWith(WRITE_ACCESS))?.slice(WRITE_ACCESS.length) ?? "[]";
    this.isWritten = (JSON.parse(access) as number[]).map(Boolean);
    if (this.isWritten.length !== this.buffers.length) {
      throw new Error(`the kernel ${name} has ${this.buffers.length} buffers and access to ${access}`);
    }
    const axes = tags.filter((tag) => !tag.startsWith(WRITE_ACCESS));
    const strange = axes.find((tag) => !/^(?:block|thread)Idx\.[xyz]$/.test(tag));
    if (strange) throw new Error(`the kernel ${name} is launched by ${strange}`);
    this.extents = ["x", "y", "z"].map((axis) => {
      const index = axes.indexOf(`blockIdx.${axis}`);
      return index < 0 ? null : types.length + index;
    });
  }

  /** The uniforms come after the buffers, each launch's at an offset of its own. */
  layout(device: GPUDevice): GPUBindGroupLayout {
    const visibility = GPUShaderStage.COMPUTE;
    const entries: GPUBindGroupLayoutEntry[] = this.isWritten.map((isWritten, binding) => ({
      binding,
      visibility,
      buffer: { type: isWritten ? "storage" : "read-only-storage" },
    }));
    const uniforms: GPUBufferBindingLayout = {
      type: "uniform",
      hasDynamicOffset: true,
      minBindingSize: this.uniformBytes,
    };
    return device.createBindGroupLayout({
      entries: [...entries, { binding: entries.length, visibility, buffer: uniforms }],
    });
  }

  /** The scalars and the place of the last workgroup, four bytes each. */
  get uniformBytes(): number {
    return 4 * (this.scalars.length + 1);
  }
}

class Binding implements Dependent {
  readonly buffers: readonly DeviceBuffer[];
  readonly group: GPUBindGroup;
  /** With the same hash. */
  next: Binding | undefined;
  readonly #forget: (binding: Binding) => void;

  constructor(buffers: readonly DeviceBuffer[], group: GPUBindGroup, forget: (binding: Binding) => void) {
    this.buffers = buffers;
    this.group = group;
    this.#forget = forget;
    for (const buffer of buffers) buffer.dependents.add(this);
  }

  drop(): void {
    for (const buffer of this.buffers) buffer.dependents.delete(this);
    this.#forget(this);
  }
}

export class Kernel {
  readonly signature: Signature;
  readonly pipeline: GPUComputePipeline;
  readonly #device: GPUDevice;
  readonly #layout: GPUBindGroupLayout;
  readonly #uniforms: GPUBufferBinding;
  readonly #bindings = new Map<number, Binding>();
  #bound = 0;
  /** Of the launch that is being bound. */
  readonly #operands: DeviceBuffer[] = [];

  /** Throws Error, or DOMException, for a kernel that the device can't run. */
  static compile(device: GPUDevice, uniforms: UniformArena, info: KernelInfo, code: string): Kernel {
    const { signature, layout, descriptor } = described(device, info, code);
    return new Kernel(device, uniforms, signature, layout, device.createComputePipeline(descriptor));
  }

  /** Without blocking. Rejects with GPUPipelineError for a kernel that the device's driver refuses. */
  static async compileAsync(device: GPUDevice, uniforms: UniformArena, info: KernelInfo, code: string): Promise<Kernel> {
    const { signature, layout, descriptor } = described(device, info, code);
    const pipeline = await device.createComputePipelineAsync(descriptor);
    return new Kernel(device, uniforms, signature, layout, pipeline);
  }

  private constructor(
    device: GPUDevice,
    uniforms: UniformArena,
    signature: Signature,
    layout: GPUBindGroupLayout,
    pipeline: GPUComputePipeline,
  ) {
    this.signature = signature;
    this.pipeline = pipeline;
    this.#device = device;
    this.#layout = layout;
    this.#uniforms = { buffer: uniforms.buffer, size: signature.uniformBytes };
  }

  /** The bind group for a launch's buffers, which `batch` uses from now on; the same as for an earlier launch. */
  bind(table: BufferTable, args: Arguments, batch: number): GPUBindGroup {
    const { buffers } = this.signature;
    const operands = this.#operands;
    let hash = 0;
    // By index: a launch leaves nothing for the garbage collector.
    for (let index = 0; index < buffers.length; index++) {
      const buffer = table.at(args.integer(buffers[index] as number));
      buffer.batch = batch;
      operands[index] = buffer;
      hash = (Math.imul(hash, 31) + buffer.id) | 0;
    }
    for (let known = this.#bindings.get(hash); known; known = known.next) {
      if (this.#isOf(known)) return known.group;
    }
    return this.#add(hash).group;
  }

  #isOf({ buffers }: Binding): boolean {
    for (let index = 0; index < buffers.length; index++) {
      if (buffers[index] !== this.#operands[index]) return false;
    }
    return true;
  }

  #add(hash: number): Binding {
    if (this.#bound >= MAX_BIND_GROUPS) this.#dropAll();
    const resources: GPUBufferBinding[] = [...this.#operands.map(({ gpu }) => ({ buffer: gpu })), this.#uniforms];
    const entries = resources.map((resource, binding) => ({ binding, resource }));
    const group = this.#device.createBindGroup({ layout: this.#layout, entries });
    const binding = new Binding([...this.#operands], group, (dropped) => this.#forget(hash, dropped));
    binding.next = this.#bindings.get(hash);
    this.#bindings.set(hash, binding);
    this.#bound += 1;
    return binding;
  }

  #forget(hash: number, dropped: Binding): void {
    this.#bound -= 1;
    const first = this.#bindings.get(hash);
    if (first !== dropped) {
      let before = first;
      while (before && before.next !== dropped) before = before.next;
      if (before) before.next = dropped.next;
    } else if (dropped.next) {
      this.#bindings.set(hash, dropped.next);
    } else {
      this.#bindings.delete(hash);
    }
  }

  #dropAll(): void {
    for (const first of [...this.#bindings.values()]) {
      for (let binding: Binding | undefined = first; binding; binding = binding.next) binding.drop();
    }
  }
}

function described(
  device: GPUDevice,
  info: KernelInfo,
  code: string,
): { signature: Signature; layout: GPUBindGroupLayout; descriptor: GPUComputePipelineDescriptor } {
  const signature = new Signature(info);
  const layout = signature.layout(device);
  const compute = { module: device.createShaderModule({ code }), entryPoint: info.name };
  const descriptor = { layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }), compute };
  return { signature, layout, descriptor };
}
