/** The compiled functions of a model and their device. Nothing else touches TVM. */
import {
  createPolyfillWASI,
  instantiate,
  type Instance,
  type PackedFunc,
  type Tensor,
  type TVMArray,
  type VirtualMachine,
} from "@mlc-ai/web-runtime";
import type { Bytes } from "../shared/hash.ts";
import { failedAllocation, type Gpu } from "./gpu/device.ts";
import { GpuDispatcher } from "./gpu/dispatcher.ts";
import { createPipelines } from "./gpu/pipelines.ts";
import { DeviceApi } from "./gpu/tvm.ts";
import { DeviceDraws } from "./device-draws.ts";
import type { DrawSubject } from "./draw-test.ts";
import type { Drawn, DrawRequest } from "./drawing.ts";
import { SELF_TEST_SEQUENCE } from "./kv-cache.ts";
import { KvPages } from "./kv-pages.ts";
import { decodeFloats, encodeFloats, type FloatType } from "./float-types.ts";
import { parseMetadata, type Metadata, type ParameterShape } from "./metadata.ts";
import type { TestSubject } from "./self-test.ts";
import type { Slice } from "./weights.ts";

const MAX_UNSETTLED_BYTES = 16 << 20;
/** Stages whose kernels are compiled before the first answer. */
const FIRST_STAGES = ["prefill", "decode", "kv_cache", "self_test", "drawing"];
const MODEL_FUNCTIONS = ["embed", "prefill", "decode"] as const;

type ModelFunctions = Record<(typeof MODEL_FUNCTIONS)[number], PackedFunc>;

interface UploadedModel {
  functions: ModelFunctions;
  parameters: TVMArray;
  pages: KvPages;
  /** int32[1] on the device: the input of a decode step that the host gives. */
  token: Tensor;
  /** float32[1, 1, vocabulary] on the CPU. */
  logits: Tensor;
  draws: DeviceDraws | null;
}

/**
 * Runs one sequence at a time.
 *
 * TVM's objects live in scopes that are global to the instance, so no scope may span an `await`.
 */
export class ModelRunner implements TestSubject, DrawSubject {
  readonly metadata: Metadata;
  readonly gpu: Gpu;
  readonly #tvm: Instance;
  readonly #device: GpuDispatcher;
  readonly #api: DeviceApi;
  readonly #vm: VirtualMachine;
  #model: UploadedModel | null = null;
  readonly #tensors = new Map<ParameterShape, Tensor>();
  #unsettledBytes = 0;
  #distrustsDraws = false;

  /** Starts the library's wasm on the device. */
  static async open(library: ArrayBuffer, gpu: Gpu): Promise<ModelRunner> {
    const log = (text: string): void => console.debug(text);
    const tvm = await instantiate(library, createPolyfillWASI(), log).catch((error: unknown) => {
      throw failedAllocation(error);
    });
    return new ModelRunner(tvm, gpu);
  }

  private constructor(tvm: Instance, gpu: Gpu) {
    this.#tvm = tvm;
    this.gpu = gpu;
    this.#device = new GpuDispatcher(gpu);
    this.#api = new DeviceApi(tvm, gpu, this.#device);
    tvm.beginScope();
    try {
      this.#vm = tvm.detachFromCurrentScope(tvm.createVirtualMachine(tvm.webgpu()));
      this.metadata = parseMetadata(this.#vm.getFunction("_metadata")() as string);
    } finally {
      tvm.endScope();
    }
  }

  /** Compiles the kernels of all stages that every answer needs. */
  async createPipelines(onReady: (done: number, total: number) => void): Promise<void> {
    const kernels = new Set(FIRST_STAGES.flatMap((stage) => this.metadata.kernels[stage] ?? []));
    const created = createPipelines(this.#tvm, this.#api, this.#vm.getInternalModule(), { kernels, onReady });
    await this.gpu.guard(created);
  }

  /** Makes room on the device for one parameter. */
  allocate(parameter: ParameterShape): void {
    const { shape, dtype } = parameter;
    const tvm = this.#tvm;
    tvm.withNewScope(() => {
      this.#tensors.set(parameter, tvm.detachFromCurrentScope(tvm.empty([...shape], dtype, tvm.webgpu())));
    });
  }

  /**
   * Copies a piece of an allocated parameter to the device; its bytes have the parameter's type.
   * Await it before the next: it waits where many bytes are on their way, which all take memory.
   */
  async upload(parameter: ParameterShape, { offset, bytes }: Slice): Promise<void> {
    if (offset % 4 !== 0 || bytes.length % 4 !== 0) {
      throw new Error(`WebGPU copies four bytes at a time, and a piece of ${parameter.name} doesn't end there`);
    }
    const tensor = this.#tensors.get(parameter);
    if (!tensor) throw new Error(`${parameter.name} isn't allocated`);
    this.#device.write(tensor.getDataPtr(), offset, bytes);
    this.#unsettledBytes += bytes.length;
    if (this.#unsettledBytes >= MAX_UNSETTLED_BYTES) await this.settle();
  }

  /** Waits until the device has done all it was told. */
  async settle(): Promise<void> {
    this.#unsettledBytes = 0;
    await this.gpu.guard(this.#device.settle());
  }

  /** Makes the model ready, once all parameters are uploaded. */
  finishUpload(vocabSize: number): void {
    const tvm = this.#tvm;
    const { params } = this.metadata;
    tvm.beginScope();
    try {
      const keep = <T extends { dispose(): void }>(value: T): T => tvm.detachFromCurrentScope(value);
      const found = MODEL_FUNCTIONS.map((name) => [name, keep(this.#vm.getFunction(name))]);
      this.#model = {
        functions: Object.fromEntries(found) as ModelFunctions,
        parameters: keep(tvm.makeTVMArray(params.map((each) => this.#tensors.get(each)))),
        pages: new KvPages(tvm, this.#device, this.#vm.getFunction("create_tir_paged_kv_cache"), this.metadata),
        token: keep(tvm.empty([1], "int32", tvm.webgpu())),
        logits: keep(tvm.empty([1, 1, vocabSize], "float32", tvm.cpu())),
        draws: this.draws ? new DeviceDraws(tvm, this.#device, this.#vm, vocabSize) : null,
      };
    } finally {
      tvm.endScope();
    }
    for (const tensor of this.#tensors.values()) tensor.dispose();
    this.#tensors.clear();
  }

  /** Sequences in the KV cache, which `forward` lets grow. */
  get sequences(): KvPages {
    return this.#ready.pages;
  }

  /** Keys and values of a sequence, layer by layer. */
  async *readState(sequence: number): AsyncGenerator<Bytes, void> {
    const { pages } = this.#ready;
    for (let layer = 0; layer < pages.layers; layer++) {
      yield await this.gpu.guard(pages.read(sequence, layer));
    }
  }

  /** The same for another sequence of as many tokens, which must be reserved. */
  async writeState(sequence: number, layers: AsyncIterable<Bytes>): Promise<void> {
    const { pages } = this.#ready;
    let layer = 0;
    for await (const bytes of layers) {
      pages.write(sequence, layer++, bytes);
      await this.settle();
    }
    if (layer !== pages.layers) throw new Error(`${layer} layers came of ${pages.layers}`);
  }

  /**
   * Appends tokens to a sequence, at most a prefill chunk. As `forward` and `draw` do, it hands the device the step
   * before it returns, and settles when the device has done it: several may be under way.
   */
  async append(tokens: readonly number[], sequence: number): Promise<void> {
    await this.#step(tokens, sequence, () => () => undefined);
  }

  /** The same with the logits float32[vocabulary] after the last token; one at a time. */
  async forward(tokens: readonly number[], sequence: number): Promise<Float32Array> {
    const { logits } = this.#ready;
    return this.#step(tokens, sequence, (found) => {
      logits.copyFrom(found);
      return () => logits.toArray() as Float32Array;
    });
  }

  /** Whether tokens are drawn on the device. */
  get draws(): boolean {
    return this.metadata.draws === true && !this.#distrustsDraws;
  }

  /** Leaves drawing to the host from now on. */
  distrustDraws(): void {
    this.#distrustsDraws = true;
  }

  async drawBy(logits: Float32Array<ArrayBuffer>, request: DrawRequest): Promise<Drawn> {
    const drawn = this.#tvm.withNewScope(() => {
      const tensor = this.#tvm.empty([1, 1, logits.length], "float32", this.#tvm.webgpu());
      this.#write(tensor, new Uint8Array(logits.buffer));
      return this.#draws.launch(tensor, request);
    });
    await this.gpu.guard(this.#device.settle());
    return drawn();
  }

  /** The same where the device draws a token by the logits, which stay there; null appends the one that it drew last. */
  async draw(tokens: readonly number[] | null, sequence: number, request: DrawRequest): Promise<Drawn> {
    return this.#step(tokens, sequence, (found) => this.#draws.launch(found, request));
  }

  async run(
    name: string,
    lead: readonly number[],
    inputs: readonly Float64Array[],
  ): Promise<Float32Array[]> {
    const tvm = this.#tvm;
    const results = tvm.withNewScope(() => {
      const count = lead.reduce((product, extent) => product * extent, 1);
      const tensors = inputs.map((rows) => this.#onDevice([...lead, rows.length / count], rows));
      const found = this.#vm.getFunction(name)(...tensors, this.#ready.parameters) as TVMArray;
      return Array.from({ length: found.size() }, (_, n) => this.#toCpu(found.get(n) as Tensor));
    });
    return this.#read(results);
  }

  async embed(ids: readonly number[]): Promise<Float32Array> {
    const tvm = this.#tvm;
    const rows = tvm.withNewScope(() => {
      const { functions, parameters } = this.#ready;
      const tensor = tvm.empty([ids.length], "int32", tvm.webgpu());
      this.#write(tensor, new Uint8Array(Int32Array.from(ids).buffer));
      return this.#toCpu(functions.embed(tensor, parameters) as Tensor);
    });
    return (await this.#read([rows]))[0] ?? new Float32Array();
  }

  async attend(steps: readonly Float64Array[]): Promise<Float32Array> {
    const { num_attention_heads: heads, num_key_value_heads: kvHeads } = this.metadata.kv_cache;
    const width = (heads + 2 * kvHeads) * this.metadata.kv_cache.head_dim;
    const { pages } = this.#ready;
    pages.addSequence(SELF_TEST_SEQUENCE);
    const last = this.#tvm.withNewScope(() => {
      const attend = this.#vm.getFunction("self_test_attention");
      const outputs = steps.map((rows) => {
        const count = rows.length / width;
        const input = this.#onDevice([1, count, width], rows);
        pages.beginStep(SELF_TEST_SEQUENCE, count);
        const output = attend(input, pages.object) as Tensor;
        pages.endStep();
        return output;
      });
      return this.#toCpu(outputs.at(-1) as Tensor);
    });
    const [output] = await this.#read([last]);
    pages.removeSequence(SELF_TEST_SEQUENCE);
    return output ?? new Float32Array();
  }

  /** Bytes allocated on the device, and of the wasm's memory. */
  memory(): { deviceBytes: number; wasmBytes: number } {
    return {
      deviceBytes: this.#device.deviceBytes,
      wasmBytes: this.#tvm.memory.memory.buffer.byteLength,
    };
  }

  dispose(): void {
    this.gpu.close();
    this.#tvm.dispose();
  }

  get #draws(): DeviceDraws {
    const { draws } = this.#ready;
    if (!draws) throw new Error("the library draws no tokens");
    return draws;
  }

  get #ready(): UploadedModel {
    if (!this.#model) throw new Error("the model's parameters aren't uploaded yet");
    return this.#model;
  }

  /** `take` launches what is done with the logits, float32[1, 1, vocabulary]; what it returns has the result. */
  async #step<T>(
    tokens: readonly number[] | null,
    sequence: number,
    take: (logits: Tensor) => () => T,
  ): Promise<T> {
    try {
      const result = this.#launch(tokens, sequence, take);
      await this.gpu.guard(this.#device.settle());
      return result();
    } catch (error) {
      throw await this.gpu.explain(error);
    }
  }

  #launch<T>(tokens: readonly number[] | null, sequence: number, take: (logits: Tensor) => T): T {
    const tvm = this.#tvm;
    const { functions, parameters, pages } = this.#ready;
    const count = tokens?.length ?? 1;
    tvm.beginScope();
    try {
      const ids = tokens ? this.#given(tokens) : this.#draws.token;
      const embedded = functions.embed(ids, parameters) as Tensor;
      const rows = embedded.view([1, count, embedded.shape[1] ?? 0]);
      pages.beginStep(sequence, count);
      const run = count === 1 ? functions.decode : functions.prefill;
      const outputs = run(rows, pages.object, parameters) as TVMArray;
      pages.endStep();
      return take(outputs.get(0) as Tensor);
    } finally {
      tvm.endScope();
    }
  }

  /** Token ids on the device; several are attached to the current scope. */
  #given(tokens: readonly number[]): Tensor {
    const single = tokens.length === 1;
    const ids = single ? this.#ready.token : this.#tvm.empty([tokens.length], "int32", this.#tvm.webgpu());
    this.#write(ids, new Uint8Array(Int32Array.from(tokens).buffer));
    return ids;
  }

  /** Numbers in the library's float type, attached to the current scope. */
  #onDevice(shape: number[], values: Float64Array): Tensor {
    const { dtype } = this.metadata;
    const tensor = this.#tvm.empty(shape, dtype, this.#tvm.webgpu());
    this.#write(tensor, encodeFloats(values, dtype));
    return tensor;
  }

  #write(tensor: Tensor, bytes: Bytes): void {
    this.#device.write(tensor.getDataPtr(), 0, bytes);
  }

  /** Begins to copy a tensor of the device; the copy belongs to no scope. */
  #toCpu(tensor: Tensor): Tensor {
    const tvm = this.#tvm;
    const copy = tvm.detachFromCurrentScope(tvm.empty(tensor.shape, tensor.dtype, tvm.cpu()));
    return copy.copyFrom(tensor);
  }

  async #read(copies: readonly Tensor[]): Promise<Float32Array[]> {
    try {
      await this.gpu.guard(this.#device.settle());
      return copies.map((copy) => decodeFloats(copy.toRawBytes(), copy.dtype as FloatType));
    } finally {
      for (const copy of copies) copy.dispose();
    }
  }
}
