/** A `fetch` that speaks OpenAI's API and asks the engine instead of a network. */
import { asEngineError, EngineError, isAbort } from "../shared/errors.ts";
import type {
  ChatCompletionChunk,
  ChatCompletionParams,
  StreamingParams,
  WholeParams,
} from "../shared/openai.ts";
import type { ErrorCode } from "../shared/protocol.ts";
import type { ChunkStream } from "./chunk-stream.ts";
import type { Completions } from "./client.ts";

/** The part of the engine that answers. */
export interface Answering {
  readonly chat: { readonly completions: Completions };
  /** Those that are loaded. */
  readonly models: readonly { readonly id: string }[];
}

/** HTTP status by code, as the daemon answers; 500 for what isn't named. */
const STATUS: Partial<Record<ErrorCode | "model_not_found" | "not_found", number>> = {
  invalid_request: 400,
  context_length_exceeded: 400,
  unauthorized: 401,
  consent_declined: 403,
  model_not_found: 404,
  not_found: 404,
  rate_limited: 429,
  remote_error: 502,
  network_error: 502,
  model_not_loaded: 503,
  queue_full: 429,
  device_lost: 503,
  interrupted: 503,
  out_of_memory: 503,
};

/**
 * For clients that take a `fetch` of their own: the `openai` package, the AI SDK, LangChain.js.
 *
 * Answers `POST …/chat/completions`, whole or as server-sent events, `GET …/models` and `GET …/models/ID`
 * below any base URL; everything else is 404. Aborting the request ends the answer.
 */
export function openAiFetch(engine: Answering): typeof fetch {
  return async (input, init) => {
    const request = new Request(input, init);
    request.signal.throwIfAborted();
    const { pathname } = new URL(request.url);
    try {
      if (request.method === "POST" && pathname.endsWith("/chat/completions")) {
        return await complete(engine, request);
      }
      if (request.method === "GET") return models(engine, pathname);
    } catch (error) {
      request.signal.throwIfAborted();
      if (isAbort(error)) throw error;
      return refusal(asEngineError(error));
    }
    return notFound(`${request.method} ${pathname}`);
  };
}

async function complete({ chat }: Answering, request: Request): Promise<Response> {
  const { signal } = request;
  const params = await paramsOf(request);
  // What is no boolean is the engine's to refuse, too.
  if (!params.stream) return Response.json(await chat.completions.create(params as WholeParams, { signal }));
  const stream = await chat.completions.create(params as StreamingParams, { signal });
  // A request that is refused has a status; only what happens later is an event.
  const first = await stream.next();
  return new Response(events(stream, first, signal), { headers: { "content-type": "text/event-stream" } });
}

async function paramsOf(request: Request): Promise<ChatCompletionParams> {
  const remedy = "Send an object with messages.";
  let body: unknown;
  try {
    body = await request.json();
  } catch (cause) {
    throw new EngineError(
      { code: "invalid_request", message: "The request's body is no JSON.", remedy },
      { cause },
    );
  }
  if (typeof body === "object" && body !== null && !Array.isArray(body)) return body as ChatCompletionParams;
  throw new EngineError({ code: "invalid_request", message: "The request's body is no object.", remedy });
}

function events(
  stream: ChunkStream,
  first: IteratorResult<ChatCompletionChunk>,
  signal: AbortSignal,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let next: IteratorResult<ChatCompletionChunk> | null = first;
  return new ReadableStream({
    async pull(controller) {
      const send = (data: string): void => controller.enqueue(encoder.encode(`data: ${data}\n\n`));
      try {
        const { value, done } = next ?? (await stream.next());
        next = null;
        send(done ? "[DONE]" : JSON.stringify(value));
        if (done) controller.close();
      } catch (error) {
        if (signal.aborted || isAbort(error)) {
          controller.error(signal.aborted ? signal.reason : error);
          return;
        }
        send(JSON.stringify(body(asEngineError(error))));
        controller.close();
      }
    },
    async cancel() {
      await stream.return();
    },
  });
}

function models(engine: Answering, path: string): Response {
  const entries = engine.models.map(({ id }) => ({ id, object: "model", created: 0, owned_by: "mlc-edge" }));
  if (path.endsWith("/models")) return Response.json({ object: "list", data: entries });
  const [entry] = entries.filter(({ id }) => path.endsWith(`/models/${encodeURIComponent(id)}`));
  return entry ? Response.json(entry) : notFound(path);
}

function notFound(what: string): Response {
  const message = `${what} isn't answered: there are /chat/completions and /models.`;
  const error = { message, type: "invalid_request_error", param: null, code: "not_found" };
  return Response.json({ error }, { status: 404 });
}

function refusal(error: EngineError): Response {
  return Response.json(body(error), { status: STATUS[codeOf(error)] ?? 500 });
}

function body(error: EngineError) {
  const code = codeOf(error);
  const status = STATUS[code] ?? 500;
  const type =
    status === 503 ? "service_unavailable" : status >= 500 ? "server_error" : "invalid_request_error";
  return { error: { message: error.message, type, param: error.param ?? null, code } };
}

/** To the engine another model's name is a wrong parameter; OpenAI's clients expect 404. */
function codeOf({ code, param }: EngineError): ErrorCode | "model_not_found" {
  return code === "invalid_request" && param === "model" ? "model_not_found" : code;
}
