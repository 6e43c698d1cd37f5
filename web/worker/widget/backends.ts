/** Where answers come from: a model in this browser, or a server that the site names. */
import { RemoteApi } from "../remote/api.ts";
import { EngineError } from "../shared/errors.ts";
import type { EngineEvent, LoadProgress } from "../shared/protocol.ts";
import { chatSampling, type Sampling } from "../shared/sampling-defaults.ts";
import type { AnswerChunk, ChatRequest } from "../ui/engine.ts";
import { isAbort, problemOf } from "../ui/problems.ts";
import type { Problem } from "../ui/types.ts";
import type { DeviceEngine, DeviceFit, GivenEngine } from "./types.ts";

export type BackendState =
  | { kind: "idle" }
  | { kind: "checking" }
  /** It must be downloaded, which a person is to be asked for; who has cancelled it isn't to be passed over. */
  | { kind: "consent"; fit: DeviceFit; isDeclined: boolean }
  | { kind: "loading"; progress: LoadProgress | null }
  /** What is downloaded stays. */
  | { kind: "paused"; progress: LoadProgress | null }
  | { kind: "ready"; isSoftware: boolean }
  /** This device can't; a person is to be asked whether the conversation may go to this server. */
  | { kind: "elsewhere"; host: string; problem: Problem }
  | { kind: "error"; problem: Problem };

export abstract class Backend {
  readonly #listeners = new Set<() => void>();
  #state: BackendState = { kind: "idle" };

  /** The server that what people type goes to; null where it stays on the device. */
  abstract readonly host: string | null;
  /** Finds out what it takes to be ready, and becomes so where that costs no download. */
  abstract check(): Promise<void>;
  /** Downloads what is missing. */
  abstract load(): Promise<void>;
  abstract create(request: ChatRequest, signal: AbortSignal): Promise<AsyncIterable<AnswerChunk>>;

  /** Becomes ready where another tab has downloaded what people are asked for here. */
  async revise(): Promise<void> {}
  /** Stops a download; `load` goes on with it. */
  pause(): void {}
  /** Stops a download; it must be agreed to again. */
  async cancel(): Promise<void> {}
  /** The model is gone from the device: it must be loaded again. */
  forget(): void {}
  onEvent(_listener: (event: EngineEvent) => void): () => void {
    return () => undefined;
  }
  dispose(): void {}

  get state(): BackendState {
    return this.#state;
  }

  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  protected become(state: BackendState): void {
    this.#state = state;
    for (const listener of [...this.#listeners]) listener();
  }
}

/** A model of this browser; several widgets may share it. */
export class DeviceBackend extends Backend {
  readonly host = null;
  readonly #engine: DeviceEngine;
  readonly #findBundle: (signal: AbortSignal) => Promise<URL>;
  #abort = new AbortController();
  /** What was found stays for the load: a hanging network is waited for once. */
  #bundle: URL | null = null;
  #sampling: Sampling = {};
  #isDeclined = false;

  constructor(engine: DeviceEngine, findBundle: (signal: AbortSignal) => Promise<URL>) {
    super();
    this.#engine = engine;
    this.#findBundle = findBundle;
    engine.onEvent((event) => {
      if (event.kind === "progress" && this.state.kind === "loading") {
        this.become({ kind: "loading", progress: event });
      }
    });
  }

  async check(): Promise<void> {
    const fit = await this.#fit();
    if (fit?.missingBytes === 0) await this.load();
    else if (fit) this.#ask(fit);
  }

  override async revise(): Promise<void> {
    if (this.state.kind !== "consent" || !this.#bundle) return;
    const fit = await this.#engine.check(this.#bundle.href).catch(() => null);
    if (this.state.kind === "consent" && fit?.missingBytes === 0) await this.load();
  }

  async load(): Promise<void> {
    const progress = this.state.kind === "paused" ? this.state.progress : null;
    this.#isDeclined = false;
    const signal = this.#restart();
    this.become({ kind: "loading", progress });
    await this.#attempt(signal, async () => {
      const bundle = (this.#bundle ??= await this.#findBundle(signal));
      const options = { signal, contextPolicy: "truncate-oldest" as const };
      const { sampling, adapter } = await this.#engine.load(bundle.href, options);
      if (signal.aborted) return;
      this.#sampling = chatSampling(sampling ?? {});
      this.become({ kind: "ready", isSoftware: adapter.isSoftware });
    });
  }

  override pause(): void {
    if (this.state.kind !== "loading") return;
    this.#restart();
    this.become({ kind: "paused", progress: this.state.progress });
  }

  override async cancel(): Promise<void> {
    this.#isDeclined = true;
    const fit = await this.#fit();
    if (fit) this.#ask(fit);
  }

  override forget(): void {
    if (this.state.kind === "ready") void this.load();
  }

  override onEvent(listener: (event: EngineEvent) => void): () => void {
    return this.#engine.onEvent(listener);
  }

  override dispose(): void {
    this.#restart();
    (this.#engine as { dispose?(): void }).dispose?.();
  }

  create(request: ChatRequest, signal: AbortSignal): Promise<AsyncIterable<AnswerChunk>> {
    return this.#engine.chat.completions.create({ ...this.#sampling, ...request }, { signal });
  }

  #ask(fit: DeviceFit): void {
    this.become({ kind: "consent", fit, isDeclined: this.#isDeclined });
  }

  /** Null if it doesn't, which `state` then says, or if something else began meanwhile. */
  async #fit(): Promise<DeviceFit | null> {
    const signal = this.#restart();
    this.become({ kind: "checking" });
    return this.#attempt(signal, async () => {
      const bundle = (this.#bundle = await this.#findBundle(signal));
      const fit = await this.#engine.check(bundle.href);
      if (signal.aborted) return null;
      const [problem] = fit.problems;
      if (fit.fits || !problem) return fit;
      this.become({ kind: "error", problem });
      return null;
    });
  }

  async #attempt<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T | null> {
    try {
      return await work();
    } catch (error) {
      if (!signal.aborted && !isAbort(error)) this.become({ kind: "error", problem: problemOf(error) });
      return null;
    }
  }

  #restart(): AbortSignal {
    this.#abort.abort();
    this.#abort = new AbortController();
    return this.#abort.signal;
  }
}

/** An engine that the site has made itself, with a model loaded. */
export class GivenBackend extends Backend {
  readonly #engine: GivenEngine;
  #origin: string | null;

  constructor(engine: GivenEngine) {
    super();
    this.#engine = engine;
    this.#origin = engine.backend?.origin ?? null;
  }

  get host(): string | null {
    return this.#origin === null ? null : new URL(this.#origin).host;
  }

  async check(): Promise<void> {
    this.become({ kind: "ready", isSoftware: false });
  }

  load(): Promise<void> {
    return this.check();
  }

  override onEvent(listener: (event: EngineEvent) => void): () => void {
    return this.#engine.onEvent((event) => {
      if (event.kind === "backend" && event.state === "chosen") this.#moveTo(event.chosen.origin);
      listener(event);
    });
  }

  create(request: ChatRequest, signal: AbortSignal): Promise<AsyncIterable<AnswerChunk>> {
    // Unloading one of several models tells nothing, and a server may be what is left.
    const origin = this.#engine.backend?.origin ?? null;
    if (origin !== null) this.#moveTo(origin);
    return this.#engine.chat.completions.create(request, { signal });
  }

  #moveTo(origin: string | null): void {
    if (origin === this.#origin) return;
    this.#origin = origin;
    this.become({ kind: "ready", isSoftware: false });
  }
}

/** What the attribute `server` names. */
export interface ServerAddress {
  url: URL;
  /** Empty for the server's first one. */
  model: string;
}

/** `https://example.com/v1`, or `https://example.com/v1#model`. Throws EngineError. */
export function serverAddress(text: string): ServerAddress {
  try {
    const url = new URL(text, document.baseURI);
    const model = decodeURIComponent(url.hash.slice(1));
    url.hash = "";
    if (/^https?:$/.test(url.protocol)) return { url, model };
  } catch {
    // That is what the error says.
  }
  throw new EngineError({
    code: "invalid_request",
    message: `<mlc-chat server="${text}"> isn't the address of a server.`,
    remedy: "Use one such as https://example.com/v1, or https://example.com/v1#model with the name percent-encoded.",
    param: "server",
  });
}

/** A server of OpenAI's API. */
export class ServerBackend extends Backend {
  readonly host: string;
  readonly #api: RemoteApi;
  #model: string;

  constructor({ url, model }: ServerAddress) {
    super();
    this.host = url.host;
    this.#model = model;
    this.#api = new RemoteApi({ url, name: "The server", key: () => null });
  }

  async check(): Promise<void> {
    this.become({ kind: "checking" });
    try {
      if (!this.#model) this.#model = await this.#firstModel();
      this.become({ kind: "ready", isSoftware: false });
    } catch (error) {
      this.become({ kind: "error", problem: problemOf(error) });
    }
  }

  load(): Promise<void> {
    return this.check();
  }

  async create(request: ChatRequest, signal: AbortSignal): Promise<AsyncIterable<AnswerChunk>> {
    return this.#api.stream<AnswerChunk>("chat/completions", { ...request, model: this.#model }, signal);
  }

  async #firstModel(): Promise<string> {
    const { data } = (await this.#api.get("models")) as { data?: ({ id?: unknown } | null)[] };
    const [first] = (Array.isArray(data) ? data : []).map((entry) => entry?.id);
    return typeof first === "string" ? first : "";
  }
}
