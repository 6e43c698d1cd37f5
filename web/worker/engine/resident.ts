/** A model on the device, or on its way there, which clients share. */
import type { EngineEvent, LocalBackend, LocalLoadOptions } from "../shared/protocol.ts";
import type { Bundle } from "./bundle.ts";
import type { Model } from "./loader.ts";
import { overBudget } from "./model-errors.ts";
import { Scheduler } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";

/** What a model has on the device. */
export interface Session {
  model: Model;
  sequence: Sequence;
  /** Lets go of the stored files. */
  readonly release: () => void;
}

export interface LoadRequest {
  readonly bundleUrl: string;
  readonly options: LocalLoadOptions;
}

/** Whoever sends requests: a page, or a part of it. */
export class Client {
  readonly emit: (event: EngineEvent) => void;
  /** Models that it has loaded, by id. */
  readonly leases = new Map<string, Lease>();
  /** Loads that it waits for. */
  readonly loading = new Map<Promise<unknown>, LoadRequest>();
  /** Unloads that it waits for. */
  readonly unloading = new Set<Promise<unknown>>();
  /** Loads and unloads so far: whichever ends first, what was called later wins. */
  calls = 0;
  /** The last call that gave up all models of those before it. */
  replacing = 0;
  /** Bytes of the device that it lets models take; null if it doesn't say. */
  memoryBudget: number | null = null;
  /** Aborted when it goes. */
  readonly gone = new AbortController();
  /** Its requests that run or wait. */
  requests = 0;

  constructor(emit: (event: EngineEvent) => void) {
    this.emit = emit;
  }

  /** Throws EngineError "out_of_memory" for a model that alone takes more bytes than this client lets models take. */
  checkBudget(bytes: number): void {
    const most = this.memoryBudget ?? Infinity;
    if (bytes > most) throw overBudget(bytes, most);
  }
}

/** One client's right to a model, which stays when the model makes room for others. */
export interface Lease extends LoadRequest {
  readonly client: Client;
  readonly id: string;
  /** The number of the client's call that asked for it. */
  readonly call: number;
  /** Null while the model isn't on the device. */
  resident: Resident | null;
  readonly requests: Set<Promise<unknown>>;
}

export interface Wanted {
  bundle: Bundle;
  /** The target to try first; empty where that isn't known. */
  best: string;
  /** The one that was asked for. */
  target: string | undefined;
  /** Those that may be tried, in this order; undefined: all. */
  backends: readonly LocalBackend[] | undefined;
}

type Open = (signal: AbortSignal, emit: (event: EngineEvent) => void) => Promise<Session>;

export class Resident {
  readonly wanted: Wanted;
  /** Locks that lead to this model: where a stored bundle gave way to another version there are two. */
  readonly identities: Set<string>;
  readonly scheduler = new Scheduler();
  readonly leases = new Set<Lease>();
  /** Bytes of the device: what it will need while it loads, 0 before that is known. */
  bytes = 0;
  /** Requests and loads that need it now. */
  uses = 0;
  /** For the choice of the one that was used the longest ago. */
  lastUse = 0;
  session: Session | null = null;
  readonly #open: Open;
  readonly #abort = new AbortController();
  readonly #waiting: Client[] = [];
  #opening: Promise<void> | null = null;

  constructor(wanted: Wanted, open: Open) {
    this.wanted = wanted;
    this.identities = new Set([wanted.bundle.identity]);
    this.#open = open;
  }

  /** Whether everybody who waited for its load has left. */
  get abandoned(): boolean {
    return this.#abort.signal.aborted;
  }

  suits({ bundle, best, target, backends }: Wanted): boolean {
    if (this.abandoned || !this.identities.has(bundle.identity)) return false;
    // Which of them it will be isn't known yet.
    if (!this.session && String(backends) !== String(this.wanted.backends)) return false;
    const kind = this.session?.model.loaded.backend.kind;
    if (kind && backends && !(backends as readonly string[]).includes(kind)) return false;
    if (target !== undefined) return target === (this.session?.model.target ?? this.wanted.target);
    return this.wanted.best === best && (this.wanted.target ?? best) === best;
  }

  /**
   * Waits until it is loaded; `client` is told how far that is. The load goes on as long as anybody
   * waits. Rejects with the signal's reason, or the load's error.
   */
  async load(client: Client, signal: AbortSignal): Promise<void> {
    if (this.session) return;
    this.#waiting.push(client);
    const tell = (event: EngineEvent): void => {
      for (const waiting of new Set(this.#waiting)) waiting.emit(event);
    };
    const opening = (this.#opening ??= this.#begin(tell));
    let leave = (): void => undefined;
    const left = new Promise<never>((_, reject) => {
      leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(client), 1);
        if (this.#waiting.length > 0) reject(signal.reason);
        // The last one waits until what was begun is cleared away.
        else this.#abort.abort(signal.reason);
      };
    });
    signal.addEventListener("abort", leave);
    try {
      await Promise.race([opening, left]);
    } finally {
      signal.removeEventListener("abort", leave);
      if (!signal.aborted) this.#waiting.splice(this.#waiting.indexOf(client), 1);
    }
  }

  async #begin(tell: (event: EngineEvent) => void): Promise<void> {
    this.session = await this.#open(this.#abort.signal, tell);
  }

  dispose(): void {
    this.session?.model.runner.dispose();
    this.session?.release();
    this.session = null;
  }
}
