/** The engine's worker: started, and started again where its script could not be loaded. */
import { EngineError } from "../shared/errors.ts";
import { ENGINE_NAME } from "../shared/presence.ts";
import type { Greeting, WorkerReply, WorkerRequest } from "../shared/protocol.ts";
import { resolved } from "./address.ts";

const ATTEMPTS = 3;
/** A script that says nothing for so long counts as one that can't be had. */
const START_TIMEOUT_MS = 30_000;
/** The share of that after which a SharedWorker is in doubt, and again after its script is seen to be there. */
const DOUBT = 1 / 12;
/** Some browsers read a worker's address only after its constructor has returned. */
const REVOKE_MS = 60_000;
const retryDelayMs = (attempt: number): number => 250 * 4 ** (attempt - 1);

type Started = WorkerReply & { kind: "started" };

/** A worker of this page, or its port of one that pages share. */
interface RunningWorker {
  port: Pick<MessagePort, "postMessage" | "addEventListener"> & { start?(): void };
  /** Where errors are told. */
  source: EventTarget;
  end(): void;
}

export interface WorkerOptions {
  startTimeoutMs?: number | undefined;
  /** Comes before all requests. */
  greeting?: () => Greeting;
  /** Whether it is one that the pages of an origin share. */
  shared?: boolean;
  /** Whether a start is tried again though no request waits for it. */
  persistent?: boolean;
}

export interface WorkerListener {
  /** Whether this worker is the one that is wanted; nothing is posted to it otherwise. */
  onStarted?(started: Started): boolean;
  onReply(reply: WorkerReply): void;
  /** In the place of further attempts, where a start says nothing for too long. */
  onSilence?(): void;
  /** No request that was posted so far will be answered. */
  onFailure(error: EngineError): void;
}

/**
 * Holds requests back until the worker says that it runs, so none is lost with a failed start.
 *
 * A start that fails for good fails the requests that wait for it; the next one starts anew.
 */
export class EngineWorker {
  readonly #url: URL;
  readonly #listener: WorkerListener;
  readonly #options: WorkerOptions;
  readonly #timeoutMs: number;
  readonly #waiting: WorkerRequest[] = [];
  #state: "idle" | "starting" | "started" | "ended" = "idle";
  #worker: RunningWorker | null = null;
  #attempt = 0;

  /** Throws DOMException "SecurityError" if the page must not run a worker from there. */
  constructor(url: string | URL, listener: WorkerListener, options: WorkerOptions = {}) {
    this.#url = resolved(url);
    this.#listener = listener;
    this.#options = options;
    this.#timeoutMs = options.startTimeoutMs ?? START_TIMEOUT_MS;
    this.#start();
  }

  /** Throws DOMException "DataCloneError" for what can't be posted, whether the worker runs yet or not. */
  postMessage(request: WorkerRequest): void {
    if (this.#state === "started") {
      this.#worker?.port.postMessage(request);
      return;
    }
    this.#waiting.push(structuredClone(request));
    this.wake();
  }

  /** Starts it anew if it failed to start. */
  wake(): void {
    if (this.#state === "idle") this.#start();
  }

  /** Takes a request back that no worker has seen; false if one has. */
  withdraw(id: number): boolean {
    const index = this.#waiting.findIndex((request) => request.id === id);
    if (index >= 0) this.#waiting.splice(index, 1);
    return index >= 0;
  }

  terminate(): void {
    this.#state = "ended";
    this.#worker?.end();
  }

  #start(): void {
    const worker = this.#options.shared ? openSharedWorker(this.#url) : openWorker(this.#url);
    this.#worker = worker;
    this.#state = "starting";
    this.#attempt += 1;
    const timer = setTimeout(() => {
      if (!this.#isStarting(worker)) return;
      if (this.#listener.onSilence) this.#listener.onSilence();
      else void this.#retry(worker, silent(this.#url, this.#timeoutMs));
    }, this.#timeoutMs);
    if (this.#options.shared) void this.#doubt(worker);
    worker.port.addEventListener("message", ({ data }: MessageEvent<WorkerReply>) => {
      if (worker !== this.#worker || this.#state === "ended") return;
      clearTimeout(timer);
      if (data.kind === "started") this.#deliver(worker, data);
      else this.#listener.onReply(data);
    });
    worker.port.start?.();
    worker.source.addEventListener("error", (event) => {
      event.preventDefault();
      if (worker !== this.#worker) return;
      if (this.#state === "started") this.#listener.onFailure(uncaught(event as ErrorEvent));
      else if (this.#state === "starting") void this.#retry(worker, event);
    });
  }

  #isStarting(worker: RunningWorker): boolean {
    return worker === this.#worker && this.#state === "starting";
  }

  /**
   * Ends the wait for a SharedWorker that is silent though its script can be had.
   *
   * Firefox connects ports to one that is failing, and then tells neither these nor later ones of its end.
   */
  async #doubt(worker: RunningWorker): Promise<void> {
    const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, this.#timeoutMs * DOUBT));
    do {
      await pause();
      if (!this.#isStarting(worker)) return;
    } while (!(await isThere(this.#url)));
    await pause();
    if (this.#isStarting(worker)) this.#listener.onSilence?.();
  }

  #deliver({ port }: RunningWorker, started: Started): void {
    if (this.#listener.onStarted?.(started) === false) return;
    this.#state = "started";
    this.#attempt = 0;
    const greeting = this.#options.greeting?.();
    if (greeting) port.postMessage(greeting);
    for (const request of this.#waiting.splice(0)) port.postMessage(request);
  }

  async #retry(worker: RunningWorker, reason: Event | EngineError): Promise<void> {
    worker.end();
    this.#worker = null;
    const isThrown = reason instanceof ErrorEvent && reason.message !== "";
    const error = await this.#failure(reason);
    const isWanted = this.#waiting.length > 0 || this.#options.persistent;
    const again = !isThrown && this.#attempt < ATTEMPTS && isWanted;
    if (again) await new Promise((resolve) => setTimeout(resolve, retryDelayMs(this.#attempt)));
    if (this.#state !== "starting") return;
    if (again) {
      this.#start();
      return;
    }
    this.#state = "idle";
    this.#attempt = 0;
    this.#waiting.length = 0;
    this.#listener.onFailure(error);
  }

  async #failure(reason: Event | EngineError): Promise<EngineError> {
    if (reason instanceof EngineError) return reason;
    // Of a script that wasn't loaded, or is no module, browsers say nothing.
    return reason instanceof ErrorEvent && reason.message ? thrown(reason) : notLoaded(this.#url, this.#timeoutMs);
  }
}

/** Browsers start workers of their page's origin only; such a one may import a script from elsewhere. */
function openWorker(url: URL): RunningWorker {
  const options = { type: "module", name: "mlc-edge engine" } as const;
  const running = (worker: Worker) => ({ port: worker, source: worker, end: () => worker.terminate() });
  if (url.origin === globalThis.location?.origin) return running(new Worker(url, options));
  const source = new Blob([`import ${JSON.stringify(url.href)};`], { type: "text/javascript" });
  const bootstrap = URL.createObjectURL(source);
  try {
    return running(new Worker(bootstrap, options));
  } finally {
    setTimeout(() => URL.revokeObjectURL(bootstrap), REVOKE_MS);
  }
}

function openSharedWorker(url: URL): RunningWorker {
  const worker = new SharedWorker(url, { type: "module", name: ENGINE_NAME });
  return { port: worker.port, source: worker, end: () => worker.port.close() };
}

function uncaught({ message, filename, lineno }: ErrorEvent): EngineError {
  return new EngineError({
    code: "internal",
    message: `The engine's worker failed: ${message || "it didn't say why"} (${filename}:${lineno})`,
    remedy: "Load the model again; if that fails, reload the page.",
  });
}

function thrown({ message }: ErrorEvent): EngineError {
  return new EngineError({
    code: "internal",
    message: `The engine's worker stopped as it started: ${message}`,
    remedy: "Update the browser, or use another one.",
  });
}

async function isThere(url: URL): Promise<boolean> {
  try {
    const response = await fetch(url);
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}

/** What the server says about the script now. */
async function notLoaded(url: URL, timeoutMs: number): Promise<EngineError> {
  let found = "the server doesn't answer";
  try {
    const response = await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(timeoutMs) });
    await response.body?.cancel();
    const type = response.headers.get("content-type") ?? "nothing";
    if (response.ok && /\bjavascript\b/.test(type)) return unusable(url);
    found = response.ok ? `the server sent ${type} in its place` : `status ${response.status}`;
  } catch {
    // That is what `found` says.
  }
  return missing(url, found);
}

function silent(url: URL, timeoutMs: number): EngineError {
  return missing(url, `it didn't start within ${timeoutMs / 1000} s`);
}

function missing(url: URL, found: string): EngineError {
  return new EngineError({
    code: "network_error",
    message: `Could not load the engine's worker ${url.pathname}: ${found}.`,
    remedy: "Check the connection and try again.",
  });
}

function unusable(url: URL): EngineError {
  return new EngineError({
    code: "internal",
    message: `The browser doesn't run the engine's worker ${url.pathname}, though it is there.`,
    remedy: "Try again; if it stays so, update the browser, or use another one.",
  });
}
