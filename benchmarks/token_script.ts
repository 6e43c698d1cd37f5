/** Answers by the engine's own parts, on a library whose kernels do nothing. */
import { Chunks } from "../web/worker/engine/completion.ts";
import { Generation } from "../web/worker/engine/generation.ts";
import { findAdapter, Gpu } from "../web/worker/engine/gpu/device.ts";
import { ModelRunner } from "../web/worker/engine/model-runner.ts";
import { parseRequest } from "../web/worker/engine/request.ts";
import { Sequence } from "../web/worker/engine/sequence.ts";
import { Vocabulary } from "../web/worker/engine/vocabulary.ts";

const WARM_TOKENS = 30;
const PROMPT = Array.from({ length: 20 }, (_, id) => id + 1);
const LIMITS = { maxStorageBufferBindingSize: 2 ** 29, maxBufferSize: 2 ** 29 };
const DEFAULTS = {
  ...{ temperature: 0.7, topP: 0.95, topK: 40, minP: 0 },
  ...{ presencePenalty: 0, frequencyPenalty: 0, repetitionPenalty: 1 },
};
const going = new AbortController().signal;

/** Shaders keep their bindings, and lose their work. */
const { createShaderModule } = GPUDevice.prototype;
GPUDevice.prototype.createShaderModule = function ({ code }) {
  const end = code.indexOf(") {", code.lastIndexOf("@compute"));
  return createShaderModule.call(this, { code: `${code.slice(0, end)}) {}` });
};
/** One workgroup each: thousands that do nothing are work for a device that is the CPU. */
const { dispatchWorkgroups } = GPUComputePassEncoder.prototype;
GPUComputePassEncoder.prototype.dispatchWorkgroups = function () {
  dispatchWorkgroups.call(this, 1);
};

let runner: ModelRunner;
let sequence: Sequence;
let vocabulary: Vocabulary;

/** Writes so many tokens as a stream, in the way that a request asks for. */
async function answer(params: object, tokens: number): Promise<void> {
  const vocabSize = vocabulary.size;
  const model = { id: "model", vocabSize, defaults: DEFAULTS };
  const messages = [{ role: "user" as const, content: "Hello" }];
  const request = parseRequest({ messages, max_tokens: tokens, ignore_eos: true, ...params }, model);
  const generation = new Generation(
    {
      ...{ request, vocabulary, activeVocabSize: vocabSize, stopTokens: new Set<number>() },
      ...{ contextWindowSize: runner.metadata.context_window_size, prompt: PROMPT, seed: 1, deterministic: false },
    },
    0,
  );
  const chunks = new Chunks("model", { logprobs: request.sampling.logprobs !== null, usage: false });
  while (!generation.finished) {
    const { logits } = await sequence.drawAfter(generation, going);
    for (const _chunk of chunks.of(generation.accept(logits)));
  }
}

Object.assign(globalThis, {
  answer,
  async prepare(url: string, vocabSize: number): Promise<void> {
    const target = { name: "page", needs: { features: [], limits: LIMITS, adapter: {} } };
    const gpu = await Gpu.open(await findAdapter(), target as never, console.error);
    runner = await ModelRunner.open(await (await fetch(url)).arrayBuffer(), gpu);
    await runner.createPipelines(() => undefined);
    for (const parameter of runner.metadata.params) runner.allocate(parameter);
    runner.finishUpload(vocabSize);
    sequence = new Sequence(runner);
    const pieces = Array.from({ length: vocabSize }, (_, id) => [`Ġ${id}`, id] as const);
    vocabulary = new Vocabulary({
      decoder: { type: "ByteLevel" },
      model: { type: "BPE", vocab: Object.fromEntries(pieces) },
    });
    await answer({}, WARM_TOKENS);
  },
  ready: true,
});
