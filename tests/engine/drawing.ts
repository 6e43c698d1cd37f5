/** Draws the tokens of golden cases with a library's functions on the page's device. */
import { createPolyfillWASI, instantiate, type Instance, type VirtualMachine } from "@mlc-ai/web-runtime";
import { DeviceDraws } from "../../web/worker/engine/device-draws.ts";
import { findAdapter, Gpu } from "../../web/worker/engine/gpu/device.ts";
import { GpuDispatcher } from "../../web/worker/engine/gpu/dispatcher.ts";
import { DeviceApi } from "../../web/worker/engine/gpu/tvm.ts";
import { type Sample, Sampler } from "../../web/worker/engine/sampler.ts";
import { logits, type Rows } from "../golden/logits.ts";
import { samplingOf } from "../golden/sampling.ts";

interface Case {
  readonly rows: Rows;
  readonly settings: object;
  readonly seed: number;
  readonly choice: number;
  readonly samples: readonly unknown[];
}

let submits = 0;
const submit = GPUQueue.prototype.submit;
GPUQueue.prototype.submit = function (...commands) {
  submits += 1;
  return submit.apply(this, commands);
};

class Library {
  readonly #tvm: Instance;
  readonly #gpu: Gpu;
  readonly #device: GpuDispatcher;
  readonly #draws: DeviceDraws;
  readonly #vocabSize: number;

  static async open(url: string, vocabSize: number): Promise<Library> {
    const needs = { features: [], limits: {}, adapter: {} };
    const gpu = await Gpu.open(await findAdapter(), { name: "page", needs } as never, () => undefined);
    const library = await (await fetch(url)).arrayBuffer();
    return new Library(await instantiate(library, createPolyfillWASI(), console.debug), gpu, vocabSize);
  }

  private constructor(tvm: Instance, gpu: Gpu, vocabSize: number) {
    this.#tvm = tvm;
    this.#gpu = gpu;
    this.#vocabSize = vocabSize;
    this.#device = new GpuDispatcher(gpu);
    new DeviceApi(tvm, gpu, this.#device);
    tvm.beginScope();
    const vm: VirtualMachine = tvm.detachFromCurrentScope(tvm.createVirtualMachine(tvm.webgpu()));
    this.#draws = new DeviceDraws(tvm, this.#device, vm, vocabSize);
    tvm.endScope();
  }

  async sample(row: Float32Array, sampler: Sampler): Promise<Sample> {
    const request = sampler.request(row.length);
    // What belongs to no token is never a number.
    const all = new Float32Array(this.#vocabSize).fill(NaN);
    all.set(row);
    const drawn = this.#tvm.withNewScope(() => {
      const tensor = this.#tvm.empty([1, 1, all.length], "float32", this.#tvm.webgpu());
      this.#device.write(tensor.getDataPtr(), 0, new Uint8Array(all.buffer));
      return this.#draws.launch(tensor, request);
    });
    await this.#gpu.guard(this.#device.settle());
    return sampler.sample(drawn());
  }
}

let library: Library;

Object.assign(globalThis, {
  open: async (url: string, vocabSize: number): Promise<void> => {
    library = await Library.open(url, vocabSize);
  },
  /** Of each step [token, logprob, top], or null where the sampler refuses; and how often commands were submitted. */
  drawAll: async ({ rows, settings, seed, choice, samples }: Case, prompt: number[]): Promise<unknown> => {
    const sampling = samplingOf(settings);
    const sampler = new Sampler(sampling, seed, choice, prompt);
    submits = 0;
    const found = [];
    for (const step of samples.keys()) {
      const drawn = await library.sample(logits(rows, step), sampler).catch((error: { code?: string }) => {
        if (error.code !== "internal") throw error;
        return null;
      });
      found.push(drawn && [drawn.id, drawn.logprob, drawn.top.map(({ id, logprob }) => [id, logprob])]);
    }
    return { found, submits };
  },
  ready: true,
});
