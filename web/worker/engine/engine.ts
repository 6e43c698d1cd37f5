/** The engine: one model, its device, and answers in the order of the requests. */
import { EngineError, isAbort } from "../shared/errors.ts";
import { Store } from "../store/store.ts";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionParams,
  ChatMessage,
} from "../shared/openai.ts";
import type {
  CheckOptions,
  ContextPolicy,
  DebugReplies,
  EngineEvent,
  FitReport,
  LoadedModel,
  LocalLoadOptions,
  StorageAction,
  StorageReplies,
} from "../shared/protocol.ts";
import { Generation, type GenerationContext, type TokenEvent } from "./generation.ts";
import type { Wanted } from "./backends.ts";
import { Bundle, lockUrlOf } from "./bundle.ts";
import { Chunks, Meter, wholeCompletion } from "./completion.ts";
import { checkFit } from "./fit.ts";
import { loadModel, reopen, type LoadContext, type Model } from "./loader.ts";
import { Progress } from "./progress.ts";
import { parseRequest, type CompletionRequest } from "./protocol.ts";
import { Scheduler } from "./scheduler.ts";
import { Sequence, type Step } from "./sequence.ts";

/** An answer survives so many losses of the device. */
const MAX_LOSSES = 2;
/** Room that the policy "truncate-oldest" makes for an answer of unknown length. */
const RESERVE = 256;

interface Session {
  model: Model;
  sequence: Sequence;
  readonly policy: ContextPolicy;
  /** For requests that don't say. */
  readonly deterministic: boolean;
  /** Lets go of the stored files. */
  readonly release: () => void;
}

type Opened = Pick<Session, "model" | "release">;
type OnEvent = (event: TokenEvent) => void;

export class Engine {
  readonly #emit: (event: EngineEvent) => void;
  readonly #scheduler = new Scheduler();
  readonly #store: Store;
  #session: Session | null = null;

  constructor(emit: (event: EngineEvent) => void) {
    this.#emit = emit;
    this.#store = new Store(emit);
  }

  async check(bundleUrl: string, options: CheckOptions, signal: AbortSignal): Promise<FitReport> {
    return checkFit(await Bundle.open(bundleUrl, this.#store, { signal, keep: false }), options, signal);
  }

  /** Replaces the model that was loaded before. */
  load(bundleUrl: string, options: LocalLoadOptions, signal: AbortSignal): Promise<LoadedModel> {
    const job = async (): Promise<LoadedModel> => {
      this.#drop();
      const { contextPolicy: policy = "error", deterministic = false } = options;
      const { model, release } = await this.#open(bundleUrl, options, signal);
      const sequence = new Sequence(model.runner);
      this.#session = { model, sequence, policy, deterministic, release };
      if (model.bundle.fromStorage) this.#revalidate(bundleUrl);
      return model.loaded;
    };
    return this.#scheduler.run(job, signal);
  }

  unload(signal: AbortSignal): Promise<null> {
    const job = async (): Promise<null> => {
      this.#drop();
      return null;
    };
    return this.#scheduler.run(job, signal);
  }

  /** Lists or changes what is stored, also while a model answers. */
  async storage(action: StorageAction, signal: AbortSignal): Promise<StorageReplies[StorageAction["action"]]> {
    switch (action.action) {
      case "list":
        return this.#store.list();
      case "delete":
        return this.#store.delete(lockUrlOf(action.bundleUrl));
      case "delete-leftovers":
        return this.#store.deleteLeftovers();
      case "update":
        await this.#store.update(lockUrlOf(action.bundleUrl), signal);
        return null;
    }
  }

  /** Answers; `onChunk` gets the chunks of a stream, whose result is null. */
  complete(
    params: ChatCompletionParams,
    onChunk: (chunk: ChatCompletionChunk) => void,
    signal: AbortSignal,
  ): Promise<ChatCompletion | null> {
    const job = (): Promise<ChatCompletion | null> => {
      const { model } = this.#loaded();
      const { vocabSize, defaults } = model.text;
      const request = parseRequest(params, { id: model.loaded.id, vocabSize, defaults });
      const meter = new Meter();
      return request.stream
        ? this.#stream(request, meter, onChunk, signal)
        : this.#whole(request, meter, signal);
    };
    return this.#scheduler.run(job, signal);
  }

  /** Tokens of the prompt that `messages` make, also while a model answers. */
  async count(messages: ChatMessage[], signal: AbortSignal): Promise<number> {
    const { loaded, text } = this.#loaded().model;
    const { vocabSize, defaults } = text;
    const request = parseRequest({ messages }, { id: loaded.id, vocabSize, defaults });
    return (await text.conversation.tokens(request.messages, signal)).length;
  }

  loseDevice(): null {
    this.#loaded().model.runner.gpu.lose();
    return null;
  }

  memory(): DebugReplies["memory"] {
    return this.#loaded().model.runner.memory();
  }

  logits(tokenIds: number[], signal: AbortSignal): Promise<Float32Array> {
    const job = async (): Promise<Float32Array> => {
      const { sequence } = this.#loaded();
      sequence.clear();
      const text = { tokens: tokenIds, promptLength: tokenIds.length, deterministic: false };
      return (await sequence.logitsAfter(text, signal)).logits;
    };
    return this.#scheduler.run(job, signal);
  }

  /** Loads a bundle; another version of it if the stored one can't be loaded. */
  async #open(url: string, wanted: Wanted, signal: AbortSignal): Promise<Opened> {
    const bundle = await Bundle.open(url, this.#store, { signal, keep: true });
    try {
      return await this.#openBundle(bundle, wanted, signal);
    } catch (error) {
      signal.throwIfAborted();
      const other = bundle.fromStorage ? await bundle.other(signal) : null;
      if (!other) throw error;
      return this.#openBundle(other, wanted, signal);
    }
  }

  async #openBundle(bundle: Bundle, wanted: Wanted, signal: AbortSignal): Promise<Opened> {
    const release = await this.#store.use();
    try {
      const model = await loadModel(bundle, wanted, this.#loadContext(signal));
      await bundle.confirm();
      return { model, release };
    } catch (error) {
      release();
      throw error;
    }
  }

  #revalidate(bundleUrl: string): void {
    void this.#store.revalidate(lockUrlOf(bundleUrl), new AbortController().signal);
  }

  async #stream(
    request: CompletionRequest,
    meter: Meter,
    onChunk: (chunk: ChatCompletionChunk) => void,
    signal: AbortSignal,
  ): Promise<null> {
    const logprobs = request.sampling.logprobs !== null;
    const options = { logprobs, usage: request.includeUsage };
    const chunks = new Chunks(this.#loaded().model.loaded.id, options);
    let last = -1;
    await this.#answer(request, meter, signal, (event) => {
      if (event.choice !== last) onChunk(chunks.role(event.choice));
      last = event.choice;
      for (const chunk of chunks.of(event)) onChunk(chunk);
    });
    if (request.includeUsage) onChunk(chunks.usage(meter.usage()));
    return null;
  }

  async #whole(
    request: CompletionRequest,
    meter: Meter,
    signal: AbortSignal,
  ): Promise<ChatCompletion> {
    const choices = Array.from({ length: request.choices }, (): TokenEvent[] => []);
    await this.#answer(request, meter, signal, (event) => choices[event.choice]?.push(event));
    const logprobs = request.sampling.logprobs !== null;
    const options = { logprobs, usage: meter.usage() };
    return wholeCompletion(this.#loaded().model.loaded.id, choices, options);
  }

  /** Writes all choices, one after the other: they share the prompt in the KV cache. */
  async #answer(
    request: CompletionRequest,
    meter: Meter,
    signal: AbortSignal,
    onEvent: OnEvent,
  ): Promise<void> {
    const session = this.#loaded();
    const context = await this.#answerContext(session, request, signal);
    const losses = { left: MAX_LOSSES };
    const { activeVocabSize } = session.model.text;
    for (let choice = 0; choice < request.choices; choice++) {
      const answer = new Generation(context, choice);
      while (!answer.finished) {
        const start = performance.now();
        const { logits, cached } = await this.#step(answer, losses, signal).catch((error) => {
          if (isAbort(error)) onEvent(answer.end("abort"));
          throw error;
        });
        const ms = performance.now() - start;
        if (choice === 0 && answer.length === 0) meter.prefilled(context.prompt.length, cached, ms);
        else meter.decoded(ms);
        meter.drew();
        onEvent(answer.accept(logits.subarray(0, activeVocabSize)));
      }
    }
  }

  async #answerContext(
    { model, policy, ...settings }: Session,
    request: CompletionRequest,
    signal: AbortSignal,
  ): Promise<GenerationContext> {
    const { conversation, vocabulary, stopTokens } = model.text;
    const { contextWindowSize } = model.loaded;
    const reserve = request.maxTokens ?? RESERVE;
    const limits = { window: contextWindowSize, policy, reserve };
    const prompt = await conversation.fit(request.messages, limits, signal);
    const seed = request.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
    const deterministic = request.deterministic ?? settings.deterministic;
    return { request, vocabulary, stopTokens, contextWindowSize, prompt, seed, deterministic };
  }

  /** Logits for the answer's next token; gets a new device when the old one is lost. */
  async #step(answer: Generation, losses: { left: number }, signal: AbortSignal): Promise<Step> {
    for (;;) {
      try {
        return await this.#loaded().sequence.logitsAfter(answer, signal);
      } catch (error) {
        if (isAbort(error) && signal.aborted) throw error;
        const survivable = error instanceof EngineError && error.code === "device_lost";
        if (!survivable || losses.left === 0) {
          // What a failed step left in the KV cache is unknown.
          this.#drop();
          throw error;
        }
        losses.left -= 1;
        await this.#recover();
      }
    }
  }

  /** Loads the model onto a new device; the KV cache is empty then. Outlives its request's abort. */
  async #recover(): Promise<void> {
    const { signal } = new AbortController();
    const session = this.#loaded();
    const reason = session.model.runner.gpu.failure?.message ?? "";
    this.#emit({ kind: "device", state: "recovering", reason });
    session.model.runner.dispose();
    try {
      session.model = await reopen(session.model, this.#loadContext(signal));
    } catch (error) {
      session.release();
      this.#session = null;
      throw error;
    }
    session.sequence = new Sequence(session.model.runner);
    this.#emit({ kind: "device", state: "recovered", reason });
  }

  #loadContext(signal: AbortSignal): LoadContext {
    return {
      progress: new Progress(this.#emit),
      signal,
      onLost: (reason) => {
        this.#emit({ kind: "device", state: "lost", reason });
        this.#recoverIdle();
      },
    };
  }

  /** After a loss between answers; within one, the answer sees to it before this job's turn. */
  #recoverIdle(): void {
    const { signal } = new AbortController();
    const job = async (): Promise<void> => {
      if (this.#session?.model.runner.gpu.failure) await this.#recover();
    };
    this.#scheduler.run(job, signal).catch((error: unknown) => {
      console.warn("mlc-edge: the model was dropped after its device was lost:", error);
    });
  }

  #loaded(): Session {
    if (this.#session) return this.#session;
    throw new EngineError({
      code: "model_not_loaded",
      message: "No model is loaded.",
      remedy: "Load one first.",
    });
  }

  #drop(): void {
    this.#session?.model.runner.dispose();
    this.#session?.release();
    this.#session = null;
  }
}
