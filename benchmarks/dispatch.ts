/** A decode step's commands, through the engine's dispatcher and through tvmjs's, for kernels that do nothing. */
import {
  createPolyfillWASI,
  type Instance,
  instantiate,
  type Module,
  type PackedFunc,
  type Tensor,
  type TVMArray,
} from "@mlc-ai/web-runtime";
import { findAdapter, Gpu } from "../web/worker/engine/gpu/device.ts";
import { GpuDispatcher } from "../web/worker/engine/gpu/dispatcher.ts";
import type { KernelInfo } from "../web/worker/engine/gpu/kernel.ts";
import { DeviceApi } from "../web/worker/engine/gpu/tvm.ts";
import { parseMetadata } from "../web/worker/engine/metadata.ts";

const PAGE_TOKENS = 16;
const SEQUENCE = 0;
const SETTLING_STEPS = 10;
const COUNTED: [{ prototype: object }, string[]][] = [
  [GPUDevice, ["createBindGroup", "createBuffer"]],
  [GPUQueue, ["submit", "writeBuffer"]],
  [GPUCommandEncoder, ["beginComputePass"]],
  [GPUComputePassEncoder, ["dispatchWorkgroups"]],
];

/** How TVM reaches the device. */
interface Way {
  compile(info: KernelInfo, code: string): Promise<PackedFunc>;
  write(tensor: Tensor, token: number): void;
  settle(): Promise<void>;
}

const WAYS: Record<string, (tvm: Instance, gpu: Gpu) => Way> = {
  ours(tvm, gpu) {
    const dispatcher = new GpuDispatcher(gpu);
    const api = new DeviceApi(tvm, gpu, dispatcher);
    return {
      compile: (info, code) => api.launcher(info, code),
      write: (tensor, token) => dispatcher.write(tensor.getDataPtr(), 0, new Uint8Array(Int32Array.of(token).buffer)),
      settle: () => dispatcher.settle(),
    };
  },
  tvmjs(tvm, gpu) {
    tvm.initWebGPU(gpu.device);
    // Private in its types.
    const { lib } = tvm as unknown as { lib: { webGPUContext: { createShaderAsync: Way["compile"] } } };
    return {
      compile: (info, code) => lib.webGPUContext.createShaderAsync(info, code),
      write: (tensor, token) => void tensor.copyFrom([token]),
      settle: () => tvm.webgpu().sync(),
    };
  },
};

/** The kernel with its bindings and without its work. */
function emptied({ name }: KernelInfo, code: string): string {
  const end = code.indexOf(") {", code.indexOf(`fn ${name}(`));
  if (end < 0) throw new Error(`${name} isn't the kernel that it was taken for`);
  return `${code.slice(0, end)}) {}`;
}

interface Opened {
  /** Forgets all tokens. */
  begin(): void;
  /** Decodes a token. */
  step(): Promise<void>;
}

async function open(name: string, library: ArrayBuffer, steps: number): Promise<Opened> {
  const target = { name, needs: { features: [], limits: {}, minima: {} } };
  const gpu = await Gpu.open(await findAdapter(), target as never, console.error);
  const tvm = await instantiate(library, createPolyfillWASI(), console.debug);
  const way = WAYS[name]!(tvm, gpu);
  // What is made here lives as long as the page.
  tvm.beginScope();
  const vm = tvm.createVirtualMachine(tvm.webgpu());
  const metadata = parseMetadata(vm.getFunction("_metadata")() as string);
  await compileAll(way, vm.getInternalModule());
  const weights = metadata.params.map(({ shape, dtype }) => tvm.empty([...shape], dtype, tvm.webgpu()));
  const parameters = tvm.makeTVMArray(weights);
  const sizes = [1, steps + PAGE_TOKENS, metadata.prefill_chunk_size, PAGE_TOKENS, 0];
  const kv = vm.getFunction("create_tir_paged_kv_cache")(...sizes.map((size) => tvm.makeShapeTuple([size])));
  const [embed, decode] = [vm.getFunction("embed"), vm.getFunction("decode")];
  const state = (call: string): PackedFunc => tvm.getGlobalFunc(`vm.builtin.kv_state_${call}`);
  const [add, remove, enter, leave] = ["add_sequence", "remove_sequence", "begin_forward", "end_forward"].map(state);
  const token = tvm.empty([1], "int32", tvm.webgpu());
  const vocabulary = Number(metadata.model_config.vocab_size);
  const logits = tvm.empty([1, 1, vocabulary], "float32", tvm.cpu());
  add!(kv, tvm.scalar(SEQUENCE, "int64"));
  const step = (): Promise<void> => {
    tvm.withNewScope(() => {
      way.write(token, 5);
      const embedded = embed(token, parameters) as Tensor;
      enter!(kv, tvm.makeShapeTuple([SEQUENCE]), tvm.makeShapeTuple([1]));
      const outputs = decode(embedded.view([1, 1, embedded.shape[1]!]), kv, parameters) as TVMArray;
      leave!(kv);
      logits.copyFrom(outputs.get(0) as Tensor);
    });
    return way.settle();
  };
  const begin = (): void => {
    remove!(kv, tvm.scalar(SEQUENCE, "int64"));
    add!(kv, tvm.scalar(SEQUENCE, "int64"));
  };
  return { begin, step };
}

async function compileAll(way: Way, library: Module): Promise<void> {
  const get = (name: string): PackedFunc => library.getFunction(`webgpu.${name}`, true);
  const [shader, use] = [get("get_shader"), get("update_prebuild")];
  const infos = Object.values(JSON.parse(get("get_fmap")() as string) as Record<string, KernelInfo>);
  for (const info of infos) use(info.name, await way.compile(info, emptied(info, shader(info.name) as string)));
}

/** How often each of WebGPU's functions is called in a step. */
async function count({ begin, step }: Opened): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const undo: (() => void)[] = [];
  for (const [type, names] of COUNTED) {
    const prototype = type.prototype as Record<string, (...args: unknown[]) => unknown>;
    for (const name of names) {
      const original = prototype[name]!;
      counts[name] = 0;
      prototype[name] = function (...args) {
        counts[name]! += 1;
        return original.apply(this, args);
      };
      undo.push(() => (prototype[name] = original));
    }
  }
  begin();
  await step();
  for (const restore of undo) restore();
  return counts;
}

const opened = new Map<string, Opened>();

Object.assign(globalThis, {
  /** Opens the library each way, for so many steps in a round, and counts a step's calls. */
  async prepare(url: string, steps: number) {
    const library = await (await fetch(url)).arrayBuffer();
    const calls: Record<string, Record<string, number>> = {};
    for (const name of Object.keys(WAYS)) {
      const way = await open(name, library, steps);
      opened.set(name, way);
      // TVM's temporaries take turns for some steps.
      for (let done = 0; done < SETTLING_STEPS; done++) await way.step();
      calls[name] = await count(way);
    }
    return calls;
  },

  async round(name: string, steps: number) {
    const { begin, step } = opened.get(name)!;
    begin();
    for (let done = 0; done < steps; done++) await step();
  },

  ready: true,
});
