/** Brings a bundle onto the device. */
import { EngineError } from "../shared/errors.ts";
import type { LoadedModel } from "../shared/protocol.ts";
import type { StoredFile } from "../store/stored-file.ts";
import type { Bundle } from "./bundle.ts";
import { describe, Gpu, preferred } from "./device.ts";
import { readText, type ModelText } from "./files.ts";
import { checkMemory, choose, downloadBytes, type Choice } from "./fit.ts";
import { checkModel, type ParameterShape } from "./metadata.ts";
import { ModelRunner } from "./model-runner.ts";
import type { Progress } from "./progress.ts";
import { selfTest } from "./self-test.ts";
import { StoredRows } from "./stored-rows.ts";
import { checkTensors, tensorSlices, type TensorCache, type TensorRecord } from "./weights.ts";

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

/**
 * Loads the best target, or the next one where the device computes that one wrong.
 *
 * Throws EngineError of any code that has to do with bundles and devices.
 */
export async function loadModel(
  bundle: Bundle,
  wantedTarget: string | undefined,
  context: LoadContext,
): Promise<Model> {
  context.progress.enter("check");
  const choice = await choose(bundle, wantedTarget);
  try {
    return await loadTarget(bundle, choice, context);
  } catch (error) {
    if (!(error instanceof EngineError) || error.code !== "self_test_failed") throw error;
    const ranked = preferred(bundle.lock.targets.values());
    const other = wantedTarget ? undefined : ranked[ranked.indexOf(choice.target) + 1];
    // Stored weights that have changed since are as wrong as a device that computes wrong.
    const next = (await bundle.dropDamaged()) ? choice.target : other;
    if (!next) throw error;
    return loadTarget(bundle, await choose(bundle, next.name), context);
  }
}

async function loadTarget(bundle: Bundle, choice: Choice, context: LoadContext): Promise<Model> {
  const { progress, signal } = context;
  checkMemory(choice.target);
  progress.expect(downloadBytes(bundle, choice.target));
  progress.enter("download");
  const text = await readText(bundle, progress, signal);
  const { runner, times } = await openRunner(bundle, choice, text, context);
  progress.enter("ready");
  const loaded = {
    id: bundle.lock.model.id,
    target: choice.target.name,
    contextWindowSize: runner.metadata.context_window_size,
    vocabSize: text.vocabSize,
    sampling: text.sampling,
    adapter: describe(choice.adapter),
    bytes: downloadBytes(bundle, choice.target),
    memoryBytes: runner.memory().deviceBytes,
    ...times,
  };
  return { bundle, target: choice.target.name, text, runner, loaded };
}

/** The same model on a new device, after the old one was lost. */
export async function reopen(model: Model, context: LoadContext): Promise<Model> {
  const { bundle, target, text } = model;
  const choice = await choose(bundle, target);
  context.progress.expect(downloadBytes(bundle, choice.target));
  const { runner } = await openRunner(bundle, choice, text, context);
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
  { adapter, target }: Choice,
  text: Pick<ModelText, "vocabSize" | "modelConfig">,
  { progress, signal, onLost }: LoadContext,
): Promise<{ runner: ModelRunner; times: Times }> {
  progress.enter("library");
  const library = await bundle.read(target.library, progress, signal);
  const gpu = await Gpu.open(adapter, target, onLost);
  const either = new AbortController();
  let runner: ModelRunner | undefined;
  try {
    const opened = (runner = await ModelRunner.open(library.slice().buffer, gpu));
    checkModel(opened.metadata, bundle.lock.model.quantization, text.modelConfig);
    const rows = new StoredRows(opened.metadata);
    const context = { progress, signal: AbortSignal.any([signal, either.signal]), onLost };
    const downloading = { now: true };
    const tasks = [
      prepare(opened, progress, downloading),
      uploadWeights(bundle, target.parameters, { runner: opened, rows }, context).finally(() => {
        downloading.now = false;
      }),
    ] as const;
    // The one that fails stops the other.
    for (const task of tasks) task.catch((error: unknown) => either.abort(error));
    const [prepared, uploaded] = await Promise.all(tasks);
    signal.throwIfAborted();
    opened.finishUpload(text.vocabSize);
    await opened.settle();
    progress.enter("self-test");
    await selfTest(opened, rows);
    signal.throwIfAborted();
    return { runner: opened, times: { ...prepared, ...uploaded } };
  } catch (error) {
    either.abort(error);
    const explained = signal.aborted ? error : await gpu.explain(error);
    if (runner) runner.dispose();
    else gpu.close();
    signal.throwIfAborted();
    throw explained;
  }
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
  const cache = await bundle.readJson<TensorCache>(parameters, progress, signal);
  checkTensors(cache, runner.metadata.params);
  const wanted = new Map(runner.metadata.params.map((parameter) => [parameter.name, parameter]));
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
      const parameter = wanted.get(record.name);
      if (parameter) await uploadTensor(shard, record, parameter, { runner, rows });
      signal.throwIfAborted();
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
  const slices = tensorSlices(shard, record, parameter.dtype);
  runner.allocate(parameter);
  for await (const slice of slices) {
    rows.keep(parameter, slice);
    await runner.upload(parameter, slice);
  }
}
