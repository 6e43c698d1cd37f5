/** The engine: models on their devices, and answers in turns of those who asked. */
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
  DebugReplies,
  EngineEvent,
  FitReport,
  HeldModel,
  LoadedModel,
  LocalLoadOptions,
  SavedState,
  StorageAction,
  StorageReplies,
  WorkerRequest,
} from "../shared/protocol.ts";
import { Generation, type GenerationContext, type TokenEvent } from "./generation.ts";
import type { Drawn } from "./drawing.ts";
import { Bundle, lockUrlOf } from "./bundle.ts";
import { Chunks, Meter, wholeCompletion } from "./completion.ts";
import { checkFit } from "./fit.ts";
import { loadModel, reopen, type LoadContext } from "./loader.ts";
import { overBudget } from "./model-errors.ts";
import { Models, sessionOf, type OpenSession } from "./models.ts";
import { Progress } from "./progress.ts";
import { parseRequest, type CompletionRequest } from "./request.ts";
import type { Client, Lease, Resident, Session, Wanted } from "./resident.ts";
import { SavedStates } from "./saved-states.ts";
import { Sequence, type Step } from "./sequence.ts";
import { carryOut } from "./storage-actions.ts";

/** An answer survives so many losses of the device. */
const MAX_LOSSES = 2;
/** Requests of one client that may run or wait. */
const MAX_REQUESTS = 64;
/** Room that the policy "truncate-oldest" makes for an answer of unknown length. */
const RESERVE = 256;

type StateRequest = Extract<WorkerRequest, { kind: "state" }>;
type OnEvent = (event: TokenEvent) => void;
type OpenContext = Parameters<OpenSession>[1];

interface Answering {
  readonly meter: Meter;
  readonly signal: AbortSignal;
}

/** A model while it answers one request. */
interface Answerer {
  readonly lease: Lease;
  readonly resident: Resident;
  readonly session: Session;
}

export class Engine {
  readonly #store: Store;
  readonly #models: Models;

  constructor() {
    this.#store = new Store((event) => this.#tellAll(event));
    this.#models = new Models(this.#store, (wanted, context) => this.#openModel(wanted, context));
  }

  connect(client: Client): void {
    this.#models.connect(client);
  }

  /** Takes over what a client had from an engine that ended. */
  adopt(client: Client, held: readonly HeldModel[]): void {
    this.#models.adopt(client, held);
  }

  /** Gives up all that a client has; its calls must have been aborted. */
  disconnect(client: Client): void {
    this.#models.disconnect(client);
  }

  async check(
    client: Client,
    { bundleUrl, options }: { bundleUrl: string; options: CheckOptions },
    signal: AbortSignal,
  ): Promise<FitReport> {
    const bundle = await Bundle.open(bundleUrl, this.#store, { signal, keep: false });
    const report = await checkFit(bundle, options, signal);
    const most = client.memoryBudget ?? Infinity;
    if (report.memoryBytes <= most) return report;
    const problem = overBudget(report.memoryBytes, most).toData();
    return { ...report, fits: false, problems: [problem, ...report.problems] };
  }

  /** Loads a model beside those that the client has, or in their place. */
  load(
    client: Client,
    request: { bundleUrl: string; options: LocalLoadOptions },
    signal: AbortSignal,
  ): Promise<LoadedModel> {
    return counted(client, () => this.#models.load(client, request, signal));
  }

  /** Gives up one of the client's models, or all. */
  async unload(client: Client, id: string | undefined): Promise<null> {
    await this.#models.unload(client, id);
    return null;
  }

  /** Lists or changes what is stored, also while a model answers. */
  storage(action: StorageAction, signal: AbortSignal): Promise<StorageReplies[StorageAction["action"]]> {
    return carryOut(action, this.#store, signal);
  }

  /** Answers; `onChunk` gets the chunks of a stream, whose result is null. */
  complete(
    client: Client,
    params: ChatCompletionParams,
    { onChunk, signal }: { onChunk: (chunk: ChatCompletionChunk) => void; signal: AbortSignal },
  ): Promise<ChatCompletion | null> {
    const asked = (params as ChatCompletionParams | null)?.model;
    return counted(client, () =>
      this.#inTurn(client, { asked, signal }, async (answerer) => {
        const { vocabSize, defaults } = answerer.session.model.text;
        const { id } = answerer.lease;
        const request = parseRequest(params, { id, vocabSize, defaults });
        const meter = new Meter();
        return request.stream
          ? this.#stream(answerer, request, { meter, onChunk, signal })
          : this.#whole(answerer, request, { meter, signal });
      }),
    );
  }

  /** Tokens of the prompt that `messages` make, also while a model answers. */
  async count(
    client: Client,
    { messages, model }: { messages: ChatMessage[]; model?: string },
    signal: AbortSignal,
  ): Promise<number> {
    const lease = await this.#models.find(client, model, signal);
    const resident = await this.#models.use(lease, signal);
    try {
      const { text } = sessionOf(resident).model;
      const { vocabSize, defaults } = text;
      const request = parseRequest({ messages }, { id: lease.id, vocabSize, defaults });
      return (await text.conversation.tokens(request.messages, signal)).length;
    } finally {
      this.#models.leave(resident);
    }
  }

  /** Loads a state by its name, or saves one of messages. */
  state(client: Client, request: StateRequest, signal: AbortSignal): Promise<SavedState | null> {
    const { name, messages, model: asked } = request;
    const job = ({ lease, session }: Answerer): Promise<SavedState | null> => {
      const notify = (event: EngineEvent): void => client.emit(event);
      const states = new SavedStates(session, { store: this.#store, lockUrl: lockUrlOf(lease.bundleUrl), notify });
      return messages ? states.save(name, messages, signal) : states.load(name);
    };
    return counted(client, () => this.#inTurn(client, { asked, signal }, job));
  }

  async loseDevice(client: Client, signal: AbortSignal): Promise<null> {
    const { resident } = await this.#models.find(client, undefined, signal);
    if (resident) sessionOf(resident).model.runner.gpu.lose();
    return null;
  }

  memory(): DebugReplies["memory"] {
    const sums = { deviceBytes: 0, wasmBytes: 0 };
    for (const { session } of this.#models.residents) {
      const { deviceBytes = 0, wasmBytes = 0 } = session?.model.runner.memory() ?? {};
      sums.deviceBytes += deviceBytes;
      sums.wasmBytes += wasmBytes;
    }
    return sums;
  }

  logits(client: Client, tokenIds: number[], signal: AbortSignal): Promise<Float32Array> {
    return this.#inTurn(client, { asked: undefined, signal }, async ({ session: { sequence } }) => {
      sequence.clear();
      const text = { tokens: tokenIds, promptLength: tokenIds.length, deterministic: false };
      return (await sequence.logitsAfter(text, signal)).logits;
    });
  }

  /** Runs a job with the model that it asked for, when it is the client's turn. */
  async #inTurn<T>(
    client: Client,
    { asked, signal }: { asked: unknown; signal: AbortSignal },
    job: (answerer: Answerer) => Promise<T>,
  ): Promise<T> {
    for (;;) {
      const lease = await this.#models.find(client, asked, signal);
      const resident = await this.#models.use(lease, signal);
      const turn = resident.scheduler.run(
        client,
        // Null if the model went while the job waited for its turn.
        async () => (resident.session ? { done: await job({ lease, resident, session: resident.session }) } : null),
        signal,
      );
      lease.requests.add(turn);
      try {
        const ended = await turn;
        if (ended) return ended.done;
      } finally {
        lease.requests.delete(turn);
        this.#models.leave(resident);
      }
    }
  }

  /** Loads a bundle; another version of it if the stored one can't be loaded. */
  async #openModel(wanted: Wanted, { signal, emit, resident }: OpenContext): Promise<Session> {
    const { bundle } = wanted;
    const context = { signal, progress: new Progress(emit), onLost: this.#onLost(resident) };
    try {
      return await this.#openBundle(bundle, wanted, context);
    } catch (error) {
      signal.throwIfAborted();
      const other = bundle.fromStorage ? await bundle.other(signal) : null;
      if (!other) throw error;
      resident.identities.add(other.identity);
      return this.#openBundle(other, wanted, context);
    }
  }

  async #openBundle(bundle: Bundle, wanted: Wanted, context: LoadContext): Promise<Session> {
    const release = await this.#store.use();
    try {
      const model = await loadModel(bundle, wanted, context);
      await bundle.confirm();
      return { model, sequence: new Sequence(model.runner), release };
    } catch (error) {
      release();
      throw error;
    }
  }

  async #stream(
    answerer: Answerer,
    request: CompletionRequest,
    { meter, onChunk, signal }: Answering & { onChunk: (chunk: ChatCompletionChunk) => void },
  ): Promise<null> {
    const logprobs = request.sampling.logprobs !== null;
    const options = { logprobs, usage: request.includeUsage };
    const chunks = new Chunks(answerer.lease.id, options);
    let last = -1;
    await this.#answer(answerer, request, { meter, signal }, (event) => {
      if (event.choice !== last) onChunk(chunks.role(event.choice));
      last = event.choice;
      for (const chunk of chunks.of(event)) onChunk(chunk);
    });
    if (request.includeUsage) onChunk(chunks.usage(meter.usage()));
    return null;
  }

  async #whole(
    answerer: Answerer,
    request: CompletionRequest,
    { meter, signal }: Answering,
  ): Promise<ChatCompletion> {
    const choices = Array.from({ length: request.choices }, (): TokenEvent[] => []);
    await this.#answer(answerer, request, { meter, signal }, (event) => {
      choices[event.choice]?.push(event);
    });
    const logprobs = request.sampling.logprobs !== null;
    return wholeCompletion(answerer.lease.id, choices, { logprobs, usage: meter.usage() });
  }

  /** Writes all choices, one after the other: they share the prompt in the KV cache. */
  async #answer(
    answerer: Answerer,
    request: CompletionRequest,
    { meter, signal }: Answering,
    onEvent: OnEvent,
  ): Promise<void> {
    const context = await this.#answerContext(answerer, request, signal);
    const losses = { left: MAX_LOSSES };
    for (let choice = 0; choice < request.choices; choice++) {
      const answer = new Generation(context, choice);
      while (!answer.finished) {
        const start = performance.now();
        const step = this.#step(answerer, answer, { losses, signal });
        const { logits, cached } = await step.catch((error) => {
          if (isAbort(error)) onEvent(answer.end("abort"));
          throw error;
        });
        const ms = performance.now() - start;
        if (choice === 0 && answer.length === 0) meter.prefilled(context.prompt.length, cached, ms);
        else meter.decoded(ms);
        meter.drew();
        onEvent(answer.accept(logits));
      }
    }
  }

  async #answerContext(
    { lease, session: { model } }: Answerer,
    request: CompletionRequest,
    signal: AbortSignal,
  ): Promise<GenerationContext> {
    const { contextPolicy: policy = "error", ...settings } = lease.options;
    const { conversation, vocabulary, activeVocabSize, stopTokens } = model.text;
    const { contextWindowSize } = model.loaded;
    const reserve = request.maxTokens ?? RESERVE;
    const limits = { window: contextWindowSize, policy, reserve };
    const prompt = await conversation.fit(request.messages, limits, signal, request.begun);
    const seed = request.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
    const deterministic = request.deterministic ?? settings.deterministic ?? false;
    const text = { vocabulary, activeVocabSize, stopTokens };
    return { request, ...text, contextWindowSize, prompt, seed, deterministic };
  }

  /** Logits for the answer's next token, or that token; gets a new device when the old one is lost. */
  async #step(
    { lease, resident, session }: Answerer,
    answer: Generation,
    { losses, signal }: { losses: { left: number }; signal: AbortSignal },
  ): Promise<Step<Float32Array | Drawn>> {
    for (;;) {
      try {
        return await session.sequence.drawAfter(answer, signal);
      } catch (error) {
        if (isAbort(error) && signal.aborted) throw error;
        const survivable = error instanceof EngineError && error.code === "device_lost";
        if (!survivable || losses.left === 0) {
          // What a failed step left in the KV cache is unknown.
          this.#models.fail(lease, resident);
          throw error;
        }
        losses.left -= 1;
        await this.#recover(resident);
      }
    }
  }

  /** Loads the model onto a new device; the KV cache is empty then. Outlives its request's abort. */
  async #recover(resident: Resident): Promise<void> {
    const { signal } = new AbortController();
    const session = sessionOf(resident);
    const reason = session.model.runner.gpu.failure?.message ?? "";
    this.#tellAll({ kind: "device", state: "recovering", reason });
    session.model.runner.dispose();
    const progress = new Progress((event) => {
      for (const { client } of resident.leases) client.emit(event);
    });
    try {
      const context = { signal, progress, onLost: this.#onLost(resident) };
      session.model = await reopen(session.model, context);
    } catch (error) {
      this.#models.drop(resident);
      throw error;
    }
    session.sequence = new Sequence(session.model.runner);
    this.#tellAll({ kind: "device", state: "recovered", reason });
  }

  /** After a loss between answers; within one, the answer sees to it before this job's turn. */
  #onLost(resident: Resident): (reason: string) => void {
    const job = async (): Promise<void> => {
      if (!resident.session?.model.runner.gpu.failure) return;
      await this.#models.keep(resident, () => this.#recover(resident));
    };
    return (reason) => {
      this.#tellAll({ kind: "device", state: "lost", reason });
      resident.scheduler.run(resident, job, new AbortController().signal).catch((error: unknown) => {
        console.warn("mlc-edge: the model was dropped after its device was lost:", error);
      });
    };
  }

  #tellAll(event: EngineEvent): void {
    for (const { emit } of this.#models.clients) emit(event);
  }
}

/** Throws EngineError "queue_full" for a client that has too many requests already. */
async function counted<T>(client: Client, run: () => Promise<T>): Promise<T> {
  if (client.requests >= MAX_REQUESTS) {
    throw new EngineError({
      code: "queue_full",
      message: `${MAX_REQUESTS} requests of this page run or wait already.`,
      remedy: "Send fewer at a time.",
    });
  }
  client.requests += 1;
  try {
    return await run();
  } finally {
    client.requests -= 1;
  }
}
