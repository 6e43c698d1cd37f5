/**
 * One engine for all tabs of an origin: a SharedWorker, else a worker of the tab that Web Locks elects.
 *
 * Requests that are open when the engine ends are repeated to the next one.
 */
import { asEngineError, EngineError } from "../shared/errors.ts";
import { hold, whenFree, type Held } from "../shared/presence.ts";
import type { HeldModel, Hello, LoadedModel, WorkerReply, WorkerRequest } from "../shared/protocol.ts";
import { resolved } from "./address.ts";
import { Delivery } from "./delivery.ts";
import { ElectedEngine } from "./elected-engine.ts";
import { EngineWorker, type WorkerListener } from "./engine-worker.ts";

type CallRequest = Exclude<WorkerRequest, { kind: "abort" }>;

/** The way to an engine; it holds requests back until there is one. */
interface Link {
  postMessage(request: WorkerRequest): void;
  /** Takes a request back that no engine has seen; false if one has. */
  withdraw(id: number): boolean;
  terminate(): void;
}

interface OpenCall {
  readonly request: CallRequest;
  readonly delivery: Delivery;
  aborted: boolean;
}

export interface SharedOptions {
  startTimeoutMs?: number | undefined;
  memoryBudget: number | null;
}

export class SharedEngine {
  readonly #url: URL;
  readonly #listener: WorkerListener;
  readonly #options: SharedOptions;
  readonly #calls = new Map<number, OpenCall>();
  readonly #models = new Map<string, HeldModel>();
  readonly #events = new AbortController();
  #link: Link | null = null;
  /** Ends what belongs to the link. */
  #linked = new AbortController();
  /** Whether there was no way to an engine; the next request tries again. */
  #hasFailed = false;
  #held: Held | null = null;
  /** Whether a SharedWorker is worth a try. */
  #sharedWorks: boolean;
  #state: "live" | "frozen" | "ended" = "live";

  constructor(url: string | URL, listener: WorkerListener, options: SharedOptions) {
    this.#url = resolved(url);
    this.#listener = listener;
    this.#options = options;
    this.#sharedWorks = "SharedWorker" in globalThis && this.#url.origin === globalThis.location?.origin;
    const { signal } = this.#events;
    globalThis.addEventListener?.("pagehide", (event) => this.#freeze(event), { signal });
    globalThis.addEventListener?.("pageshow", (event) => this.#thaw(event), { signal });
    void this.#join();
  }

  /** Throws DOMException "DataCloneError" for what can't be posted. */
  postMessage(request: WorkerRequest): void {
    if (request.kind === "abort") {
      const call = this.#calls.get(request.id);
      if (call) call.aborted = true;
      this.#link?.postMessage(request);
      return;
    }
    const call = { request: repeatable(structuredClone(request)), delivery: new Delivery(), aborted: false };
    this.#calls.set(request.id, call);
    if (this.#hasFailed && this.#state === "live") this.#connect();
    else this.#link?.postMessage(call.request);
  }

  /** Takes a request back that no engine has seen; false if one has. */
  withdraw(id: number): boolean {
    if (this.#link && !this.#link.withdraw(id)) return false;
    return this.#calls.delete(id);
  }

  terminate(): void {
    this.#state = "ended";
    this.#events.abort();
    this.#calls.clear();
    this.#leave();
  }

  /** Engines that are shared notice by a lock that a page is gone. Without locks this page has its own. */
  async #join(): Promise<void> {
    const held = await hold("mlc-edge page");
    if (this.#state !== "live" || this.#held) held?.release();
    else {
      this.#held = held;
      this.#connect();
    }
  }

  #connect(): void {
    const linked = (this.#linked = new AbortController());
    this.#hasFailed = false;
    try {
      this.#link = this.#open(linked.signal);
    } catch (error) {
      this.#hasFailed = true;
      this.#fail(asEngineError(error));
      return;
    }
    this.#postAll();
  }

  /** To an engine that has seen none of the calls. */
  #postAll(): void {
    for (const [id, call] of [...this.#calls]) {
      call.delivery.restart();
      if (call.aborted) this.#receive({ kind: "aborted", id });
      else this.#link?.postMessage(call.request);
    }
  }

  #open(signal: AbortSignal): Link {
    const { startTimeoutMs } = this.#options;
    const options = { startTimeoutMs, greeting: () => this.#greeting() };
    const listener = {
      onReply: (reply: WorkerReply) => {
        if (!signal.aborted) this.#receive(reply);
      },
      onFailure: (error: EngineError) => {
        if (!signal.aborted) this.#fail(error);
      },
    };
    if (!this.#held) return new EngineWorker(this.#url, listener, options);
    const onLost = (): void => this.#postAll();
    if (this.#sharedWorks) return this.#openSharedWorker(listener, { ...options, signal });
    return new ElectedEngine(this.#url, { ...listener, onLost }, options);
  }

  #openSharedWorker(
    listener: WorkerListener,
    { signal, ...options }: { signal: AbortSignal; greeting: () => Hello },
  ): Link {
    let hasStarted = false;
    const withoutIt = (): void => {
      this.#sharedWorks = false;
      this.#reconnect();
    };
    const onStarted = ({ webgpu, lock }: WorkerReply & { kind: "started" }): boolean => {
      if (!webgpu || lock === null) {
        withoutIt();
        return false;
      }
      hasStarted = true;
      void whenFree(lock, signal).then((isFree) => {
        if (isFree) this.#reconnect();
      });
      return true;
    };
    const onFailure = (error: EngineError): void => {
      // What a server doesn't give out can't be had in another way, either.
      if (hasStarted || error.code === "network_error") listener.onFailure(error);
      else if (!signal.aborted) withoutIt();
    };
    try {
      const shared = { ...listener, onStarted, onFailure, onSilence: withoutIt };
      return new EngineWorker(this.#url, shared, { ...options, shared: true });
    } catch {
      this.#sharedWorks = false;
      return this.#open(signal);
    }
  }

  /** To the next engine. */
  #reconnect(): void {
    this.#disconnect();
    if (this.#state === "live") this.#connect();
  }

  #disconnect(): void {
    this.#linked.abort();
    this.#link?.terminate();
    this.#link = null;
  }

  #leave(): void {
    this.#disconnect();
    this.#held?.release();
    this.#held = null;
  }

  /** A page that may come back must not hold up others meanwhile. */
  #freeze({ persisted }: PageTransitionEvent): void {
    if (!persisted || this.#state !== "live") return;
    this.#state = "frozen";
    this.#leave();
  }

  #thaw({ persisted }: PageTransitionEvent): void {
    if (!persisted || this.#state !== "frozen") return;
    this.#state = "live";
    void this.#join();
  }

  #greeting(): Hello {
    const { memoryBudget } = this.#options;
    return { kind: "hello", lock: this.#held?.name ?? null, models: [...this.#models.values()], memoryBudget };
  }

  #receive(reply: WorkerReply): void {
    if (reply.kind === "started") return;
    if (reply.kind === "event") this.#noteEvent(reply);
    else {
      const call = this.#calls.get(reply.id);
      if (!call) return;
      if (reply.kind === "chunk") {
        this.#deliver(call, reply);
        return;
      }
      this.#calls.delete(reply.id);
      if (reply.kind === "result") this.#noteResult(call.request, reply.value as LoadedModel);
    }
    this.#listener.onReply(reply);
  }

  #deliver({ request: { id }, delivery }: OpenCall, reply: WorkerReply & { kind: "chunk" }): void {
    try {
      const chunk = delivery.take(reply.chunk);
      if (chunk) this.#listener.onReply({ ...reply, chunk });
    } catch (error) {
      this.#link?.postMessage({ kind: "abort", id });
      this.#calls.delete(id);
      this.#listener.onReply({ kind: "error", id, error: asEngineError(error).toData() });
    }
  }

  #noteResult(request: CallRequest, value: LoadedModel): void {
    if (request.kind === "load") {
      const { bundleUrl, options } = request;
      this.#models.set(value.id, { id: value.id, bundleUrl, options, loaded: true });
    } else if (request.kind === "unload") {
      if (request.model === undefined) this.#models.clear();
      else this.#models.delete(request.model);
    }
  }

  #noteEvent({ event }: WorkerReply & { kind: "event" }): void {
    if (event.kind !== "model") return;
    const held = this.#models.get(event.id);
    if (event.state === "dropped") this.#models.delete(event.id);
    else if (held) held.loaded = event.state === "loaded";
  }

  #fail(error: EngineError): void {
    this.#calls.clear();
    this.#listener.onFailure(error);
  }
}

/** With a seed, so that a second answer is the same. */
function repeatable(request: CallRequest): CallRequest {
  if (request.kind !== "complete") return request;
  const params = request.params as typeof request.params | null;
  if (typeof params !== "object" || params === null || (params.seed ?? null) !== null) return request;
  const [seed = 0] = crypto.getRandomValues(new Uint32Array(1));
  return { ...request, params: { ...params, seed } };
}
