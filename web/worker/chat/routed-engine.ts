/** The browser's engine and the daemon behind one interface; the former starts when it is wanted. */
import type { ContextPolicy, EngineEvent } from "../shared/protocol.ts";
import type { AnswerChunk, ChatEngine, ChatRequest, EngineStorage, FitReport, LoadedModel } from "../ui/engine.ts";
import { DaemonModel, isDaemonUrl } from "./daemon.ts";

type Listener = (event: EngineEvent) => void;
interface LoadOptions {
  signal?: AbortSignal;
  contextPolicy?: ContextPolicy;
  replace?: boolean;
}

export class RoutedEngine implements ChatEngine {
  readonly #create: () => ChatEngine;
  readonly #listeners = new Set<Listener>();
  #browser: ChatEngine | null = null;
  #daemon: DaemonModel | null = null;
  readonly chat = {
    completions: {
      create: (request: ChatRequest, { signal }: { signal: AbortSignal }): Promise<AsyncIterable<AnswerChunk>> =>
        this.#daemon
          ? this.#daemon.create(request, signal)
          : this.#engine().chat.completions.create(request, { signal }),
    },
  };

  get storage(): EngineStorage {
    return this.#engine().storage;
  }

  constructor(create: () => ChatEngine) {
    this.#create = create;
  }

  onEvent(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  async check(bundleUrl: string): Promise<FitReport> {
    return isDaemonUrl(bundleUrl) ? DaemonModel.fit : this.#engine().check(bundleUrl);
  }

  async load(bundleUrl: string, options: LoadOptions, contextWindowSize = 0): Promise<LoadedModel> {
    if (!isDaemonUrl(bundleUrl)) {
      const model = await this.#engine().load(bundleUrl, options);
      this.#daemon = null;
      return model;
    }
    const daemon = new DaemonModel(bundleUrl, contextWindowSize);
    const model = await daemon.load(options.signal);
    this.#daemon = daemon;
    await this.unload();
    return model;
  }

  /** What can't be given back, as after the device was lost, isn't held either. */
  async unload(): Promise<void> {
    await this.#browser?.unload().catch(() => undefined);
  }

  #engine(): ChatEngine {
    if (!this.#browser) {
      this.#browser = this.#create();
      this.#browser.onEvent((event) => {
        for (const listener of [...this.#listeners]) listener(event);
      });
    }
    return this.#browser;
  }
}
