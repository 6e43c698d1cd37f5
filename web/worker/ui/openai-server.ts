/** A server that speaks OpenAI's API, as conversations use it. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { AnswerChunk, ChatRequest } from "../chat/engine.ts";
import type { Sampling } from "../shared/sampling-defaults.ts";

/** The API's answers as far as they are read here. */
interface ApiError {
  error?: { message?: unknown; code?: unknown };
}

interface ServerOptions {
  /** What people know it as, in errors. */
  name: string;
  /** By status; what to do about an error. */
  remedies: Record<number, string>;
  key?: () => string | null;
}

export class OpenAiServer {
  readonly #api: string;
  readonly #options: ServerOptions;

  /** `api` ends with a slash. */
  constructor(api: string, options: ServerOptions) {
    this.#api = api;
    this.#options = options;
  }

  /** Ids of its models. */
  async models(signal: AbortSignal): Promise<string[]> {
    const response = await this.#fetch("models", { signal });
    const { data } = (await response.json()) as { data?: { id?: unknown }[] };
    return (Array.isArray(data) ? data : []).flatMap(({ id }) => (typeof id === "string" ? [id] : []));
  }

  /** What the files of a model name, where the server says so. */
  async sampling(model: string, signal: AbortSignal | undefined): Promise<Sampling | null> {
    const response = await this.#fetch(`models/${encodeURIComponent(model)}`, { signal: signal ?? null });
    const { sampling = null } = (await response.json()) as { sampling?: Sampling | null };
    return sampling;
  }

  async create(request: ChatRequest & { model: string }, signal: AbortSignal): Promise<AsyncIterable<AnswerChunk>> {
    const response = await this.#fetch("chat/completions", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(request),
      signal,
    });
    const { name } = this.#options;
    if (!response.body) throw problem("network_error", `The ${name} sent no answer.`, "Try again.");
    return this.#chunks(response.body);
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    const { name, key } = this.#options;
    const bearer = key?.();
    const headers = { ...init.headers, ...(bearer && { authorization: `Bearer ${bearer}` }) };
    let response: Response;
    try {
      response = await fetch(new URL(path, this.#api), { ...init, headers });
    } catch (error) {
      if (init.signal?.aborted) throw error;
      throw problem("network_error", `The ${name} can't be reached.`, "Check that it runs, then try again.");
    }
    if (!response.ok) throw await this.#refusal(response);
    return response;
  }

  async *#chunks(body: ReadableStream<Uint8Array>): AsyncGenerator<AnswerChunk> {
    const { name } = this.#options;
    const events = body
      .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
      .pipeThrough(new EventSourceParserStream());
    const reader = events.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) throw problem("network_error", `The ${name}'s answer broke off.`, "Try again.");
        if (value.data === "[DONE]") return;
        const content = JSON.parse(value.data) as AnswerChunk & ApiError;
        if (content.error) throw this.#problem(content, "Try again.");
        yield content;
      }
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  async #refusal(response: Response): Promise<Error> {
    const { name, remedies } = this.#options;
    const remedy = remedies[response.status] ?? "Try again, or choose another model.";
    try {
      return this.#problem((await response.json()) as ApiError, remedy, response.status);
    } catch {
      return problem("network_error", `The ${name} answered with status ${response.status}.`, remedy);
    }
  }

  #problem({ error }: ApiError, remedy: string, status = 0): Error {
    const message = typeof error?.message === "string" ? error.message : `The ${this.#options.name} failed.`;
    const code = typeof error?.code === "string" ? error.code : "internal";
    return problem(status === 401 ? "unauthorized" : code, message, remedy);
  }
}

function problem(code: string, message: string, remedy: string): Error {
  return Object.assign(new Error(message), { code, remedy });
}
