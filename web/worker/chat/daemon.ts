/** Models that the daemon which serves this page runs on its own machine. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { Sampling } from "../shared/sampling-defaults.ts";
import type { AnswerChunk, ChatRequest, FitReport, LoadedModel } from "./engine.ts";

/** Where a bundle of the daemon is "loaded" from: its API, and the model's id behind the mark. */
const SCHEME = "daemon+";
const KEY = "mlc-edge.daemon-key";
/** The API's answers as far as they are read here. */
interface ApiError {
  error?: { message?: unknown; code?: unknown };
}

const REMEDIES: Record<number, string> = {
  401: "Enter a key that the daemon's owner gave you.",
  403: "Ask the daemon's owner for access.",
  429: "Wait a moment, then try again.",
  503: "It is starting or stopping: wait a moment, then try again.",
};

export function daemonUrl(api: string, id: string): string {
  return `${SCHEME}${api}#${encodeURIComponent(id)}`;
}

export function isDaemonUrl(url: string): boolean {
  return url.startsWith(SCHEME);
}

let heldKey: string | null = null;

/** Keeps the daemon's API key for this tab's lifetime. */
export function keepDaemonKey(key: string): void {
  heldKey = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Without storage it lasts until the page is left.
  }
}

function daemonKey(): string | null {
  try {
    return sessionStorage.getItem(KEY) ?? heldKey;
  } catch {
    return heldKey;
  }
}

/** One model of the daemon, by the interface of the browser's engine. */
export class DaemonModel {
  readonly #api: string;
  readonly #id: string;
  readonly #contextWindowSize: number;

  constructor(url: string, contextWindowSize: number) {
    const [api = "", id = ""] = url.slice(SCHEME.length).split("#");
    this.#api = api;
    this.#id = decodeURIComponent(id);
    this.#contextWindowSize = contextWindowSize;
  }

  /** Nothing is downloaded: the daemon has room for what it runs. */
  static readonly fit: FitReport = {
    fits: true,
    target: "daemon",
    problems: [],
    downloadBytes: 0,
    memoryBytes: 0,
  };

  /** Asks for the model, and with that whether the daemon is there and takes the key. */
  async load(signal: AbortSignal | undefined): Promise<LoadedModel> {
    const path = `models/${encodeURIComponent(this.#id)}`;
    const response = await this.#fetch(path, { signal: signal ?? null });
    const { sampling = null } = (await response.json()) as { sampling?: Sampling | null };
    const adapter = { vendor: "", architecture: "", description: "daemon", isSoftware: false };
    const contextWindowSize = this.#contextWindowSize;
    return { id: this.#id, target: "daemon", contextWindowSize, sampling, adapter };
  }

  async create(request: ChatRequest, signal: AbortSignal): Promise<AsyncIterable<AnswerChunk>> {
    const response = await this.#fetch("chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ ...request, model: this.#id }),
      signal,
    });
    if (!response.body) throw problem("network_error", "The daemon sent no answer.", "Try again.");
    return readChunks(response.body);
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    const key = daemonKey();
    const headers = { ...init.headers, ...(key && { authorization: `Bearer ${key}` }) };
    let response: Response;
    try {
      response = await fetch(new URL(path, this.#api), { ...init, headers });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      const message = "The daemon can't be reached.";
      throw problem("network_error", message, "Check that it runs, then try again.");
    }
    if (!response.ok) throw await problemOfResponse(response);
    return response;
  }
}

async function* readChunks(body: ReadableStream<Uint8Array>): AsyncGenerator<AnswerChunk> {
  const events = body
    .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
    .pipeThrough(new EventSourceParserStream());
  const reader = events.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw problem("network_error", "The daemon's answer broke off.", "Try again.");
      if (value.data === "[DONE]") return;
      const content = JSON.parse(value.data) as AnswerChunk & ApiError;
      if (content.error) throw problemOfError(content, "Try again.");
      yield content;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

async function problemOfResponse(response: Response): Promise<Error> {
  const remedy = REMEDIES[response.status] ?? "Try again, or choose another model.";
  try {
    return problemOfError((await response.json()) as ApiError, remedy, response.status);
  } catch {
    return problem("network_error", `The daemon answered with status ${response.status}.`, remedy);
  }
}

function problemOfError({ error }: ApiError, remedy: string, status = 0): Error {
  const message = typeof error?.message === "string" ? error.message : "The daemon failed.";
  const code = typeof error?.code === "string" ? error.code : "internal";
  return problem(status === 401 ? "unauthorized" : code, message, remedy);
}

function problem(code: string, message: string, remedy: string): Error {
  return Object.assign(new Error(message), { code, remedy });
}
