/** A library's decode steps with kernels that do nothing, through the engine's dispatcher or tvmjs's. */
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
/** How TVM reaches the device. */
interface Way {
  compile(info: KernelInfo, code: string): Promise<PackedFunc>;
  write(tensor: Tensor, token: number): void;
  settle(): Promise<void>;
}

export const WAYS = {
  ours(tvm: Instance, gpu: Gpu): Way {
    const dispatcher = new GpuDispatcher(gpu);
    const api = new DeviceApi(tvm, gpu, dispatcher);
    return {
      compile: (info, code) => api.launcher(info, code),
      write: (tensor, token) => dispatcher.write(tensor.getDataPtr(), 0, new Uint8Array(Int32Array.of(token).buffer)),
      settle: () => dispatcher.settle(),
    };
  },
  tvmjs(tvm: Instance, gpu: Gpu): Way {
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

export interface Opened {
  /** Forgets all tokens. */
  begin(): void;
  /** Reads a prompt of so many tokens. */
  read(tokens: number): Promise<void>;
  /** Decodes a token. */
  step(): Promise<void>;
}

/** Opens a library for texts of so many tokens; `note` is told of each kernel as it is with its work. */
export async function open(
  name: keyof typeof WAYS,
  library: ArrayBuffer,
  tokens: number,
  note: (info: KernelInfo, code: string) => void = () => undefined,
): Promise<Opened> {
  const target = { name, needs: { features: [], limits: {}, minima: {} } };
  const gpu = await Gpu.open(await findAdapter(), target as never, console.error);
  const tvm = await instantiate(library, createPolyfillWASI(), console.debug);
  const way = WAYS[name](tvm, gpu);
  // What is made here lives as long as the page.
  tvm.beginScope();
  const vm = tvm.createVirtualMachine(tvm.webgpu());
  const metadata = parseMetadata(vm.getFunction("_metadata")() as string);
  await compileAll(way, vm.getInternalModule(), note);
  const weights = metadata.params.map(({ shape, dtype }) => tvm.empty([...shape], dtype, tvm.webgpu()));
  const parameters = tvm.makeTVMArray(weights);
  const sizes = [1, tokens, metadata.prefill_chunk_size, PAGE_TOKENS, 0];
  const kv = vm.getFunction("create_tir_paged_kv_cache")(...sizes.map((size) => tvm.makeShapeTuple([size])));
  const [embed, decode, prefill] = [vm.getFunction("embed"), vm.getFunction("decode"), vm.getFunction("prefill")];
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
  const read = async (count: number): Promise<void> => {
    for (let done = 0; done < count; done += metadata.prefill_chunk_size) {
      const length = Math.min(count - done, metadata.prefill_chunk_size);
      tvm.withNewScope(() => {
        const embedded = embed(tvm.empty([length], "int32", tvm.webgpu()), parameters) as Tensor;
        enter!(kv, tvm.makeShapeTuple([SEQUENCE]), tvm.makeShapeTuple([length]));
        prefill(embedded.view([1, length, embedded.shape[1]!]), kv, parameters);
        leave!(kv);
      });
      await way.settle();
    }
  };
  const begin = (): void => {
    remove!(kv, tvm.scalar(SEQUENCE, "int64"));
    add!(kv, tvm.scalar(SEQUENCE, "int64"));
  };
  return { begin, read, step };
}

async function compileAll(
  way: Way,
  library: Module,
  note: (info: KernelInfo, code: string) => void,
): Promise<void> {
  const get = (name: string): PackedFunc => library.getFunction(`webgpu.${name}`, true);
  const [shader, use] = [get("get_shader"), get("update_prebuild")];
  const infos = Object.values(JSON.parse(get("get_fmap")() as string) as Record<string, KernelInfo>);
  for (const info of infos) {
    const code = shader(info.name) as string;
    note(info, code);
    use(info.name, await way.compile(info, emptied(info, code)));
  }
}
