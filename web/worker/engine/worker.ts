/** The worker's entry: messages become calls of the engine. */
import { asEngineError, isAbort } from "../shared/errors.ts";
import type { ChatCompletionChunk } from "../shared/openai.ts";
import type { CallKind, CallResults, WorkerReply, WorkerRequest } from "../shared/protocol.ts";
import { Engine } from "./engine.ts";

type CallRequest = Exclude<WorkerRequest, { kind: "abort" }>;

/** One page: its dedicated worker's own scope, or a port of a shared worker. */
type Page = Pick<MessagePort, "postMessage" | "addEventListener"> & { start?(): void };

const pages: Page[] = [];
const engine = new Engine((event) => {
  for (const page of pages) post(page, { kind: "event", event });
});

if ("onconnect" in self) {
  self.addEventListener("connect", (event) => {
    for (const port of (event as MessageEvent).ports) attend(port);
  });
} else attend(self as unknown as DedicatedWorkerGlobalScope);

function attend(page: Page): void {
  const calls = new Map<number, AbortController>();
  pages.push(page);
  page.addEventListener("message", ((event: MessageEvent<WorkerRequest>) => {
    const { data } = event;
    if (data.kind === "abort") calls.get(data.id)?.abort();
    else void serve(page, data, calls);
  }) as EventListener);
  page.start?.();
  post(page, { kind: "started" });
}

function post(page: Page, reply: WorkerReply): void {
  page.postMessage(reply);
}

async function serve(
  page: Page,
  request: CallRequest,
  calls: Map<number, AbortController>,
): Promise<void> {
  const { id } = request;
  const controller = new AbortController();
  const onChunk = (chunk: ChatCompletionChunk): void => post(page, { kind: "chunk", id, chunk });
  calls.set(id, controller);
  try {
    const value = await call(request, onChunk, controller.signal);
    post(page, { kind: "result", id, value });
  } catch (error) {
    if (controller.signal.aborted && isAbort(error)) post(page, { kind: "aborted", id });
    else post(page, { kind: "error", id, error: asEngineError(error).toData() });
  } finally {
    calls.delete(id);
  }
}

async function call(
  request: CallRequest,
  onChunk: (chunk: ChatCompletionChunk) => void,
  signal: AbortSignal,
): Promise<CallResults[CallKind]> {
  switch (request.kind) {
    case "check":
      return engine.check(request.bundleUrl, request.options, signal);
    case "load":
      return engine.load(request.bundleUrl, request.options, signal);
    case "unload":
      return engine.unload(signal);
    case "complete":
      return engine.complete(request.params, onChunk, signal);
    case "count":
      return engine.count(request.messages, signal);
    case "storage":
      return engine.storage(request, signal);
    case "debug":
      if (request.action === "lose-device") return engine.loseDevice();
      if (request.action === "memory") return engine.memory();
      return engine.logits(request.tokenIds, signal);
  }
}
