/** A server that speaks OpenAI's HTTP API: requests, server-sent events, and what goes wrong with them. */
import { createParser, type EventSourceParser } from "eventsource-parser";
import { EngineError } from "../shared/errors.ts";
import type { ErrorCode } from "../shared/protocol.ts";
import { sent } from "../shared/sending.ts";
import { within } from "../store/patience.ts";

export interface RemoteServer {
  /** Below which the API's paths are, such as https://example.com/v1. */
  url: string | URL;
  /** As people know it, at the beginning of a sentence. */
  name: string;
  /** Asked for each request; null for none. */
  key: () => string | null;
  /** One that says nothing for so long, not even a comment, counts as absent; default: a minute, Infinity for never. */
  silenceMs?: number | undefined;
}

interface ApiError {
  error?: { message?: unknown; code?: unknown; param?: unknown } | string | null;
}

const SILENCE_MS = 60_000;
const REMEDIES: Record<number, string> = {
  401: "Use a key that the server's owner gave you.",
  403: "Ask the server's owner for access.",
  429: "Wait a moment, then try again.",
  503: "It is starting or stopping: wait a moment, then try again.",
};
const CODES: Record<number, ErrorCode> = {
  400: "invalid_request",
  401: "unauthorized",
  403: "unauthorized",
  404: "invalid_request",
  413: "invalid_request",
  422: "invalid_request",
  429: "rate_limited",
};

export class RemoteApi {
  readonly #server: RemoteServer;
  readonly #base: URL;
  readonly #silenceMs: number;

  constructor(server: RemoteServer) {
    this.#server = server;
    this.#base = new URL(server.url);
    if (!this.#base.pathname.endsWith("/")) this.#base.pathname += "/";
    this.#silenceMs = server.silenceMs ?? SILENCE_MS;
  }

  get origin(): string {
    return this.#base.origin;
  }

  /** Throws EngineError: unauthorized, rate_limited, network_error, remote_error; the signal's reason. */
  async get(path: string, signal?: AbortSignal): Promise<unknown> {
    return this.#fetch(path, {}, signal, (response, patience) => this.#json(response, patience));
  }

  /** A whole answer. Nothing comes before its end: no silence is too long. */
  async post(path: string, body: object, signal?: AbortSignal): Promise<unknown> {
    const request = posted(body);
    return this.#fetch(path, request, signal, (response, patience) => this.#json(response, patience), Infinity);
  }

  /** The objects of a stream as they come, up to its mark of the end. */
  async *stream<T>(path: string, body: object, signal?: AbortSignal): AsyncGenerator<T, void, undefined> {
    const response = await this.#fetch(path, posted(body), signal, async (response) => response);
    const type = response.headers.get("content-type") ?? "";
    if (!response.body || /^text\/html\b/i.test(type)) throw this.#absent("sent a page in place of an answer");
    const reader = response.body.getReader();
    try {
      yield* this.#events<T>(reader, signal);
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  async *#events<T>(
    reader: ReadableStreamDefaultReader<Uint8Array>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<T, void, undefined> {
    const found: string[] = [];
    const parser: EventSourceParser = createParser({ onEvent: ({ data }) => void found.push(data) });
    const decoder = new TextDecoder();
    for (;;) {
      const { done, value } = await this.#read(reader, signal);
      if (value) parser.feed(decoder.decode(value, { stream: true }));
      for (const data of found.splice(0)) {
        if (data === "[DONE]") return;
        const content = this.#parsed(data) as ApiError;
        if (content.error) throw this.#told(content, 0);
        yield content as Awaited<T>;
      }
      if (done) throw this.#brokenOff();
    }
  }

  async #read(
    reader: ReadableStreamDefaultReader<Uint8Array>,
    signal: AbortSignal | undefined,
  ): Promise<ReadableStreamReadResult<Uint8Array>> {
    try {
      return await heard(this.#silenceMs, reader.read());
    } catch {
      signal?.throwIfAborted();
      throw this.#brokenOff();
    }
  }

  /** What `take` makes of an answer that is no error. */
  async #fetch<T>(
    path: string,
    init: RequestInit,
    signal: AbortSignal | undefined,
    take: (response: Response, silenceMs: number) => Promise<T>,
    silenceMs = this.#silenceMs,
  ): Promise<T> {
    signal?.throwIfAborted();
    const patience = new AbortController();
    const key = this.#server.key();
    const headers = { ...init.headers, ...(key && { authorization: `Bearer ${key}` }) };
    const either = signal ? AbortSignal.any([signal, patience.signal]) : patience.signal;
    let response: Response;
    try {
      const request = fetch(new URL(path, this.#base), { ...init, headers, redirect: "error", signal: either });
      response = await heard(silenceMs, request);
    } catch {
      patience.abort();
      signal?.throwIfAborted();
      throw this.#absent("can't be reached");
    }
    if (!response.ok) throw await this.#refusal(response, signal);
    try {
      return await take(response, silenceMs);
    } catch (error) {
      signal?.throwIfAborted();
      throw error;
    }
  }

  async #json(response: Response, silenceMs: number): Promise<unknown> {
    let text: string;
    try {
      text = await heard(silenceMs, response.text());
    } catch {
      throw this.#brokenOff();
    }
    const content = this.#parsed(text) as ApiError;
    if (content.error) throw this.#told(content, 0);
    return content;
  }

  #parsed(text: string): object {
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === "object" && value !== null) return value;
    } catch {
      // That is what the error says.
    }
    throw this.#absent("sent something else in place of an answer");
  }

  async #refusal(response: Response, signal: AbortSignal | undefined): Promise<EngineError> {
    const { status } = response;
    const text = await heard(this.#silenceMs, response.text()).catch(() => "");
    signal?.throwIfAborted();
    try {
      const content = JSON.parse(text) as ApiError | null;
      if (content?.error) return this.#told(content, status);
    } catch {
      // A proxy's page: it has no message.
    }
    const remedy = REMEDIES[status] ?? "Try again, or use another server.";
    const code = CODES[status] ?? "network_error";
    return new EngineError({ code, message: `${this.#server.name} answered with status ${status}.`, remedy });
  }

  /** The server's own words. */
  #told({ error }: ApiError, status: number): EngineError {
    const { message, code, param } = typeof error === "string" ? { message: error } : (error ?? {});
    const isTooLong = code === "context_length_exceeded";
    return new EngineError({
      code: isTooLong ? "context_length_exceeded" : (CODES[status] ?? "remote_error"),
      message: typeof message === "string" && message ? message : `${this.#server.name} failed.`,
      remedy: REMEDIES[status] ?? "Try again, or change the request.",
      ...(typeof param === "string" && { param }),
    });
  }

  #brokenOff(): EngineError {
    return new EngineError({
      code: "network_error",
      message: `${this.#server.name}'s answer broke off.`,
      remedy: "Try again.",
    });
  }

  #absent(what: string): EngineError {
    return new EngineError({
      code: "network_error",
      message: `${this.#server.name} ${what}.`,
      remedy: "Check that it runs and that this page may use it, then try again.",
    });
  }
}

/** What comes within so long. Throws TypeError if nothing does. */
function heard<T>(silenceMs: number, said: Promise<T>): Promise<T> {
  return silenceMs === Infinity ? said : within(silenceMs, said);
}

/** Throws EngineError "invalid_request". */
function posted(body: object): RequestInit {
  const text = sent(() => JSON.stringify(body));
  return { method: "POST", headers: { "content-type": "application/json" }, body: text };
}
