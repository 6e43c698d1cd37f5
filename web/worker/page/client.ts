/** The engine as the main thread sees it: calls become messages to a worker that computes. */
import { EngineError } from "../shared/errors.ts";
import type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionParams,
  ChatMessage,
  StreamingParams,
  WholeParams,
} from "../shared/openai.ts";
import type {
  CallKind,
  CallResults,
  DebugAction,
  DebugReplies,
  DeletedFiles,
  DeletedLeftovers,
  EngineEvent,
  FitReport,
  Hello,
  LoadedModel,
  LoadOptions,
  SavedState,
  StorageAction,
  StorageReplies,
  StoredContents,
  WorkerReply,
  WorkerRequest,
} from "../shared/protocol.ts";
import { ChunkStream } from "./chunk-stream.ts";
import { EngineWorker } from "./engine-worker.ts";
import { openAiFetch } from "./openai-fetch.ts";
import { SharedEngine } from "./shared-engine.ts";
import { requestPersistence, storageEstimate } from "./persistence.ts";

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
 * Calls fail with EngineError, or with the AbortSignal's reason once that was given.
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
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  #lastId = 0;
  readonly #models = new Map<string, LoadedModel>();
  #disposed = false;

  /**
   * `workerUrl` is the bundled engine, which counts as unreachable if it doesn't start within
   * `startTimeoutMs`, three times; an endpoint is one that runs already.
   */
  constructor({ workerUrl, endpoint, startTimeoutMs, shared, ...options }: EngineSource) {
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
    return this.#disposed ? [] : [...this.#models.values()];
  }

  /** Id of the model that was loaded last. */
  get model(): string | null {
    return this.models.at(-1)?.id ?? null;
  }

  /** Calls `listener` on every event; the returned function ends that. */
  onEvent(listener: (event: EngineEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Says whether the bundle would run here, before anything big is downloaded. */
  async check(bundleUrl: string | URL, { signal }: CallOptions = {}): Promise<FitReport> {
    return this.#call({ kind: "check", bundleUrl: absolute(bundleUrl) }, signal);
  }

  /**
   * Downloads and prepares the bundle, beside the models that are loaded, or with `replace` in their place.
   * Where another tab has the same one it is there at once.
   */
  async load(
    bundleUrl: string | URL,
    { signal, ...options }: CallOptions & LoadOptions = {},
  ): Promise<LoadedModel> {
    const model = await this.#call({ kind: "load", bundleUrl: absolute(bundleUrl), options }, signal);
    this.#models.delete(model.id);
    this.#models.set(model.id, model);
    return model;
  }

  /**
   * Computes what chats with these messages begin with, and stores it under `name` for the next visit; where it
   * is stored already it is read instead. `model` may be left out where this page has loaded one.
   */
  async saveState(name: string, messages: ChatMessage[], options: StateOptions = {}): Promise<SavedState> {
    const { signal, ...model } = options;
    return (await this.#call({ kind: "state", name, messages, ...model }, signal)) as SavedState;
  }

  /**
   * Reads what `saveState` stored, so that chats with its messages begin at once; null where nothing usable is
   * stored under this name for this version of the model and this device.
   */
  async loadState(name: string, { signal, ...model }: StateOptions = {}): Promise<SavedState | null> {
    return this.#call({ kind: "state", name, ...model }, signal);
  }

  /** Gives up a model, or all, once their answers have ended; the memory is freed when no tab has them. */
  async unload(model?: string): Promise<void> {
    await this.#call({ kind: "unload", ...(model !== undefined && { model }) });
    if (model === undefined) this.#models.clear();
    else this.#models.delete(model);
  }

  /** Gives up the engine; calls that are still open fail, as do those that come later. */
  dispose(): void {
    this.#disposed = true;
    this.#failAll(disposed());
    if (this.#worker.terminate) this.#worker.terminate();
    else this.#worker.close?.();
  }

  async #create(
    params: ChatCompletionParams,
    { signal }: CallOptions = {},
  ): Promise<ChatCompletion | ChunkStream> {
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
    if (this.#disposed) throw disposed();
    const id = ++this.#lastId;
    const abort = (): void => this.#abort(id);
    signal?.addEventListener("abort", abort);
    try {
      const value = await new Promise<CallResults[CallKind]>((resolve, reject) => {
        this.#calls.set(id, { resolve, reject, ...(onChunk && { onChunk }) });
        this.#worker.postMessage({ ...body, id } as WorkerRequest);
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
      this.#note(reply.event);
      for (const listener of this.#listeners) listener(reply.event);
      return;
    }
    const call = this.#calls.get(reply.id);
    if (reply.kind === "chunk") call?.onChunk?.(reply.chunk);
    else if (reply.kind === "result") call?.resolve(reply.value);
    else if (reply.kind === "error") call?.reject(new EngineError(reply.error));
    else call?.reject(aborted());
  }

  #note(event: EngineEvent): void {
    if (event.kind !== "model") return;
    const model = this.#models.get(event.id);
    if (event.state === "dropped") this.#models.delete(event.id);
    else if (model) this.#models.set(event.id, { ...model, memoryBytes: event.memoryBytes });
  }

  #failAll(error: EngineError): void {
    for (const call of this.#calls.values()) call.reject(error);
  }
}

function aborted(): DOMException {
  return new DOMException("The call was aborted.", "AbortError");
}

function disposed(): EngineError {
  return new EngineError({
    code: "model_not_loaded",
    message: "The engine was disposed.",
    remedy: "Create a new engine.",
  });
}

/** A worker resolves relative addresses against its own file, a page against itself. */
function absolute(url: string | URL): string {
  return new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href).href;
}
