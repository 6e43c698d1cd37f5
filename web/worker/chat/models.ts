/** Which model is chosen, and where it stands on its way to being ready. */
import type { ContextPolicy, LoadProgress, StoredBundle, StoredContents } from "../shared/protocol.ts";
import type { Sampling } from "../shared/sampling-defaults.ts";
import type { ChatEngine, FitReport, LoadedModel } from "../ui/engine.ts";
import { isAbort, problemOf } from "../ui/problems.ts";
import type { Bundle, Problem } from "../ui/types.ts";
import { fetchBundles, lastSeenBundles, lockUrlOf, unlistedBundle } from "./bundles.ts";
import { STRINGS } from "./strings.ts";

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
export const AUTOLOAD_BYTES = 20_000_000;
const CHOICE_KEY = "mlc-edge.model";

export class Models {
  readonly #engine: ChatEngine;
  readonly #indexUrl: string;
  readonly #listeners = new Set<() => void>();
  #abort = new AbortController();
  state: ModelState = { kind: "listing" };
  /** What the host offers. */
  bundles: Bundle[] = [];
  stored: StoredContents = NOTHING_STORED;

  constructor(engine: ChatEngine, indexUrl: string) {
    this.#engine = engine;
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

  /** Models that this device keeps, whole or in part, and that the host doesn't offer. */
  get unlisted(): Bundle[] {
    const listed = new Set(this.bundles.map(lockUrlOf));
    return this.stored.bundles.filter(({ lockUrl }) => !listed.has(lockUrl)).map(unlistedBundle);
  }

  /** How many models load without a network. */
  get offlineCount(): number {
    return this.stored.bundles.filter(({ offlineTargets }) => offlineTargets.length > 0).length;
  }

  /** Selects the model used last, or the first: by the list as it was last seen, if it was. */
  async start(policy: ContextPolicy): Promise<void> {
    this.#become({ kind: "listing" });
    const lastSeen = await lastSeenBundles(this.#indexUrl);
    if (lastSeen) {
      this.bundles = lastSeen;
      void this.#refreshList(policy);
    } else {
      try {
        this.bundles = await fetchBundles(this.#indexUrl);
      } catch (error) {
        await this.refreshStored();
        if (this.offlineCount === 0) {
          this.#become({ kind: "error", bundle: null, problem: problemOf(error) });
          return;
        }
      }
    }
    await this.refreshStored();
    await this.#selectFirst(policy);
  }

  async #selectFirst(policy: ContextPolicy): Promise<void> {
    const choices = [...this.bundles, ...this.unlisted.filter((bundle) => this.isStored(bundle))];
    const first = choices.find(({ key }) => key === lastChoice()) ?? this.#firstChoice() ?? choices[0];
    if (first) await this.select(first, policy, true);
    else this.#become({ kind: "error", bundle: null, problem: NO_MODELS });
  }

  /** Takes the host's list as it is now; a model that went from it is left unless it is stored. */
  async #refreshList(policy: ContextPolicy): Promise<void> {
    try {
      this.bundles = await fetchBundles(this.#indexUrl);
    } catch {
      return;
    }
    this.#tell();
    const { state } = this;
    const chosen = "bundle" in state ? state.bundle : null;
    const offered = chosen && (this.bundles.some(({ key }) => key === chosen.key) || this.isStored(chosen));
    if (state.kind !== "listing" && state.kind !== "ready" && !offered) await this.#selectFirst(policy);
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
      const options = { signal, contextPolicy: policy, replace: true };
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

  /** What this device keeps of a model; null if nothing. */
  storedPart(bundle: Bundle): StoredBundle | null {
    const lockUrl = lockUrlOf(bundle);
    return this.stored.bundles.find((stored) => stored.lockUrl === lockUrl) ?? null;
  }

  /** Whether it loads without a network. */
  isStored(bundle: Bundle): boolean {
    return (this.storedPart(bundle)?.offlineTargets.length ?? 0) > 0;
  }

  async refreshStored(): Promise<void> {
    this.stored = await this.#engine.storage.list().catch(() => NOTHING_STORED);
    this.#tell();
  }

  /** Deletes a model's files from this device; a loaded model goes on answering until it is left. */
  async deleteFiles(bundle: Bundle): Promise<void> {
    await this.#engine.storage.delete(bundle.url);
    await this.refreshStored();
  }

  /** Deletes files of this device that belong to no model; false where models in use forbid it. */
  async deleteLeftovers(): Promise<boolean> {
    const { modelsInUse } = await this.#engine.storage.deleteLeftovers();
    await this.refreshStored();
    return !modelsInUse;
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

const NOTHING_STORED: StoredContents = { bundles: [], states: [], leftovers: { files: 0, bytes: 0 } };

const NO_MODELS: Problem = {
  code: "bundle_invalid",
  message: STRINGS.hostHasNone,
  remedy: STRINGS.buildOne,
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
