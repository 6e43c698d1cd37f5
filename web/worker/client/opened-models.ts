/** What a page has loaded, by name: models of this device, and servers' models. */
import { EngineError } from "../shared/errors.ts";
import type { EngineEvent, LoadedModel } from "../shared/protocol.ts";
import type { Opened } from "./backends.ts";
import type { RemoteModel } from "./remote.ts";

/** A load that tries this device: what its model is called is known once it has succeeded. */
export interface LocalLoad {
  /** The bundle's address; "" for one that is looked for. */
  readonly source: string;
  readonly replace: boolean;
}

export class OpenedModels {
  readonly #models = new Map<string, Opened>();
  /** Every name that a model of this device ever had here. */
  readonly #localNames = new Set<string>();
  readonly #loading = new Set<LocalLoad>();
  /** Sources whose last load failed. */
  readonly #failed = new Set<string>();

  /** The last one last. */
  get all(): LoadedModel[] {
    return [...this.#models.values()].map(({ loaded }) => loaded);
  }

  /** Names of those that run here. */
  get local(): string[] {
    return [...this.#models].filter(([, { remote }]) => !remote).map(([id]) => id);
  }

  /** Does the work of a load, which must `add` what it opens. */
  async during<T>(load: LocalLoad, work: () => Promise<T>): Promise<T> {
    const { source } = load;
    this.#loading.add(load);
    try {
      const done = await work();
      this.settle(source);
      return done;
    } catch (error) {
      this.#failed.add(source);
      throw error;
    } finally {
      this.#loading.delete(load);
    }
  }

  /** What failed to load from there is loaded now, or a server was chosen in its place. */
  settle(source: string): void {
    this.#failed.delete(source);
  }

  add(opened: Opened): void {
    const { id } = opened.loaded;
    if (!opened.remote) this.#localNames.add(id);
    this.#models.delete(id);
    this.#models.set(id, opened);
  }

  delete(id: string): void {
    this.#models.delete(id);
  }

  clear(): void {
    this.#models.clear();
  }

  clearRemote(): void {
    for (const [id, { remote }] of this.#models) if (remote) this.#models.delete(id);
  }

  /** Keeps up with what the engine tells of its models. */
  note(event: EngineEvent): void {
    if (event.kind !== "model") return;
    const opened = this.#models.get(event.id);
    if (!opened || opened.remote) return;
    if (event.state === "dropped") this.#models.delete(event.id);
    else opened.loaded = { ...opened.loaded, memoryBytes: event.memoryBytes };
  }

  isRemote(id: string): boolean {
    return Boolean(this.#models.get(id)?.remote);
  }

  /**
   * The server's model that a request is for; null if it is the engine's to answer, or to refuse.
   *
   * The only one answers to any name but that of a model of this device, which may be gone by now, or still
   * be loading, or have failed to. Without a name it doesn't answer while another is loading in its place.
   * Throws EngineError "invalid_request" if none is named and the only one isn't evident.
   */
  remoteFor(name: string | null | undefined): RemoteModel | null {
    const isNamed = name !== undefined && name !== null;
    const named = isNamed ? this.#models.get(name) : undefined;
    if (named) return named.remote;
    if (isNamed ? this.#mayBeLocal(name) : this.#isBeingReplaced) return null;
    const [first, ...others] = this.#models.values();
    if (others.length === 0) return first?.remote ?? null;
    if (!isNamed && [...this.#models.values()].some(({ remote }) => remote)) throw unnamed([...this.#models.keys()]);
    return null;
  }

  #mayBeLocal(name: string): boolean {
    return this.#localNames.has(name) || this.#loading.size > 0 || this.#failed.size > 0;
  }

  get #isBeingReplaced(): boolean {
    return [...this.#loading].some(({ replace }) => replace);
  }

  /** Throws EngineError "invalid_request" if a model of this device has this name. */
  checkRemoteName({ id, backend }: LoadedModel): void {
    if (!this.local.includes(id)) return;
    throw new EngineError({
      code: "invalid_request",
      message: `A model of this device is loaded as ${id}, and so is the one of ${backend.origin} called.`,
      remedy: "Unload the one of this device first, or load with `replace`.",
      param: "backends",
    });
  }
}

function unnamed(ids: string[]): EngineError {
  return new EngineError({
    code: "invalid_request",
    message: `The request names no model, and ${ids.join(", ")} are loaded.`,
    remedy: "Name one of them as `model`.",
  });
}
