/** Which model is chosen, and where it stands on its way to being ready. */
import type { Sampling } from "../shared/sampling-defaults.ts";
import { fetchBundles, lockUrlOf, storedBundles } from "./bundles.ts";
import type { OfflineFiles } from "./dependencies.ts";
import type { ChatEngine, FitReport, LoadedModel, LoadProgress } from "./engine.ts";
import { isAbort, problemOf } from "./problems.ts";
import type { Bundle, ContextPolicy, Problem } from "./types.ts";

export type ModelState =
  | { kind: "listing" }
  | { kind: "checking"; bundle: Bundle }
  | { kind: "idle"; bundle: Bundle; fit: FitReport }
  | { kind: "loading"; bundle: Bundle; progress: LoadProgress | null }
  /** The device lost it; the next answer loads it again. */
  | { kind: "unloaded"; bundle: Bundle }
  | { kind: "ready"; bundle: Bundle; model: LoadedModel; policy: ContextPolicy }
  | { kind: "error"; bundle: Bundle | null; problem: Problem };

/** A model up to this size loads without being asked for: less than many a page's pictures. */
const AUTOLOAD_BYTES = 20_000_000;
const CHOICE_KEY = "mlc-edge.model";

export class Models {
  readonly #engine: ChatEngine;
  readonly #files: OfflineFiles;
  readonly #indexUrl: string;
  readonly #listeners = new Set<() => void>();
  #abort = new AbortController();
  state: ModelState = { kind: "listing" };
  bundles: Bundle[] = [];
  /** Lock addresses of the bundles that this device keeps. */
  stored = new Set<string>();

  constructor(engine: ChatEngine, files: OfflineFiles, indexUrl: string) {
    this.#engine = engine;
    this.#files = files;
    this.#indexUrl = indexUrl;
    engine.onEvent((event) => {
      if (event.kind === "progress" && this.state.kind === "loading") {
        this.#become({ ...this.state, progress: event });
      }
    });
  }

  /** Fields of requests that the files of the model name; null until it is ready. */
  get sampling(): Sampling | null {
    return this.state.kind === "ready" ? this.state.model.sampling : null;
  }

  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** Fetches the list and selects the model used last, or the first. */
  async start(policy: ContextPolicy): Promise<void> {
    this.#become({ kind: "listing" });
    try {
      this.bundles = await fetchBundles(this.#indexUrl);
    } catch (error) {
      this.#become({ kind: "error", bundle: null, problem: problemOf(error) });
      return;
    }
    await this.refreshStored();
    const first = this.bundles.find(({ key }) => key === lastChoice()) ?? this.#firstChoice();
    if (first) await this.select(first, policy, true);
    else this.#become({ kind: "error", bundle: null, problem: NO_MODELS });
  }

  /** The daemon's model where this browser can't run any, else the host's first. */
  #firstChoice(): Bundle | undefined {
    const elsewhere = this.bundles.find(({ place }) => place === "daemon");
    return (!("gpu" in navigator) && elsewhere) || this.bundles[0];
  }

  /** Checks whether a model fits, then loads it if it is small or already on this device. */
  async select(bundle: Bundle, policy: ContextPolicy, automatic = false): Promise<void> {
    const { signal } = this.#restart();
    if (!automatic) remember(bundle);
    this.#become({ kind: "checking", bundle });
    try {
      const fit = await this.#engine.check(bundle.url);
      if (signal.aborted) return;
      const problem = fit.problems[0];
      const elsewhere = this.bundles.find(({ place }) => place === "daemon");
      if (problem?.code === "webgpu_unavailable" && elsewhere && automatic) {
        await this.select(elsewhere, policy, true);
      } else if (!fit.fits && problem) this.#become({ kind: "error", bundle, problem });
      else if (this.isStored(bundle) || fit.downloadBytes < AUTOLOAD_BYTES) {
        await this.load(bundle, policy);
      } else this.#become({ kind: "idle", bundle, fit });
    } catch (error) {
      if (!signal.aborted) this.#become({ kind: "error", bundle, problem: problemOf(error) });
    }
  }

  /** Downloads what is missing and makes the model ready. Failures end up in `state`. */
  async load(bundle: Bundle, policy: ContextPolicy): Promise<void> {
    const { signal } = this.#restart();
    this.#become({ kind: "loading", bundle, progress: null });
    try {
      const options = { signal, contextPolicy: policy };
      const model = await this.#engine.load(bundle.url, options, bundle.contextWindowSize);
      if (signal.aborted) return;
      this.#become({ kind: "ready", bundle, model, policy });
      await this.refreshStored();
    } catch (error) {
      if (signal.aborted || isAbort(error)) return;
      this.#become({ kind: "error", bundle, problem: problemOf(error) });
    }
  }

  /** Stops a load; what is downloaded stays. */
  async cancel(): Promise<void> {
    if (this.state.kind !== "loading") return;
    const { bundle } = this.state;
    const { signal } = this.#restart();
    try {
      const fit = await this.#engine.check(bundle.url);
      if (!signal.aborted) this.#become({ kind: "idle", bundle, fit });
    } catch (error) {
      if (!signal.aborted) this.#become({ kind: "error", bundle, problem: problemOf(error) });
    }
  }

  /** After a request failed because the model is gone from the device. */
  forget(): void {
    if (this.state.kind === "ready") this.#become({ kind: "unloaded", bundle: this.state.bundle });
  }

  /**
   * Resolves once a model is ready under this policy. It stays pending while people must decide:
   * whether to download a big model, what to do about one that failed to load.
   */
  async ready(policy: ContextPolicy, signal: AbortSignal): Promise<LoadedModel> {
    const { state } = this;
    if (state.kind === "unloaded" || (state.kind === "ready" && state.policy !== policy)) {
      void this.load(state.bundle, policy);
    }
    return new Promise((resolve, reject) => {
      const settle = () => {
        if (signal.aborted) reject(signal.reason);
        else if (this.state.kind === "ready") resolve(this.state.model);
        else return;
        this.#listeners.delete(settle);
      };
      this.#listeners.add(settle);
      signal.addEventListener("abort", settle, { once: true });
      settle();
    });
  }

  isStored(bundle: Bundle): boolean {
    const lockUrl = lockUrlOf(bundle);
    return lockUrl !== null && this.stored.has(lockUrl);
  }

  async refreshStored(): Promise<void> {
    this.stored = await storedBundles(this.#files);
    this.#tell();
  }

  /** Deletes a model's files from this device; a loaded model goes on answering until it is left. */
  async deleteFiles(bundle: Bundle): Promise<number> {
    const lockUrl = lockUrlOf(bundle);
    if (lockUrl === null) return 0;
    const { freedBytes } = await this.#files.deleteBundle(lockUrl);
    await this.refreshStored();
    return freedBytes;
  }

  #restart(): AbortController {
    this.#abort.abort();
    this.#abort = new AbortController();
    return this.#abort;
  }

  #become(state: ModelState): void {
    this.state = state;
    this.#tell();
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}

const NO_MODELS: Problem = {
  code: "bundle_invalid",
  message: "This host offers no models.",
  remedy: "Build one with mlc-edge and put its folder where the host looks for bundles.",
};

function lastChoice(): string | null {
  try {
    return localStorage.getItem(CHOICE_KEY);
  } catch {
    return null;
  }
}

function remember(bundle: Bundle): void {
  try {
    localStorage.setItem(CHOICE_KEY, bundle.key);
  } catch {
    // Without storage the first model is chosen at the next visit.
  }
}
