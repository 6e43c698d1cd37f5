/** Which backend a widget uses now: the device's model, and the site's server in its place where that can't run. */
import type { EngineEvent } from "../shared/protocol.ts";
import { problemOf } from "../ui/problems.ts";
import type { Backend, BackendState } from "./backends.ts";
import { GivenBackend, type ServerAddress, serverAddress, ServerBackend } from "./backends.ts";
import { isUnable } from "./problem-text.ts";
import { acquire, release } from "./shared-engines.ts";
import type { GivenEngine, WidgetOptions } from "./types.ts";

interface SessionListener {
  onChange(): void;
  onEvent(event: EngineEvent): void;
  /** Whether something was written under the promise that it stays on the device. */
  hasText(): boolean;
}

export class Session {
  readonly #listener: SessionListener;
  readonly #endings: (() => void)[] = [];
  readonly #waiting = new Set<() => void>();
  readonly #ended = new AbortController();
  #backend: Backend | null = null;
  #failure: BackendState | null = null;
  /** What may answer where this device can't. */
  #fallback: ServerAddress | null = null;

  constructor(options: WidgetOptions, engine: GivenEngine | null, listener: SessionListener) {
    this.#listener = listener;
    try {
      if (engine) this.#use(new GivenBackend(engine));
      else this.#useNamed(options);
    } catch (error) {
      this.#failure = { kind: "error", problem: problemOf(error) };
    }
  }

  get state(): BackendState {
    const state = this.#failure ?? this.#backend?.state ?? { kind: "idle" };
    if (state.kind !== "error" || this.fallback === null || !isUnable(state.problem)) return state;
    return { kind: "elsewhere", host: this.fallback, problem: state.problem };
  }

  /** The server that may answer where this device can't; null for none, and once it does. */
  get fallback(): string | null {
    return this.#fallback?.url.host ?? null;
  }

  /** The server that what people type goes to; null where it stays on the device. */
  get host(): string | null {
    return this.#backend?.host ?? null;
  }

  /** Finds out what it takes to be ready, where nobody did yet. */
  async start(): Promise<void> {
    if (["idle", "error", "elsewhere"].includes(this.state.kind)) await this.#backend?.check();
  }

  async load(): Promise<void> {
    const { kind } = this.state;
    if (kind !== "ready" && kind !== "loading") await this.#backend?.load();
  }

  /** Lets the server answer in the device's place. */
  async agree(): Promise<void> {
    if (!this.#fallback) return;
    const backend = new ServerBackend(this.#fallback);
    this.#fallback = null;
    this.#use(backend);
    await backend.check();
  }

  /** Loads, and resolves once there are answers; rejects with what went wrong, or when somebody stops it. */
  async loaded(): Promise<void> {
    void this.load();
    const end = new AbortController();
    const settle = (): void => {
      const { state } = this;
      const isFailed = state.kind === "error" || state.kind === "elsewhere";
      if (isFailed) end.abort(Object.assign(new Error(state.problem.message), state.problem));
      const stopped = state.kind === "paused" || state.kind === "consent";
      if (stopped) end.abort(new DOMException("Loading was stopped.", "AbortError"));
    };
    this.#waiting.add(settle);
    settle();
    try {
      await this.ready(end.signal);
    } finally {
      this.#waiting.delete(settle);
    }
  }

  revise(): void {
    void this.#backend?.revise();
  }

  pause(): void {
    this.#backend?.pause();
  }

  cancel(): void {
    void this.#backend?.cancel();
  }

  /** The backend once it is ready; pending while people must decide. Rejects when the session ends. */
  ready(until: AbortSignal): Promise<Backend> {
    const signal = AbortSignal.any([until, this.#ended.signal]);
    return new Promise((resolve, reject) => {
      const settle = (): void => {
        if (signal.aborted) reject(signal.reason as Error);
        else if (this.#backend && this.state.kind === "ready") resolve(this.#backend);
        else return;
        this.#waiting.delete(settle);
      };
      this.#waiting.add(settle);
      signal.addEventListener("abort", settle, { once: true });
      settle();
    });
  }

  /** Nothing is asked of the backend any more, whoever waits for it. */
  end(): void {
    this.#backend = null;
    this.#ended.abort(new DOMException("The widget was removed or has changed.", "AbortError"));
    for (const end of this.#endings.splice(0)) end();
  }

  /** Throws EngineError. */
  #useNamed({ server, src, workerURL }: WidgetOptions): void {
    const address = server === null ? null : serverAddress(server);
    if (address && src === null) {
      this.#use(new ServerBackend(address));
      return;
    }
    this.#use(acquire(src, workerURL));
    this.#endings.push(() => release(src));
    this.#fallback = address;
  }

  #use(backend: Backend): void {
    const isUsed = (): boolean => backend === this.#backend;
    this.#backend = backend;
    this.#endings.push(backend.onChange(() => isUsed() && this.#changed()));
    this.#endings.push(backend.onEvent((event) => isUsed() && this.#listener.onEvent(event)));
  }

  #changed(): void {
    if (this.state.kind === "elsewhere" && !this.#listener.hasText()) {
      void this.agree();
      return;
    }
    this.#listener.onChange();
    for (const settle of [...this.#waiting]) settle();
  }
}
