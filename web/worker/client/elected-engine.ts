/** An engine in a worker of one tab, which Web Locks elect; all tabs reach it by BroadcastChannels. */
import { asEngineError, EngineError } from "../shared/errors.ts";
import { ENGINE_NAME } from "../shared/presence.ts";
import type { Hello, LobbyMessage, WorkerReply, WorkerRequest } from "../shared/protocol.ts";
import { EngineWorker, type WorkerListener } from "./engine-worker.ts";

export interface ElectedListener extends WorkerListener {
  /** The engine ended, and another one runs: what is open must be posted again. */
  onLost(): void;
}

export interface ElectedOptions {
  startTimeoutMs?: number | undefined;
  /** Comes before all requests. */
  greeting: () => Hello;
}

export class ElectedEngine {
  readonly #url: URL;
  readonly #name: string;
  readonly #listener: ElectedListener;
  readonly #options: ElectedOptions;
  readonly #lobby: BroadcastChannel;
  readonly #ended = new AbortController();
  readonly #waiting: WorkerRequest[] = [];
  #channel: BroadcastChannel | null = null;
  /** Whether the worker has answered on the channel. */
  #isOpen = false;
  #hasFailed = false;

  constructor(url: URL, listener: ElectedListener, options: ElectedOptions) {
    this.#url = url;
    this.#name = `${ENGINE_NAME} ${url.href}`;
    this.#listener = listener;
    this.#options = options;
    this.#lobby = new BroadcastChannel(this.#name);
    this.#lobby.addEventListener("message", ({ data }: MessageEvent<LobbyMessage>) => {
      if (data.kind === "serving") this.#meet();
      else if (data.kind === "failed") this.#fail(new EngineError(data.error));
    });
    void this.#wait();
    this.#knock();
  }

  postMessage(request: WorkerRequest): void {
    if (this.#isOpen) this.#channel?.postMessage(request);
    else {
      this.#waiting.push(request);
      if (this.#hasFailed) this.#knock();
    }
  }

  withdraw(id: number): boolean {
    const index = this.#waiting.findIndex((request) => request.id === id);
    if (index >= 0) this.#waiting.splice(index, 1);
    return index >= 0;
  }

  terminate(): void {
    this.#ended.abort();
    this.#channel?.close();
    this.#lobby.close();
  }

  /** There is a new worker. */
  #meet(): void {
    const hadOne = this.#isOpen;
    this.#isOpen = false;
    this.#knock();
    if (hadOne) this.#listener.onLost();
  }

  /** Asks the worker, if there is one, for a channel with it. */
  #knock(): void {
    this.#hasFailed = false;
    this.#channel?.close();
    const name = `${ENGINE_NAME} ${crypto.randomUUID()}`;
    const channel = (this.#channel = new BroadcastChannel(name));
    channel.addEventListener("message", ({ data }: MessageEvent<WorkerReply>) => {
      if (data.kind !== "started") this.#listener.onReply(data);
      else if (!this.#isOpen) {
        this.#isOpen = true;
        channel.postMessage(this.#options.greeting());
        for (const request of this.#waiting.splice(0)) channel.postMessage(request);
      }
    });
    const { lock } = this.#options.greeting();
    this.#lobby.postMessage({ kind: "knock", channel: name, lock } satisfies LobbyMessage);
  }

  #fail(error: EngineError): void {
    this.#isOpen = false;
    this.#hasFailed = true;
    this.#waiting.length = 0;
    this.#listener.onFailure(error);
  }

  /** Waits for its turn to run the worker, and runs it until this page leaves. */
  async #wait(): Promise<void> {
    const { signal } = this.#ended;
    const left = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
    const host = async (): Promise<void> => {
      if (signal.aborted) return;
      const close = this.#host();
      await left;
      close();
    };
    await navigator.locks.request(this.#name, { signal }, host).catch(() => undefined);
  }

  /** Runs the worker; the returned function ends that. */
  #host(): () => void {
    const lobby = new BroadcastChannel(this.#name);
    const fail = (error: EngineError): void => {
      lobby.postMessage({ kind: "failed", error: error.toData() } satisfies LobbyMessage);
    };
    const worker = this.#startWorker(fail);
    lobby.addEventListener("message", ({ data }: MessageEvent<LobbyMessage>) => {
      if (data.kind === "knock") worker?.wake();
    });
    return () => {
      worker?.terminate();
      lobby.close();
    };
  }

  /** Null where the page must not run one. */
  #startWorker(fail: (error: EngineError) => void): EngineWorker | null {
    const listener = { onReply: () => undefined, onFailure: fail };
    try {
      return new EngineWorker(this.#url, listener, {
        startTimeoutMs: this.#options.startTimeoutMs,
        greeting: () => ({ kind: "serve", lobby: this.#name }),
        persistent: true,
      });
    } catch (error) {
      fail(asEngineError(error));
      return null;
    }
  }
}
