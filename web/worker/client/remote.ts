/** A remote server's model behind the engine's interface: the last resort, and only with consent. */
import { RemoteApi } from "../remote/api.ts";
import { unlessAborted } from "../shared/aborts.ts";
import { EngineError } from "../shared/errors.ts";
import type { ChatCompletion, ChatCompletionChunk, ChatCompletionParams } from "../shared/openai.ts";
import type { LeftBackend, LoadedModel } from "../shared/protocol.ts";
import type { Sampling } from "../shared/sampling-defaults.ts";
import { ChunkStream } from "./chunk-stream.ts";
import { resolved } from "./address.ts";

/** What the user is asked. */
export interface ConsentRequest {
  /** Where messages would be sent to. */
  origin: string;
  url: string;
  /** Null: the server's first. */
  model: string | null;
  /** Why nothing that comes before it is used. */
  tried: readonly LeftBackend[];
}

export interface RemoteBackend {
  /** A server with OpenAI's API, such as https://example.com/v1. */
  remote: string | URL;
  /** True if the user has agreed that messages go there; else this asks, each time before it is used. */
  consent: true | ((request: ConsentRequest) => boolean | Promise<boolean>);
  /** Its name there; default: the first that the server lists. */
  model?: string;
  apiKey?: string;
  /** A server that says nothing for so long counts as absent; default: 60,000. Whole answers may take longer. */
  silenceMs?: number;
}

interface ModelEntry {
  id?: unknown;
  max_model_len?: unknown;
  sampling?: Sampling | null;
}

export interface OpenRemote {
  /** Why nothing that comes before it is used. */
  tried: readonly LeftBackend[];
  /** Ends the opening. */
  signal: AbortSignal;
  /** Ends all answers, with its reason. */
  ended: AbortSignal;
}

export function originOf({ remote }: RemoteBackend): string {
  return resolved(remote).origin;
}

export class RemoteModel {
  readonly loaded: LoadedModel;
  readonly #api: RemoteApi;
  readonly #ended: AbortSignal;

  /**
   * Asks for consent, then the server for its models.
   *
   * Throws EngineError: consent_declined, unauthorized, network_error, and what the server tells; the signal's reason.
   */
  static async open(backend: RemoteBackend, { tried, signal, ended }: OpenRemote): Promise<RemoteModel> {
    const { remote, consent, model = null, apiKey = null, silenceMs } = backend;
    const url = resolved(remote);
    const api = new RemoteApi({ url, name: url.origin, key: () => apiKey, silenceMs });
    const request = { origin: url.origin, url: url.href, model, tried };
    const agreed = consent === true || (await unlessAborted(consent(request), signal));
    if (agreed !== true) throw declined(url.origin);
    const entry = await findModel(api, model, signal);
    return new RemoteModel(api, entry, { tried, ended });
  }

  private constructor(
    api: RemoteApi,
    { id, max_model_len: window, sampling }: ModelEntry,
    { tried, ended }: Omit<OpenRemote, "signal">,
  ) {
    const { origin } = api;
    const reason = `Messages are sent to ${origin}${tried.length > 0 ? ": nothing that comes before it runs here" : ""}.`;
    this.#api = api;
    this.#ended = ended;
    this.loaded = {
      id: String(id),
      target: "remote",
      contextWindowSize: typeof window === "number" ? window : 0,
      vocabSize: 0,
      sampling: sampling ?? {},
      adapter: { vendor: "", architecture: "", description: origin, isSoftware: false },
      backend: { kind: "remote", target: null, adapter: null, origin, reason, tried: [...tried] },
      bytes: 0,
      memoryBytes: 0,
      downloadMs: 0,
      uploadMs: 0,
      pipelineMs: 0,
    };
  }

  /** Sends messages to the server; whatever model `params` names, it is asked for its own. */
  async create(params: ChatCompletionParams, signal?: AbortSignal): Promise<ChatCompletion | ChunkStream> {
    const body = { ...params, model: this.loaded.id };
    const signals = signal ? [signal, this.#ended] : [this.#ended];
    if (!params.stream) {
      return (await this.#api.post("chat/completions", body, AbortSignal.any(signals))) as ChatCompletion;
    }
    const left = new AbortController();
    const stream = new ChunkStream(() => left.abort());
    void this.#pass(body, stream, AbortSignal.any([...signals, left.signal]));
    return stream;
  }

  async #pass(body: object, stream: ChunkStream, signal: AbortSignal): Promise<void> {
    try {
      const chunks = this.#api.stream<ChatCompletionChunk>("chat/completions", body, signal);
      for await (const chunk of chunks) stream.push(chunk);
      stream.end();
    } catch (error) {
      stream.fail(error);
    }
  }
}

/** Servers without a list of models are asked for the one that was named. */
async function findModel(api: RemoteApi, model: string | null, signal: AbortSignal): Promise<ModelEntry> {
  const listed = await api.get("models", signal).catch((error: unknown) => {
    if (model !== null && error instanceof EngineError && error.code === "invalid_request") return {};
    throw error;
  });
  const { data } = listed as { data?: unknown };
  const entries = (Array.isArray(data) ? data : []) as (ModelEntry | null)[];
  if (model !== null) return entries.find((entry) => entry?.id === model) ?? { id: model };
  const first = entries.find((entry) => typeof entry?.id === "string");
  if (first) return first;
  throw new EngineError({
    code: "network_error",
    message: `${api.origin} lists no models.`,
    remedy: "Name one as `model` beside `remote`.",
  });
}

function declined(origin: string): EngineError {
  return new EngineError({
    code: "consent_declined",
    message: `Messages may not be sent to ${origin}: its use was declined.`,
    remedy: "Agree to it, or use a device that runs the model itself.",
  });
}
