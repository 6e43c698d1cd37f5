/** Models that the daemon which serves this page runs on its own machine. */
import { RemoteApi } from "../remote/api.ts";
import type { Sampling } from "../shared/sampling-defaults.ts";
import type { AnswerChunk, ChatRequest, FitReport, LoadedModel } from "../ui/engine.ts";

/** Where a bundle of the daemon is "loaded" from: its API, and the model's id behind the mark. */
const SCHEME = "daemon+";
const KEY = "mlc-edge.daemon-key";

export function daemonUrl(api: string, id: string): string {
  return `${SCHEME}${api}#${encodeURIComponent(id)}`;
}

export function isDaemonUrl(url: string): boolean {
  return url.startsWith(SCHEME);
}

let heldKey: string | null = null;

/** Keeps the daemon's API key for this tab's lifetime. */
export function keepDaemonKey(key: string): void {
  heldKey = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Without storage it lasts until the page is left.
  }
}

function daemonKey(): string | null {
  try {
    return sessionStorage.getItem(KEY) ?? heldKey;
  } catch {
    return heldKey;
  }
}

/** One model of the daemon, by the interface of the browser's engine. */
export class DaemonModel {
  readonly #api: RemoteApi;
  readonly #id: string;
  readonly #contextWindowSize: number;

  constructor(url: string, contextWindowSize: number) {
    const [api = "", id = ""] = url.slice(SCHEME.length).split("#");
    this.#api = new RemoteApi({ url: api, name: "The daemon", key: daemonKey, silenceMs: Infinity });
    this.#id = decodeURIComponent(id);
    this.#contextWindowSize = contextWindowSize;
  }

  /** Nothing is downloaded: the daemon has room for what it runs. */
  static readonly fit: FitReport = {
    fits: true,
    target: "daemon",
    problems: [],
    downloadBytes: 0,
    missingBytes: 0,
    memoryBytes: 0,
  };

  /** Asks for the model, and with that whether the daemon is there and takes the key. */
  async load(signal: AbortSignal | undefined): Promise<LoadedModel> {
    const entry = await this.#api.get(`models/${encodeURIComponent(this.#id)}`, signal);
    const { sampling = null } = entry as { sampling?: Sampling | null };
    const adapter = { vendor: "", architecture: "", description: "daemon", isSoftware: false };
    const contextWindowSize = this.#contextWindowSize;
    return { id: this.#id, target: "daemon", contextWindowSize, sampling, adapter };
  }

  async create(request: ChatRequest, signal: AbortSignal): Promise<AsyncIterable<AnswerChunk>> {
    return this.#api.stream<AnswerChunk>("chat/completions", { ...request, model: this.#id }, signal);
  }
}
