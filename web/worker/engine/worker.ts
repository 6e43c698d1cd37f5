/** The worker's entry: messages of pages become calls of the engine. */
import { asEngineError, isAbort } from "../shared/errors.ts";
import type { ChatCompletionChunk } from "../shared/openai.ts";
import type {
  CallKind,
  CallResults,
  Greeting,
  LobbyMessage,
  WorkerReply,
  WorkerRequest,
} from "../shared/protocol.ts";
import { holdForLife, whenFree } from "../shared/presence.ts";
import { Engine } from "./engine.ts";
import { Client } from "./resident.ts";

type CallRequest = Exclude<WorkerRequest, { kind: "abort" }>;

/** One page: its dedicated worker's own scope, a port of a shared worker, or a channel of its own. */
type Page = Pick<MessagePort, "postMessage" | "addEventListener"> & { start?(): void; close?(): void };

const engine = new Engine();
/** How a page that shares the engine leaves it, by the Web Lock that it holds. */
const leaving = new Map<string, () => void>();

if ("onconnect" in self) {
  const lock = holdForLife("mlc-edge worker");
  self.addEventListener("connect", (event) => {
    for (const port of (event as MessageEvent).ports) void lock.then((worker) => attend(port, { worker, page: null }));
  });
} else attend(self as unknown as Page, { worker: null, page: null });

/** Web Locks: of a worker that ends with its pages, and of a page. */
interface Presence {
  worker: string | null;
  page: string | null;
}

function attend(page: Page, locks: Presence): void {
  const calls = new Map<number, AbortController>();
  const client = new Client((event) => post({ kind: "event", event }));
  const post = (reply: WorkerReply): void => {
    // A channel that is closed takes nothing any more.
    if (!client.gone.signal.aborted) page.postMessage(reply);
  };
  engine.connect(client);
  page.addEventListener("message", ((event: MessageEvent<WorkerRequest | Greeting>) => {
    const { data } = event;
    if (data.kind === "abort") calls.get(data.id)?.abort();
    else if (data.kind === "serve") openLobby(data.lobby);
    else if (data.kind === "hello") {
      client.memoryBudget = data.memoryBudget;
      engine.adopt(client, data.models);
      if (data.lock !== locks.page) watch(data.lock, leave);
    } else void serve(post, data, { calls, client });
  }) as EventListener);
  watch(locks.page, leave);
  page.start?.();
  post({ kind: "started", webgpu: "gpu" in navigator, lock: locks.worker });

  function leave(): void {
    for (const controller of calls.values()) controller.abort();
    engine.disconnect(client);
    page.close?.();
  }
}

/** Calls `leave` when the page ends, however it does, or comes anew. */
function watch(lock: string | null, leave: () => void): void {
  if (lock === null) return;
  leaving.get(lock)?.();
  const waiting = new AbortController();
  const end = (): void => {
    waiting.abort();
    if (leaving.get(lock) === end) leaving.delete(lock);
    leave();
  };
  leaving.set(lock, end);
  void whenFree(lock, waiting.signal).then((isFree) => {
    if (isFree) end();
  });
}

/** Attends every page that knocks. */
function openLobby(name: string): void {
  const lobby = new BroadcastChannel(name);
  lobby.addEventListener("message", ({ data }: MessageEvent<LobbyMessage>) => {
    if (data.kind === "knock") attend(new BroadcastChannel(data.channel), { worker: null, page: data.lock });
  });
  lobby.postMessage({ kind: "serving" } satisfies LobbyMessage);
}

async function serve(
  post: (reply: WorkerReply) => void,
  request: CallRequest,
  { calls, client }: { calls: Map<number, AbortController>; client: Client },
): Promise<void> {
  const { id } = request;
  const controller = new AbortController();
  const { signal } = controller;
  const onChunk = (chunk: ChatCompletionChunk): void => post({ kind: "chunk", id, chunk });
  calls.set(id, controller);
  try {
    const value = await call(client, request, { onChunk, signal });
    post({ kind: "result", id, value });
  } catch (error) {
    if (signal.aborted && isAbort(error)) post({ kind: "aborted", id });
    else post({ kind: "error", id, error: asEngineError(error).toData() });
  } finally {
    calls.delete(id);
  }
}

async function call(
  client: Client,
  request: CallRequest,
  { onChunk, signal }: { onChunk: (chunk: ChatCompletionChunk) => void; signal: AbortSignal },
): Promise<CallResults[CallKind]> {
  switch (request.kind) {
    case "check":
      return engine.check(client, request, signal);
    case "load":
      return engine.load(client, request, signal);
    case "unload":
      return engine.unload(client, request.model);
    case "complete":
      return engine.complete(client, request.params, { onChunk, signal });
    case "count":
      return engine.count(client, request, signal);
    case "state":
      return engine.state(client, request, signal);
    case "storage":
      return engine.storage(request, signal);
    case "debug":
      if (request.action === "lose-device") return engine.loseDevice(client, signal);
      if (request.action === "memory") return engine.memory();
      return engine.logits(client, request.tokenIds, signal);
  }
}
