/** Backends in the order in which a site wants them tried, local and remote ones. */
import { EngineError } from "../shared/errors.ts";
import type { BackendEvent, LeftBackend, LoadedModel, LocalBackend } from "../shared/protocol.ts";
import type { RemoteBackend, RemoteModel } from "./remote.ts";

/** Nothing leaves the device unless a remote server is among them. */
export type BackendOption = LocalBackend | RemoteBackend;

export interface BackendsOption {
  /** In the order to try; default: those of this device. */
  backends?: readonly BackendOption[];
}

export interface Opened {
  loaded: LoadedModel;
  /** Null for a model that runs here. */
  remote: RemoteModel | null;
}

export interface OpenContext {
  /** Loads on the first of these backends that works; its error tells of each in `tried`. */
  local: (backends: LocalBackend[]) => Promise<LoadedModel>;
  /** Opens a server's, where those in `tried` can't be used. */
  remote: (backend: RemoteBackend, tried: readonly LeftBackend[]) => Promise<RemoteModel>;
  tell: (event: BackendEvent) => void;
  signal: AbortSignal;
}

export function isRemote(option: BackendOption): option is RemoteBackend {
  return typeof option !== "string";
}

/**
 * Opens the first that works.
 *
 * A model that has been loaded on this device is taken, also where the signal comes then. Throws the last
 * one's EngineError with all of them in `tried`, or the signal's reason.
 */
export async function openFirst(options: readonly BackendOption[], context: OpenContext): Promise<Opened> {
  const { tell, signal } = context;
  const tried: LeftBackend[] = [];
  let last: EngineError | null = null;
  for (const group of groups(options)) {
    try {
      signal.throwIfAborted();
      const { loaded, remote } = await open(group, tried, context);
      const chosen = { ...loaded.backend, tried: remote ? tried : [...tried, ...loaded.backend.tried] };
      for (const left of chosen.tried.slice(tried.length)) tell({ kind: "backend", state: "left", left });
      tell({ kind: "backend", state: "chosen", chosen });
      return { loaded: { ...loaded, backend: chosen }, remote };
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof EngineError)) throw error;
      last = error;
      const left = leftBy(group, error);
      tried.push(...left);
      for (const one of left) tell({ kind: "backend", state: "left", left: one });
    }
  }
  throw combined(last, tried);
}

/** Local ones that follow each other are one group: the engine orders them by what the device is. */
export function groups(options: readonly BackendOption[]): (LocalBackend[] | RemoteBackend)[] {
  const found: (LocalBackend[] | RemoteBackend)[] = [];
  for (const option of options) {
    const group = found.at(-1);
    if (isRemote(option)) found.push(option);
    else if (Array.isArray(group)) group.push(option);
    else found.push([option]);
  }
  return found;
}

async function open(
  group: LocalBackend[] | RemoteBackend,
  tried: readonly LeftBackend[],
  context: OpenContext,
): Promise<Opened> {
  if (Array.isArray(group)) return { loaded: await context.local(group), remote: null };
  const remote = await context.remote(group, [...tried]);
  context.signal.throwIfAborted();
  return { loaded: remote.loaded, remote };
}

function leftBy(group: LocalBackend[] | RemoteBackend, { code, message, tried }: EngineError): LeftBackend[] {
  if (!Array.isArray(group)) return [{ kind: "remote", target: null, code, reason: message }];
  if (tried.length > 0) return [...tried];
  // The bundle or the network is to blame, whatever the backend.
  return group.map((kind) => ({ kind, target: null, code, reason: message }));
}

function combined(last: EngineError | null, tried: LeftBackend[]): EngineError {
  if (!last) throw new TypeError("there is no backend to try");
  const data = { ...last.toData(), tried };
  const reasons = new Set(tried.map(({ reason }) => reason));
  const isOwn = reasons.size === 1 || !tried.some(({ kind }) => kind === "remote");
  if (isOwn) return new EngineError(data, { cause: last.cause });
  return new EngineError({ ...data, message: `No backend can be used. ${[...reasons].join(" ")}` });
}
