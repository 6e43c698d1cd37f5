/** The engine behind all sessions of one `LanguageModel`: started when one is created, ended when none is left. */
import { isRemote } from "../client/backends.ts";
import type { EngineClient } from "../client/client.ts";
import { capabilities, createEngine } from "../client/create-engine.ts";
import { checkOptions, type EngineOptions } from "../client/engine-options.ts";
import { bundleOf, listed } from "../client/site.ts";
import { unlessAborted } from "../shared/aborts.ts";
import { EngineError } from "../shared/errors.ts";
import { Listeners } from "../shared/listeners.ts";
import type { FitReport } from "../shared/protocol.ts";
import type { ChatMessage } from "../shared/openai.ts";
import { notSupported } from "./errors.ts";
import type { Availability } from "./types.ts";

/** An engine that nobody uses ends after so long. */
const IDLE_MS = 60_000;
/** Where a server doesn't count tokens: about so many characters make one. */
const CHARACTERS_PER_TOKEN = 4;

type OnProgress = (loaded: number) => void;

export class EngineHost {
  readonly #options: EngineOptions;
  /** Null if the page has an engine of its own. */
  readonly #given: EngineClient | null;
  #loading: Loading | null = null;
  #engine: EngineClient | null = null;
  #sessions = 0;
  #idle: ReturnType<typeof setTimeout> | undefined;

  /** Throws EngineError "invalid_request". */
  constructor(source: EngineOptions | EngineClient) {
    const isEngine = "chat" in source;
    this.#given = isEngine ? source : null;
    this.#options = isEngine ? {} : source;
    if (!isEngine) checkOptions(source);
    this.#engine = this.#given;
  }

  async availability(): Promise<Availability> {
    if (this.#given) return this.#given.model === null ? "unavailable" : "available";
    if (this.#engine) return "available";
    if (this.#loading) return "downloading";
    const { model, baseURL, workerURL, backends, memoryBudget } = this.#options;
    const bundles = backends?.every(isRemote) ? [] : listed(model).map((one) => bundleOf(one, baseURL)(undefined));
    const reports = await capabilities({
      measure: false,
      ...(bundles.length > 0 && { model: await Promise.all(bundles) }),
      ...(workerURL && { workerURL }),
      ...(backends && { backends }),
      ...(memoryBudget && { memoryBudget }),
    });
    return availabilityOf(reports);
  }

  /**
   * Starts the engine, if it doesn't run, for one session more; call `release` once for each.
   *
   * Throws EngineError, and the signal's reason.
   */
  async acquire(onProgress: OnProgress, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    clearTimeout(this.#idle);
    this.#sessions += 1;
    try {
      if (this.#given && this.#given.model === null) throw notSupported("The engine has no model loaded.");
      // It lost its model with its device.
      if (this.#engine?.model === null) this.#end();
      this.#engine ??= await this.#load(onProgress, signal);
    } catch (error) {
      this.release();
      throw error;
    }
  }

  /** Throws EngineError "model_not_loaded" if it doesn't run. */
  get engine(): EngineClient {
    if (this.#engine) return this.#engine;
    const remedy = "Create another session.";
    throw new EngineError({ code: "model_not_loaded", message: "The engine has ended.", remedy });
  }

  /** One session more on an engine that runs. */
  share(): void {
    this.#sessions += 1;
  }

  release(): void {
    this.#sessions -= 1;
    if (this.#sessions > 0 || this.#given) return;
    this.#idle = setTimeout(() => this.#end(), IDLE_MS);
  }

  #end(): void {
    this.#engine?.dispose();
    this.#engine = null;
  }

  /** Id of the model that answers. */
  get model(): string | undefined {
    return this.#engine?.model ?? undefined;
  }

  /** In tokens; infinite where nobody tells. */
  get contextWindow(): number {
    return this.#engine?.loaded?.contextWindowSize || Infinity;
  }

  /** Tokens of a prompt of these messages. */
  async count(messages: ChatMessage[], signal: AbortSignal): Promise<number> {
    const { model } = this;
    const counted = await this.engine.countTokens(messages, { signal, ...(model && { model }) });
    if (typeof counted === "number") return counted;
    const characters = messages.reduce((sum, { content }) => sum + content.length, 0);
    return Math.ceil(characters / CHARACTERS_PER_TOKEN);
  }

  async #load(onProgress: OnProgress, signal: AbortSignal | undefined): Promise<EngineClient> {
    const loading = (this.#loading ??= this.#start());
    try {
      return await loading.join(onProgress, signal);
    } finally {
      if (loading.isOver && this.#loading === loading) this.#loading = null;
    }
  }

  #start(): Loading {
    return new Loading((onProgress, signal) => {
      const own = this.#options.onProgress;
      return createEngine({
        ...this.#options,
        signal: this.#options.signal ? AbortSignal.any([this.#options.signal, signal]) : signal,
        onProgress: (progress) => {
          if (progress.totalBytes > 0) onProgress(progress.loadedBytes / progress.totalBytes);
          own?.(progress);
        },
      });
    });
  }
}

/** Of an engine that loads all of these. */
export function availabilityOf(reports: readonly FitReport[]): Availability {
  // A server doesn't fit on the device.
  const isUsable = ({ fits, backend }: FitReport): boolean => fits || backend?.kind === "remote";
  if (!reports.every(isUsable)) return "unavailable";
  return reports.some(({ missingBytes }) => missingBytes > 0) ? "downloadable" : "available";
}

/** One load for all that wait for it; it ends when none of them does any more. */
class Loading {
  readonly #controller = new AbortController();
  readonly #listeners = new Listeners<number>();
  readonly #engine: Promise<EngineClient>;
  isOver = false;

  constructor(start: (onProgress: OnProgress, signal: AbortSignal) => Promise<EngineClient>) {
    this.#engine = start((loaded) => this.#listeners.tell(loaded), this.#controller.signal).finally(() => {
      this.isOver = true;
    });
    this.#engine.catch(() => undefined);
  }

  async join(onProgress: OnProgress, signal: AbortSignal | undefined): Promise<EngineClient> {
    const leave = this.#listeners.add(onProgress);
    try {
      return await unlessAborted(this.#engine, signal);
    } finally {
      leave();
      if (this.#listeners.size === 0 && !this.isOver) {
        this.isOver = true;
        this.#controller.abort();
      }
    }
  }
}
