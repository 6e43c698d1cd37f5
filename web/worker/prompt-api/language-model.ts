/** The browsers' Prompt API on this engine, for pages that ask for it. */
import type { EngineClient } from "../client/client.ts";
import type { EngineOptions } from "../client/engine-options.ts";
import { creationError, notSupported, quotaExceeded } from "./errors.ts";
import { EngineHost } from "./host.ts";
import { joined, readCoreOptions, readPrompt } from "./messages.ts";
import { Session, type SessionState } from "./session.ts";
import type {
  Availability,
  LanguageModel as LanguageModelSession,
  LanguageModelConstructor,
  LanguageModelCreateCoreOptions,
  LanguageModelCreateOptions,
} from "./types.ts";

/**
 * A class like `LanguageModel`; its engine starts with the first session, with these options or the one given.
 *
 * Throws EngineError "invalid_request".
 */
export function createLanguageModel(source: EngineOptions | EngineClient = {}): LanguageModelConstructor {
  const host = new EngineHost(source);
  return class LanguageModel extends Session {
    static async availability(options: LanguageModelCreateCoreOptions = {}): Promise<Availability> {
      if (!readCoreOptions(options).isSupported) return "unavailable";
      return host.availability();
    }

    static async create(options: LanguageModelCreateOptions = {}): Promise<LanguageModelSession> {
      const { signal } = options;
      signal?.throwIfAborted();
      const state = await newState(host, options);
      if (signal?.aborted) host.release();
      signal?.throwIfAborted();
      const session = new LanguageModel(state);
      signal?.addEventListener("abort", () => session.end(signal.reason));
      return session;
    }

    protected override made(state: SessionState): Session {
      return new LanguageModel(state);
    }
  } as unknown as LanguageModelConstructor;
}

/**
 * Makes it the page's `LanguageModel` where the browser has none; whether it did.
 *
 * Throws EngineError "invalid_request".
 */
export function installLanguageModel(source: EngineOptions | EngineClient = {}): boolean {
  if ("LanguageModel" in globalThis) return false;
  const value = createLanguageModel(source);
  Object.defineProperty(globalThis, "LanguageModel", { value, configurable: true, writable: true });
  return true;
}

/** What `create` downloads is told here, from 0 to 1. */
class CreateMonitor extends EventTarget {
  ondownloadprogress: ((event: ProgressEvent) => void) | null = null;
  #loaded = -1;

  constructor() {
    super();
    this.addEventListener("downloadprogress", (event) => this.ondownloadprogress?.(event as ProgressEvent));
  }

  tell(loaded: number): void {
    if (loaded <= this.#loaded) return;
    this.#loaded = loaded;
    this.dispatchEvent(new ProgressEvent("downloadprogress", { lengthComputable: true, loaded, total: 1 }));
  }
}

async function newState(host: EngineHost, options: LanguageModelCreateOptions): Promise<SessionState> {
  const { isSupported, samplingMode } = readCoreOptions(options);
  const { initialPrompts = [], monitor: watch, signal } = options;
  const initial = [...initialPrompts].length > 0 ? readPrompt(initialPrompts, true) : [];
  if (!isSupported) throw notSupported("This model reads and writes text, and calls no tools.");
  const monitor = new CreateMonitor();
  watch?.(monitor);
  try {
    monitor.tell(0);
    await host.acquire((loaded) => monitor.tell(Math.min(loaded, 0.999)), signal);
    const usage = await measured(host, initial, signal).catch((error: unknown) => {
      host.release();
      throw error;
    });
    monitor.tell(1);
    return { host, samplingMode, initial, exchanges: [], usage };
  } catch (error) {
    signal?.throwIfAborted();
    throw creationError(error);
  }
}

/** In tokens. Throws QuotaExceededError if there is no room for a question. */
async function measured(
  host: EngineHost,
  initial: ReturnType<typeof readPrompt>,
  signal: AbortSignal = new AbortController().signal,
): Promise<number> {
  if (initial.length === 0) return 0;
  const tokens = await host.count(joined(initial), signal);
  if (tokens >= host.contextWindow) throw quotaExceeded(tokens, host.contextWindow);
  return tokens;
}
