/** The engine as the main thread sees it: calls become messages to a worker that computes. */
import { LOCAL_BACKENDS } from "../shared/backends.ts";
import { EngineError } from "../shared/errors.ts";
import { Listeners } from "../shared/listeners.ts";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionParams,
  ChatMessage,
  StreamingParams,
  WholeParams,
} from "../shared/openai.ts";
import type {
  Backend,
  CallKind,
  CallResults,
  CheckOptions,
  DebugAction,
  DebugReplies,
  DeletedFiles,
  DeletedLeftovers,
  EngineEvent,
  FitReport,
  Hello,
  LeftBackend,
  LoadedModel,
  LoadOptions,
  LocalBackend,
  SavedState,
  StorageAction,
  StorageReplies,
  StoredContents,
  WorkerReply,
  WorkerRequest,
} from "../shared/protocol.ts";
import { checkLevels, sent } from "../shared/sending.ts";
import { resolved } from "./address.ts";
import { type BackendsOption, isRemote, openFirst } from "./backends.ts";
import { aborted, disposed, noObject, stateless } from "./call-errors.ts";
import { capabilitiesOf, type CapabilityOptions } from "./capabilities.ts";
import { ChunkStream } from "./chunk-stream.ts";
import { checkOptions } from "./engine-options.ts";
import { EngineWorker } from "./engine-worker.ts";
import { openAiFetch } from "./openai-fetch.ts";
import { OpenedModels } from "./opened-models.ts";
import { SharedEngine } from "./shared-engine.ts";
import { requestPersistence, storageEstimate } from "./persistence.ts";
import { type RemoteBackend, RemoteModel } from "./remote.ts";

/** The part of Worker that the client needs; a MessagePort has it too, as that of a SharedWorker. */
export interface Endpoint {
  postMessage(message: WorkerRequest | Hello): void;
  addEventListener(type: "message", listener: (event: MessageEvent<WorkerReply>) => void): void;
  /** A port delivers nothing before. */
  start?(): void;
  terminate?(): void;
  close?(): void;
}

/** What takes requests; `withdraw` takes one back that was not seen yet. */
interface Recipient extends Pick<Endpoint, "postMessage" | "terminate" | "close"> {
  withdraw?(id: number): boolean;
}

export interface EngineSource {
  workerUrl?: string | URL;
  endpoint?: Endpoint;
  startTimeoutMs?: number;
  /** Whether all tabs of this origin share one engine; without it this one has its own. */
  shared?: boolean;
  /** Bytes of the device's memory that models may take: see `EngineOptions`. */
  memoryBudget?: number;
  /** The folder of a site, for `capabilities`. */
  baseURL?: string | URL;
}

export interface CallOptions {
  signal?: AbortSignal;
}

export interface StateOptions extends CallOptions {
  /** Id of a model that this page has loaded. */
  model?: string;
}

export interface Completions {
  create(params: StreamingParams, options?: CallOptions): Promise<ChunkStream>;
  create(params: WholeParams, options?: CallOptions): Promise<ChatCompletion>;
}

interface Call {
  resolve(value: CallResults[CallKind]): void;
  reject(error: unknown): void;
  onChunk?: (chunk: ChatCompletionChunk) => void;
}

type Body = WorkerRequest extends infer R ? (R extends { id: number } ? Omit<R, "id"> : never) : never;

/**
 * Runs a language model in a worker.
 *
 * Calls fail with EngineError, or with the AbortSignal's reason; a signal that comes when a call has
 * succeeded changes nothing.
 */
export class EngineClient {
  readonly chat: { readonly completions: Completions };
  /** OpenAI's HTTP API, answered here: give it to a client as its `fetch`. */
  readonly fetch = openAiFetch(this);
  /** For tests and measurements. */
  readonly debug = {
    /** Acts as if the GPU went away: the engine recovers as from a real loss. */
    loseDevice: (): Promise<null> => this.#debug({ action: "lose-device" }),
    /** Logits after the last token, float32[vocabulary]. */
    logits: (tokenIds: number[]): Promise<Float32Array> =>
      this.#debug({ action: "logits", tokenIds }),
    memory: (): Promise<DebugReplies["memory"]> => this.#debug({ action: "memory" }),
  };
  /** What the browser keeps of models, so that they load without a network. */
  readonly storage = {
    /** Bundles that are stored, in part or whole, and what none of them names. */
    list: (): Promise<StoredContents> => this.#storage({ action: "list" }),
    /** Deletes a bundle, and its files that no other one names. A loaded model goes on answering. */
    delete: (bundleUrl: string | URL): Promise<DeletedFiles> =>
      this.#storage({ action: "delete", bundleUrl: absolute(bundleUrl) }),
    /** Deletes a saved state. */
    deleteState: ({ bundleUrl, name }: Pick<SavedState, "bundleUrl" | "name">): Promise<DeletedFiles> =>
      this.#storage({ action: "delete-state", bundleUrl: absolute(bundleUrl), name }),
    /** Deletes what no stored bundle names, unless models are loaded somewhere. */
    deleteLeftovers: (): Promise<DeletedLeftovers> => this.#storage({ action: "delete-leftovers" }),
    /** Downloads the version that an event "update-available" told of; the next load uses it. */
    update: (bundleUrl: string | URL, { signal }: CallOptions = {}): Promise<null> =>
      this.#storage({ action: "update", bundleUrl: absolute(bundleUrl) }, signal),
    estimate: storageEstimate,
    /** Call it on a user's click: some browsers ask. */
    requestPersistence,
  };
  readonly #worker: Recipient;
  readonly #calls = new Map<number, Call>();
  readonly #listeners = new Listeners<EngineEvent>();
  #lastId = 0;
  readonly #models = new OpenedModels();
  readonly #baseURL: string | URL | undefined;
  /** Aborted, with an EngineError, by `dispose`. */
  readonly #end = new AbortController();

  /**
   * `workerUrl` is the bundled engine, which counts as unreachable if it doesn't start within
   * `startTimeoutMs`, three times; an endpoint is one that runs already.
   */
  constructor({ workerUrl, endpoint, startTimeoutMs, shared, baseURL, ...options }: EngineSource) {
    this.#baseURL = baseURL;
    const { memoryBudget = null } = options;
    const hello: Hello = { kind: "hello", lock: null, models: [], memoryBudget };
    if (endpoint) {
      this.#worker = endpoint;
      endpoint.addEventListener("message", ({ data }) => this.#receive(data));
      endpoint.start?.();
      if (memoryBudget !== null) endpoint.postMessage(hello);
    } else if (workerUrl) {
      const listener = {
        onReply: (reply: WorkerReply) => this.#receive(reply),
        onFailure: (error: EngineError) => this.#failAll(error),
      };
      this.#worker = shared
        ? new SharedEngine(workerUrl, listener, { startTimeoutMs, memoryBudget })
        : new EngineWorker(workerUrl, listener, {
            startTimeoutMs,
            ...(memoryBudget !== null && { greeting: () => hello }),
          });
    } else throw new TypeError("EngineClient needs a workerUrl or an endpoint");
    this.chat = { completions: { create: this.#create.bind(this) as Completions["create"] } };
  }

  /** Models that this page has loaded, the last one last. */
  get models(): LoadedModel[] {
    return this.#end.signal.aborted ? [] : this.#models.all;
  }

  /** Id of the model that was loaded last. */
  get model(): string | null {
    return this.loaded?.id ?? null;
  }

  /** The model that was loaded last. */
  get loaded(): LoadedModel | null {
    return this.models.at(-1) ?? null;
  }

  /** Where it runs, and why there. */
  get backend(): Backend | null {
    return this.loaded?.backend ?? null;
  }

  /** Calls `listener` on every event; the returned function ends that. */
  onEvent(listener: (event: EngineEvent) => void): () => void {
    return this.#listeners.add(listener);
  }

  /** Says whether the bundle would run here, before anything big is downloaded. */
  async check(
    bundleUrl: string | URL,
    { signal, ...options }: CallOptions & CheckOptions = {},
  ): Promise<FitReport> {
    return this.#call({ kind: "check", bundleUrl: absolute(bundleUrl), options }, signal);
  }

  /** What would run of these models, how fast, and what it needs; of all of the site's if none is named. */
  capabilities(options: CapabilityOptions = {}): Promise<FitReport[]> {
    return capabilitiesOf(this, { ...(this.#baseURL && { baseURL: this.#baseURL }), ...options });
  }

  /**
   * Opens the first of `backends` that works, and downloads and prepares the bundle if that is here: beside the
   * models that are loaded, or with `replace` in their place. Where another tab has the same one it is there at once.
   */
  async load(
    bundleUrl: string | URL | (() => Promise<URL>),
    { replace = false, ...given }: CallOptions & LoadOptions & BackendsOption = {},
  ): Promise<LoadedModel> {
    checkOptions(given);
    const { signal, backends = LOCAL_BACKENDS, ...options } = given;
    const either = signal ? AbortSignal.any([signal, this.#end.signal]) : this.#end.signal;
    const local = async (backends: LocalBackend[]): Promise<LoadedModel> => {
      const url = absolute(typeof bundleUrl === "function" ? await bundleUrl() : bundleUrl);
      return this.#call({ kind: "load", bundleUrl: url, options: { ...options, replace, backends } }, signal);
    };
    const remote = async (backend: RemoteBackend, tried: readonly LeftBackend[]): Promise<RemoteModel> => {
      const model = await RemoteModel.open(backend, { tried, signal: either, ended: this.#end.signal });
      if (!replace) this.#models.checkRemoteName(model.loaded);
      return model;
    };
    const tell = (event: EngineEvent): void => this.#listeners.tell(event);
    const open = async (): Promise<LoadedModel> => {
      const opened = await openFirst(backends, { local, remote, signal: either, tell });
      this.#end.signal.throwIfAborted();
      if (opened.remote && replace) await this.#unloadLocal();
      if (replace) this.#models.clearRemote();
      this.#models.add(opened);
      return opened.loaded;
    };
    const source = typeof bundleUrl === "function" ? "" : absolute(bundleUrl);
    if (!backends.every(isRemote)) return this.#models.during({ source, replace }, open);
    const loaded = await open();
    this.#models.settle(source);
    return loaded;
  }

  /** Tokens of the prompt that `messages` make; null where a remote server answers, which doesn't tell. */
  async countTokens(
    messages: ChatMessage[],
    { signal, model }: CallOptions & { model?: string } = {},
  ): Promise<number | null> {
    if (this.#models.remoteFor(model)) return null;
    return this.#call({ kind: "count", messages, ...(model !== undefined && { model }) }, signal);
  }

  /**
   * Computes what chats with these messages begin with, and stores it under `name` for the next visit; where it
   * is stored already it is read instead. `model` may be left out where this page has loaded one.
   *
   * Throws EngineError "invalid_request" where a remote server answers, which has no states.
   */
  async saveState(name: string, messages: ChatMessage[], options: StateOptions = {}): Promise<SavedState> {
    const { signal, ...model } = options;
    if (this.#models.remoteFor(model.model)) throw stateless();
    return (await this.#call({ kind: "state", name, messages, ...model }, signal)) as SavedState;
  }

  /**
   * Reads what `saveState` stored, so that chats with its messages begin at once; null where nothing usable is
   * stored under this name for this version of the model and this device, as where a remote server answers.
   */
  async loadState(name: string, { signal, ...model }: StateOptions = {}): Promise<SavedState | null> {
    if (this.#models.remoteFor(model.model)) return null;
    return this.#call({ kind: "state", name, ...model }, signal);
  }

  /** Gives up a model, or all, once their answers have ended; the memory is freed when no tab has them. */
  async unload(model?: string): Promise<void> {
    const isRemote = model !== undefined && this.#models.isRemote(model);
    if (!isRemote) await this.#call({ kind: "unload", ...(model !== undefined && { model }) });
    if (model === undefined) this.#models.clear();
    else this.#models.delete(model);
  }

  /** Gives up the engine; calls that are still open fail, as do those that come later. */
  dispose(): void {
    const reason = disposed();
    this.#end.abort(reason);
    this.#failAll(reason);
    if (this.#worker.terminate) this.#worker.terminate();
    else this.#worker.close?.();
  }

  async #create(
    params: ChatCompletionParams,
    { signal }: CallOptions = {},
  ): Promise<ChatCompletion | ChunkStream> {
    this.#end.signal.throwIfAborted();
    // What else is wrong with a request is seen by whoever answers it.
    if (typeof params !== "object" || params === null) throw noObject();
    const remote = this.#models.remoteFor(params.model);
    if (remote) return remote.create(params, signal);
    if (!params.stream) {
      return (await this.#call({ kind: "complete", params }, signal)) as ChatCompletion;
    }
    const controller = new AbortController();
    const stream = new ChunkStream(() => controller.abort());
    const anySignal = signal ? AbortSignal.any([signal, controller.signal]) : controller.signal;
    void this.#call({ kind: "complete", params }, anySignal, (chunk) => stream.push(chunk)).then(
      () => stream.end(),
      (error: unknown) => stream.fail(error),
    );
    return stream;
  }

  #debug<A extends DebugAction>(action: A): Promise<DebugReplies[A["action"]]> {
    const reply: Promise<unknown> = this.#call({ kind: "debug", ...action });
    return reply as Promise<DebugReplies[A["action"]]>;
  }

  #storage<A extends StorageAction>(action: A, signal?: AbortSignal): Promise<StorageReplies[A["action"]]> {
    const reply: Promise<unknown> = this.#call({ kind: "storage", ...action }, signal);
    return reply as Promise<StorageReplies[A["action"]]>;
  }

  async #call<B extends Body>(
    body: B,
    signal?: AbortSignal,
    onChunk?: (chunk: ChatCompletionChunk) => void,
  ): Promise<B["kind"] extends CallKind ? CallResults[B["kind"]] : never> {
    signal?.throwIfAborted();
    this.#end.signal.throwIfAborted();
    checkLevels(body);
    const id = ++this.#lastId;
    const abort = (): void => this.#abort(id);
    signal?.addEventListener("abort", abort);
    try {
      const value = await new Promise<CallResults[CallKind]>((resolve, reject) => {
        this.#calls.set(id, { resolve, reject, ...(onChunk && { onChunk }) });
        sent(() => this.#worker.postMessage({ ...body, id } as WorkerRequest));
      });
      return value as B["kind"] extends CallKind ? CallResults[B["kind"]] : never;
    } catch (error) {
      if (error instanceof EngineError) throw error;
      throw signal?.reason ?? error;
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#calls.delete(id);
    }
  }

  #abort(id: number): void {
    if (this.#worker.withdraw?.(id)) this.#calls.get(id)?.reject(aborted());
    else this.#worker.postMessage({ kind: "abort", id });
  }

  #receive(reply: WorkerReply): void {
    if (reply.kind === "started") return;
    if (reply.kind === "event") {
      this.#models.note(reply.event);
      this.#listeners.tell(reply.event);
      return;
    }
    const call = this.#calls.get(reply.id);
    if (reply.kind === "chunk") call?.onChunk?.(reply.chunk);
    else if (reply.kind === "result") call?.resolve(reply.value);
    else if (reply.kind === "error") call?.reject(new EngineError(reply.error));
    else call?.reject(aborted());
  }

  /** An engine that can't be asked any more has no models: that is no failure. */
  async #unloadLocal(): Promise<void> {
    await Promise.allSettled(this.#models.local.map((model) => this.unload(model)));
    for (const model of this.#models.local) this.#models.delete(model);
    this.#end.signal.throwIfAborted();
  }

  #failAll(error: EngineError): void {
    for (const call of this.#calls.values()) call.reject(error);
  }
}

function absolute(url: string | URL): string {
  return resolved(url).href;
}
