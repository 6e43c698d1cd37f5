/** Which models are on the device, for whom, and which make room for others. */
import { unlessAborted } from "../shared/aborts.ts";
import { EngineError } from "../shared/errors.ts";
import type { EngineEvent, HeldModel, LoadedModel, LocalLoadOptions, ModelEvent } from "../shared/protocol.ts";
import type { Store } from "../store/store.ts";
import { first, rank } from "./backends.ts";
import { Bundle, lockUrlOf } from "./bundle.ts";
import { neededFiles, neededMemory } from "./fit.ts";
import { noModel, notLoaded, superseded, unnamed } from "./model-errors.ts";
import { Client, Resident, type Lease, type LoadRequest, type Session, type Wanted } from "./resident.ts";
import { Room } from "./room.ts";
import { RUNTIMES } from "./runtime.ts";

type Grant = Omit<Lease, "resident" | "requests">;

export type OpenSession = (
  wanted: Wanted,
  context: { signal: AbortSignal; emit: (event: EngineEvent) => void; resident: Resident },
) => Promise<Session>;

export class Models {
  readonly #store: Store;
  readonly #open: OpenSession;
  readonly #clients = new Set<Client>();
  readonly #residents = new Set<Resident>();
  readonly #room: Room;
  #uses = 0;

  constructor(store: Store, open: OpenSession) {
    this.#store = store;
    this.#open = open;
    const evict = (resident: Resident): void => this.#evict(resident);
    this.#room = new Room({ clients: this.#clients, residents: this.#residents, evict });
  }

  get residents(): Iterable<Resident> {
    return this.#residents;
  }

  get clients(): Iterable<Client> {
    return this.#clients;
  }

  connect(client: Client): void {
    this.#clients.add(client);
  }

  /** Gives up all models of a client; its requests must have been aborted. */
  disconnect(client: Client): void {
    this.#clients.delete(client);
    client.gone.abort();
    for (const lease of client.leases.values()) this.#release(lease);
  }

  /** Models that a client had from an engine that ended; those that were loaded are loaded again at once. */
  adopt(client: Client, held: readonly HeldModel[]): void {
    for (const { id, bundleUrl, options, loaded } of held) {
      const lease = this.#lease({ client, id, bundleUrl, options, call: (client.calls += 1) });
      const { signal } = client.gone;
      // If it fails, the next request tries again, and is told why.
      if (loaded) this.use(lease, signal).then((resident) => this.leave(resident), () => undefined);
    }
  }

  /**
   * Loads a model unless some client has it already. Throws EngineError of any code that has to do
   * with bundles and devices, "model_not_loaded" if a later load took its place meanwhile, or the
   * signal's reason.
   */
  async load(client: Client, request: LoadRequest, signal: AbortSignal): Promise<LoadedModel> {
    const earlier = [...client.unloading];
    const loading = this.#load(client, { ...request, call: (client.calls += 1) }, signal);
    client.loading.set(loading, request);
    try {
      return await loading;
    } finally {
      client.loading.delete(loading);
      // Who is told of this after them takes it for what they left.
      await settled(earlier);
    }
  }

  /**
   * Gives up one of a client's models, or all, once its requests have ended; not what it loads from now on.
   * Throws EngineError "invalid_request" if it hasn't that one.
   */
  async unload(client: Client, id: string | undefined): Promise<void> {
    const unloading = this.#unload(client, id, (client.calls += 1));
    client.unloading.add(unloading);
    try {
      await unloading;
    } finally {
      client.unloading.delete(unloading);
    }
  }

  /**
   * The client's model that a request names, or its only one. Throws EngineError: model_not_loaded
   * if it has none, else invalid_request.
   */
  async find(client: Client, asked: unknown, signal: AbortSignal): Promise<Lease> {
    const { leases } = client;
    const isNamed = asked !== undefined && asked !== null;
    const named = leases.get(asked as string);
    if (named) return named;
    const decides = ({ options }: LoadRequest): boolean => isNamed || leases.size === 0 || options.replace === true;
    await unlessAborted(settled(loadsOf(client, decides)), signal);
    const [only] = leases.values();
    if (!only) throw noModel();
    const lease = isNamed ? leases.get(asked as string) : leases.size === 1 ? only : undefined;
    if (!lease) throw isNamed ? notLoaded(client, asked) : unnamed(client);
    return lease;
  }

  /** The model of a lease, loaded if it isn't; the caller must `leave` it. */
  async use(lease: Lease, signal: AbortSignal): Promise<Resident> {
    const { client, bundleUrl, options } = lease;
    // Requests that keep a model busy don't overtake a load that waits for its place.
    while (lease.resident && this.#room.isSought) await this.#room.change(signal);
    if (lease.resident) return enter(lease.resident);
    const resident = await this.#resident(bundleUrl, options, signal);
    await this.#ready(resident, client, signal).catch((error: unknown) => {
      this.leave(resident);
      throw error;
    });
    if (!lease.resident && client.leases.get(lease.id) === lease) {
      bind(lease, resident);
      tell(lease, "loaded");
    }
    return resident;
  }

  leave(resident: Resident): void {
    resident.uses -= 1;
    resident.lastUse = this.#uses += 1;
    this.#discardUnused(resident);
    this.#room.changed();
  }

  /** Keeps a model on the device, whoever gives it up, until `work` is done. */
  async keep(resident: Resident, work: () => Promise<void>): Promise<void> {
    enter(resident);
    try {
      await work();
    } finally {
      this.leave(resident);
    }
  }

  /** Drops a model that can't answer any more; `lease`'s client must load it anew. */
  fail(lease: Lease, resident: Resident): void {
    const { client } = lease;
    resident.leases.delete(lease);
    if (client.leases.get(lease.id) === lease) {
      client.leases.delete(lease.id);
      tell(lease, "dropped");
    }
    this.drop(resident);
  }

  /** Takes a model off the device; the next request of those who have loaded it loads it again. */
  #evict(resident: Resident): void {
    this.#residents.delete(resident);
    resident.dispose();
    for (const lease of resident.leases) {
      lease.resident = null;
      tell(lease, "unloaded");
    }
    resident.leases.clear();
    this.#room.changed();
  }

  /** Drops a model whose device is lost for good. */
  drop(resident: Resident): void {
    if (this.#residents.has(resident)) this.#evict(resident);
  }

  async #load(
    client: Client,
    { bundleUrl, options, call }: LoadRequest & { call: number },
    signal: AbortSignal,
  ): Promise<LoadedModel> {
    let resident = await this.#resident(bundleUrl, options, signal);
    try {
      const { id } = resident.wanted.bundle.lock.model;
      await unlessAborted(this.#makeWay(resident, { client, id, bundleUrl, options, call }), signal);
      while (resident.abandoned || !this.#residents.has(resident)) {
        // Meanwhile others began to load it, and left or failed.
        const next = await this.#resident(bundleUrl, options, signal);
        this.leave(resident);
        resident = next;
      }
      const isThere = resident.session !== null;
      await this.#ready(resident, client, signal);
      const { loaded, bundle } = sessionOf(resident).model;
      const grant = { client, id: loaded.id, bundleUrl, options, call };
      this.#grant(resident, grant);
      // What earlier calls have loaded meanwhile.
      await this.#makeWay(resident, grant);
      if (bundle.fromStorage) this.#revalidate(bundleUrl);
      // Whoever waits for downloads is told of each; what they left may have been deleted since.
      if (isThere) await tellUnkept(client, resident);
      return { ...loaded, memoryBytes: resident.bytes };
    } finally {
      this.leave(resident);
    }
  }

  async #unload(client: Client, id: string | undefined, call: number): Promise<void> {
    const held = id === undefined ? undefined : client.leases.get(id);
    // What a load is called that runs isn't known, but for the one that is loaded again.
    await settled(loadsOf(client, ({ bundleUrl }) => !held || bundleUrl === held.bundleUrl));
    const leases = [...client.leases.values()].filter((lease) => id === undefined || lease.id === id);
    if (id !== undefined && leases.length === 0) throw notLoaded(client, id);
    await this.#giveUp(leases.filter((lease) => lease.call < call));
  }

  /** Gives up a client's models in whose place another one comes. */
  async #makeWay(resident: Resident, { client, id, options, call }: Grant): Promise<void> {
    const given = [...client.leases.values()].filter(
      (lease) => lease.call < call && lease.resident !== resident && (options.replace || lease.id === id),
    );
    for (const lease of given) tell(lease, "dropped");
    await this.#giveUp(given);
  }

  /** Throws EngineError "model_not_loaded" if another model has taken the place by a later call. */
  #grant(resident: Resident, grant: Grant): void {
    const { client, id, options, call } = grant;
    const held = client.leases.get(id);
    const isLater = held !== undefined && held.call > call;
    if (isLater && held.resident === resident) return;
    if (isLater || client.replacing > call) throw superseded(id);
    bind(this.#lease(grant), resident);
    if (options.replace) client.replacing = call;
  }

  /** A client's right to a model, in the place of an earlier one to a model of this name. */
  #lease(grant: Grant): Lease {
    const { client, id } = grant;
    const former = client.leases.get(id);
    if (former) this.#release(former);
    const lease: Lease = { ...grant, resident: null, requests: former?.requests ?? new Set() };
    client.leases.set(id, lease);
    return lease;
  }

  /** The model of a bundle, which may still have to be loaded; the caller must `leave` it. */
  async #resident(
    bundleUrl: string,
    { target, backends }: LocalLoadOptions,
    signal: AbortSignal,
  ): Promise<Resident> {
    const bundle = await Bundle.open(bundleUrl, this.#store, { signal, keep: true });
    // Where none fits, another version of the bundle may have one: that is seen when it is loaded.
    const ranked = rank(bundle, { target, backends }, RUNTIMES);
    const best = await ranked.then((options) => first(options).target.name).catch(() => "");
    signal.throwIfAborted();
    const wanted = { bundle, best, target, backends };
    const known = [...this.#residents].find((resident) => resident.suits(wanted));
    if (known) return enter(known);
    const resident: Resident = new Resident(wanted, (signal, emit) =>
      this.#openWithin(resident, { signal, emit }),
    );
    this.#residents.add(resident);
    return enter(resident);
  }

  /** Waits until a model is loaded. What one client has, another one's budget may not allow. */
  async #ready(resident: Resident, client: Client, signal: AbortSignal): Promise<void> {
    if (client.memoryBudget !== null) {
      const bytes = await needs(resident.wanted, signal);
      signal.throwIfAborted();
      client.checkBudget(bytes);
    }
    try {
      await resident.load(client, signal);
      signal.throwIfAborted();
    } catch (error) {
      if (resident.abandoned || !signal.aborted) this.#residents.delete(resident);
      throw error;
    }
  }

  /** Opens a model once there is room for it, as much as it takes. */
  async #openWithin(
    resident: Resident,
    { signal, emit }: { signal: AbortSignal; emit: (event: EngineEvent) => void },
  ): Promise<Session> {
    const { wanted } = resident;
    await this.#room.make(resident, await needs(wanted, signal), signal);
    for (;;) {
      try {
        const session = await this.#open(wanted, { signal, emit, resident });
        resident.bytes = session.model.loaded.memoryBytes;
        this.#room.trim(resident);
        resident.identities.add(session.model.bundle.identity);
        return session;
      } catch (error) {
        // A device that is full may be full of models that nobody uses now.
        const full = error instanceof EngineError && error.code === "out_of_memory";
        if (!full || signal.aborted || !this.#room.free(resident)) throw error;
      }
    }
  }

  async #giveUp(leases: readonly Lease[]): Promise<void> {
    for (const lease of leases) lease.client.leases.delete(lease.id);
    await Promise.all(leases.map((lease) => settled(lease.requests)));
    for (const lease of leases) this.#release(lease);
  }

  #release(lease: Lease): void {
    const { client, resident } = lease;
    if (client.leases.get(lease.id) === lease) client.leases.delete(lease.id);
    resident?.leases.delete(lease);
    if (resident) this.#discardUnused(resident);
  }

  #discardUnused(resident: Resident): void {
    if (resident.uses > 0 || resident.leases.size > 0) return;
    this.#residents.delete(resident);
    resident.dispose();
    this.#room.changed();
  }

  #revalidate(bundleUrl: string): void {
    void this.#store.revalidate(lockUrlOf(bundleUrl), new AbortController().signal);
  }
}

function enter(resident: Resident): Resident {
  resident.uses += 1;
  return resident;
}

function bind(lease: Lease, resident: Resident): void {
  lease.resident = resident;
  resident.leases.add(lease);
}

function loadsOf(client: Client, isMeant: (request: LoadRequest) => boolean): Promise<unknown>[] {
  return [...client.loading].filter(([, request]) => isMeant(request)).map(([loading]) => loading);
}

function tell({ client, id, resident }: Lease, state: ModelEvent["state"]): void {
  client.emit({ kind: "model", state, id, memoryBytes: state === "loaded" ? (resident?.bytes ?? 0) : 0 });
}

/** Says what isn't stored of a model that is on the device. */
async function tellUnkept(client: Client, resident: Resident): Promise<void> {
  const { bundle, target } = sessionOf(resident).model;
  const files = neededFiles(bundle.lock, bundle.lock.targets.get(target) ?? null);
  const event = await bundle.unkept(files).catch(() => null);
  if (event) client.emit(event);
}

export function sessionOf({ session }: Resident): Session {
  if (session) return session;
  throw new Error("the model is not on the device");
}

/** Bytes of the device; of the weights alone where the bundle doesn't say more. */
async function needs({ bundle, best }: Wanted, signal: AbortSignal): Promise<number> {
  const target = bundle.lock.targets.get(best);
  if (!target) return 0;
  return neededMemory(bundle, target, signal).catch(() => target.parameterBytes);
}

async function settled(promises: Iterable<Promise<unknown>>): Promise<void> {
  await Promise.allSettled(promises);
}
