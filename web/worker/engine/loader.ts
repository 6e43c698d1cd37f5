/** Brings a bundle onto the device. */
import { EngineError } from "../shared/errors.ts";
import type { Backend, ErrorData, LoadedModel } from "../shared/protocol.ts";
import type { StoredFile } from "../store/stored-file.ts";
import {
  backendOf, type Candidate, deviceOf, first, isCandidate, noneLeft, rank, type TriedOption, type Wanted,
} from "./backends.ts";
import type { Bundle } from "./bundle.ts";
import { readText, type ModelText } from "./files.ts";
import { checkMemory, downloadBytes } from "./fit.ts";
import { checkModel, type ParameterShape } from "./metadata.ts";
import type { ModelRunner } from "./model-runner.ts";
import type { Progress } from "./progress.ts";
import { RUNTIMES } from "./runtime.ts";
import { drawsAsTheHost } from "./draw-test.ts";
import { selfTest } from "./self-test.ts";
import { StoredRows } from "./stored-rows.ts";
import { parseTensors, tensorSlices, type TensorRecord } from "./weights.ts";

export interface LoadContext {
  readonly progress: Progress;
  readonly signal: AbortSignal;
  /** The device went away by itself. */
  readonly onLost: (reason: string) => void;
}

export interface Model {
  readonly bundle: Bundle;
  readonly target: string;
  readonly text: ModelText;
  readonly runner: ModelRunner;
  readonly loaded: LoadedModel;
}

/** After these another backend may do better; what is wrong with the bundle or the network stays wrong. */
const LEADS_ON: ReadonlySet<string> = new Set([
  "self_test_failed", "adapter_unsuitable", "webgpu_unavailable", "device_lost", "out_of_memory", "internal",
]);
const UNKNOWN_ADAPTER = { vendor: "", architecture: "", description: "", isSoftware: false };

/**
 * Loads the first target that works, of those that `wanted` allows and in its order.
 *
 * Throws EngineError of any code that has to do with bundles and devices.
 */
export async function loadModel(bundle: Bundle, wanted: Wanted, context: LoadContext): Promise<Model> {
  context.progress.enter("check");
  const tried: TriedOption[] = [];
  for (const option of await rank(bundle, wanted, RUNTIMES)) {
    const outcome = isCandidate(option) ? await attempt(bundle, option, tried, context) : option.problem;
    if ("runner" in outcome) return outcome;
    tried.push({ option, problem: outcome });
  }
  throw noneLeft(tried);
}

/** The model, or why another backend may do better. */
async function attempt(
  bundle: Bundle,
  candidate: Candidate,
  tried: readonly TriedOption[],
  context: LoadContext,
): Promise<Model | ErrorData> {
  const device = deviceOf(candidate.kind);
  // A device that had no room for the model has none for another target of it.
  const full = tried.find(({ option, problem }) => problem.code === "out_of_memory" && deviceOf(option.kind) === device);
  if (full) return full.problem;
  try {
    return await loadSound(bundle, candidate, tried, context);
  } catch (error) {
    context.signal.throwIfAborted();
    if (!(error instanceof EngineError) || !LEADS_ON.has(error.code)) throw error;
    return error.toData();
  }
}

/** Stored weights that have changed since are as wrong as a device that computes wrong. */
async function loadSound(
  bundle: Bundle,
  candidate: Candidate,
  tried: readonly TriedOption[],
  context: LoadContext,
): Promise<Model> {
  const backend = backendOf(candidate, tried);
  try {
    return await loadTarget(bundle, candidate, backend, context);
  } catch (error) {
    if (!(error instanceof EngineError) || error.code !== "self_test_failed") throw error;
    if (!(await bundle.dropDamaged())) throw error;
    return loadTarget(bundle, candidate, backend, context);
  }
}

async function loadTarget(
  bundle: Bundle,
  candidate: Candidate,
  backend: Backend,
  context: LoadContext,
): Promise<Model> {
  const { progress, signal } = context;
  const { target, runtime } = candidate;
  checkMemory(target);
  progress.expect(downloadBytes(bundle, target));
  progress.enter("download");
  const text = await readText(bundle, progress, signal);
  const { runner, times } = await openRunner(bundle, candidate, text, context);
  progress.enter("ready");
  const loaded = {
    id: bundle.lock.model.id,
    target: target.name,
    contextWindowSize: runner.metadata.context_window_size,
    vocabSize: text.vocabSize,
    sampling: text.sampling,
    adapter: runtime.adapter ?? UNKNOWN_ADAPTER,
    backend,
    bytes: downloadBytes(bundle, target),
    memoryBytes: runner.memory().deviceBytes,
    ...times,
  };
  return { bundle, target: target.name, text, runner, loaded };
}

/** The same model on a new device, after the old one was lost. */
export async function reopen(model: Model, context: LoadContext): Promise<Model> {
  const { bundle, target, text } = model;
  context.progress.enter("check");
  const candidate = first(await rank(bundle, { target }, RUNTIMES));
  context.progress.expect(downloadBytes(bundle, candidate.target));
  const { runner } = await openRunner(bundle, candidate, text, context);
  context.progress.enter("ready");
  return { ...model, runner };
}

interface Times {
  downloadMs: number;
  uploadMs: number;
  pipelineMs: number;
}

/** Compiles kernels while the weights come, then tests the device with both. */
async function openRunner(
  bundle: Bundle,
  { runtime, target }: Candidate,
  text: Pick<ModelText, "vocabSize" | "activeVocabSize" | "modelConfig">,
  { progress, signal, onLost }: LoadContext,
): Promise<{ runner: ModelRunner; times: Times }> {
  progress.enter("library");
  const library = await bundle.read(target.library, progress, signal);
  const runner = await runtime.open(library.slice().buffer, target, onLost);
  const either = new AbortController();
  try {
    checkModel(runner.metadata, bundle.lock.model.quantization, text.modelConfig);
    const rows = new StoredRows(runner.metadata);
    const context = { progress, signal: AbortSignal.any([signal, either.signal]), onLost };
    const downloading = { now: true };
    const tasks = [
      prepare(runner, progress, downloading),
      uploadWeights(bundle, target.parameters, { runner, rows }, context).finally(() => {
        downloading.now = false;
      }),
    ] as const;
    // The one that fails stops the other.
    for (const task of tasks) task.catch((error: unknown) => either.abort(error));
    const [prepared, uploaded] = await Promise.all(tasks);
    signal.throwIfAborted();
    runner.finishUpload(text.vocabSize);
    await runner.settle();
    progress.enter("self-test");
    await selfTest(runner, rows);
    await testDraws(runner, text);
    signal.throwIfAborted();
    return { runner, times: { ...prepared, ...uploaded } };
  } catch (error) {
    either.abort(error);
    const explained = signal.aborted ? error : await runner.gpu.explain(error);
    runner.dispose();
    signal.throwIfAborted();
    throw explained;
  }
}

async function testDraws(
  runner: ModelRunner,
  { vocabSize, activeVocabSize: count }: Pick<ModelText, "vocabSize" | "activeVocabSize">,
): Promise<void> {
  if (!runner.draws || (await drawsAsTheHost(runner, { vocabSize, count }))) return;
  console.warn("This device draws tokens wrong: they are drawn from logits that are copied back.");
  runner.distrustDraws();
}

async function prepare(
  runner: ModelRunner,
  progress: Progress,
  downloading: { now: boolean },
): Promise<Pick<Times, "pipelineMs">> {
  const start = performance.now();
  await runner.createPipelines((done, total) => {
    if (!downloading.now) progress.enter("pipelines", { done, total });
  });
  return { pipelineMs: performance.now() - start };
}

async function uploadWeights(
  bundle: Bundle,
  parameters: string,
  { runner, rows }: { runner: ModelRunner; rows: StoredRows },
  { progress, signal }: LoadContext,
): Promise<Pick<Times, "downloadMs" | "uploadMs">> {
  const start = performance.now();
  progress.enter("download");
  const { params } = runner.metadata;
  const cache = parseTensors(await bundle.readJson(parameters, progress, signal), params);
  const open = (index: number): Promise<StoredFile> | null => {
    const record = cache.records[index];
    const shard = record ? bundle.open(record.dataPath, progress, signal) : null;
    shard?.catch(() => undefined);
    return shard;
  };
  let uploadMs = 0;
  let next = open(0);
  for (const [index, { records }] of cache.records.entries()) {
    const shard = await next;
    if (!shard) break;
    // One shard comes while the one before it goes to the device.
    next = open(index + 1);
    if (!next) progress.enter("upload");
    const uploadStart = performance.now();
    for (const record of records) {
      for (const parameter of params.filter(({ name }) => name === record.name)) {
        await uploadTensor(shard, record, parameter, { runner, rows });
        signal.throwIfAborted();
      }
    }
    uploadMs += performance.now() - uploadStart;
  }
  return { downloadMs: performance.now() - start - uploadMs, uploadMs };
}

async function uploadTensor(
  shard: StoredFile,
  record: TensorRecord,
  parameter: ParameterShape,
  { runner, rows }: { runner: ModelRunner; rows: StoredRows },
): Promise<void> {
  const slices = tensorSlices(shard, record, parameter);
  runner.allocate(parameter);
  for await (const slice of slices) {
    rows.keep(parameter, slice);
    await runner.upload(parameter, slice);
  }
}
