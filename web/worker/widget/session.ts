/** Which backend a widget uses now: the device's model, and the site's server in its place where that can't run. */
import { problemOf } from "../ui/problems.ts";
import type { Backend, BackendState } from "./backends.ts";
import { GivenBackend, ServerBackend } from "./backends.ts";
import { isUnable } from "./problem-text.ts";
import { acquire, release } from "./shared-engines.ts";
import type { EngineEvent } from "../chat/engine.ts";
import type { GivenEngine, WidgetOptions } from "./types.ts";

interface SessionListener {
  onChange(): void;
  onEvent(event: EngineEvent): void;
}

export class Session {
  readonly #options: WidgetOptions;
  readonly #listener: SessionListener;
  readonly #endings: (() => void)[] = [];
  readonly #waiting = new Set<() => void>();
  #backend: Backend | null = null;
  readonly #ended = new AbortController();
  #failure: BackendState | null = null;

  constructor(options: WidgetOptions, engine: GivenEngine | null, listener: SessionListener) {
    this.#options = options;
    this.#listener = listener;
    const { server, src, workerURL } = options;
    if (engine) this.#use(new GivenBackend(engine));
    else if (server && src === null) this.#use(new ServerBackend(server));
    else {
      try {
        this.#use(acquire(src, workerURL));
        this.#endings.push(() => release(src));
      } catch (error) {
        this.#failure = { kind: "error", problem: problemOf(error) };
      }
    }
  }

  get state(): BackendState {
    return this.#failure ?? this.#backend?.state ?? { kind: "idle" };
  }

  /** The server that what people type goes to; null where it stays on the device. */
  get host(): string | null {
    return this.#backend?.host ?? null;
  }

  /** Finds out what it takes to be ready, where nobody did yet. */
  async start(): Promise<void> {
    if (this.state.kind === "idle" || this.state.kind === "error") await this.#backend?.check();
  }

  async load(): Promise<void> {
    const { kind } = this.state;
    if (kind !== "ready" && kind !== "loading") await this.#backend?.load();
  }

  /** Loads, and resolves once there are answers; rejects with what went wrong, or when somebody stops it. */
  async loaded(): Promise<void> {
    void this.load();
    const end = new AbortController();
    const settle = (): void => {
      const { state } = this;
      if (state.kind === "error") end.abort(Object.assign(new Error(state.problem.message), state.problem));
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

  end(): void {
    for (const end of this.#endings.splice(0)) end();
  }

  #use(backend: Backend): void {
    this.#backend = backend;
    this.#endings.push(backend.onChange(() => this.#changed(backend)));
    this.#endings.push(backend.onEvent((event) => this.#listener.onEvent(event)));
  }

  #changed(backend: Backend): void {
    if (backend !== this.#backend) return;
    const { state } = backend;
    const { server } = this.#options;
    if (state.kind === "error" && isUnable(state.problem) && server && backend.host === null) {
      this.#use(new ServerBackend(server));
    this.#backend = null;
    this.#ended.abort(new DOMException("The widget was removed or has changed.", "AbortError"));
      void this.#backend.check();
      return;
    }
    this.#listener.onChange();
    for (const settle of [...this.#waiting]) settle();
  }
}
