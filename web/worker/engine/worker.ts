/** The worker's entry: messages become calls of the engine. */
import { asEngineError, EngineError, isAbort } from "../shared/errors.ts";
import type { CallKind, CallResults, WorkerReply, WorkerRequest } from "../shared/protocol.ts";
import { outOfMemory } from "./device.ts";
import { Engine } from "./engine.ts";

type CallRequest = Exclude<WorkerRequest, { kind: "abort" }>;

const scope = self as unknown as DedicatedWorkerGlobalScope;
const post = (reply: WorkerReply): void => scope.postMessage(reply);
const engine = new Engine((event) => post({ kind: "event", event }));
const calls = new Map<number, AbortController>();

scope.addEventListener("message", ({ data }: MessageEvent<WorkerRequest>) => {
  if (data.kind === "abort") calls.get(data.id)?.abort();
  else void serve(data);
});

async function serve(request: CallRequest): Promise<void> {
  const { id } = request;
  const controller = new AbortController();
  calls.set(id, controller);
  try {
    post({ kind: "result", id, value: await call(request, controller.signal) });
  } catch (error) {
    if (controller.signal.aborted && isAbort(error)) post({ kind: "aborted", id });
    else post({ kind: "error", id, error: typed(error).toData() });
  } finally {
    calls.delete(id);
  }
}

async function call(request: CallRequest, signal: AbortSignal): Promise<CallResults[CallKind]> {
  const { id } = request;
  switch (request.kind) {
    case "check":
      return engine.check(request.bundleUrl, signal);
    case "load":
      return engine.load(request.bundleUrl, request.options, signal);
    case "unload":
      return engine.unload(signal);
    case "complete":
      return engine.complete(request.params, (chunk) => post({ kind: "chunk", id, chunk }), signal);
    case "storage":
      return engine.storage(request, signal);
    case "debug":
      if (request.action === "lose-device") return engine.loseDevice();
      if (request.action === "memory") return engine.memory();
      return engine.logits(request.tokenIds, signal);
  }
}

/** Browsers report a failed allocation in JavaScript as a RangeError. */
function typed(error: unknown): EngineError {
  return error instanceof RangeError ? outOfMemory(error.message) : asEngineError(error);
}
