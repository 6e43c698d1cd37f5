/** What `createEngine` takes, checked before anything starts. */
import { LOCAL_BACKENDS } from "../shared/backends.ts";
import { EngineError } from "../shared/errors.ts";
import type { ContextPolicy, LoadOptions, LoadProgress } from "../shared/protocol.ts";
import { isAddress, isFolder, isText, resolved } from "./address.ts";
import type { BackendOption, BackendsOption } from "./backends.ts";
import type { RemoteBackend } from "./remote.ts";

export interface EngineOptions extends Omit<LoadOptions, "replace">, BackendsOption {
  /** Id of a model of the site, or a bundle's address on any origin, which has a slash, or a list; default: the first. */
  model?: string | URL | (string | URL)[];
  /** The folder that `mlc-edge site` wrote; default: the one that this script lies in, if it does. */
  baseURL?: string | URL;
  /** The engine's script; default: the one beside this one, which Vite and webpack find, too. */
  workerURL?: string | URL;
  /** Whether all tabs of this origin that take the same script share one engine; default: true. */
  shared?: boolean;
  /** Bytes of the device's memory that models may take; one that was not used for long makes room for others. */
  memoryBudget?: number;
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

interface Rule {
  fits(value: unknown): boolean;
  remedy: string;
}

const POLICIES: Record<ContextPolicy, true> = { error: true, "truncate-oldest": true };
const REMEDY = "Give an address, as text or as a URL.";
const RULES: Record<keyof EngineOptions, Rule> = {
  model: {
    fits: (value) => (Array.isArray(value) ? value.length > 0 && value.every(isModel) : isModel(value)),
    remedy: "Give the id of a model of the site, or the address of a bundle, or a list of them.",
  },
  baseURL: { fits: isFolder, remedy: REMEDY },
  workerURL: { fits: isAddress, remedy: REMEDY },
  shared: { fits: (value) => typeof value === "boolean", remedy: "Use true or false." },
  memoryBudget: { fits: (value) => Number.isFinite(value) && (value as number) > 0, remedy: "Give bytes, above 0." },
  signal: { fits: (value) => value instanceof AbortSignal, remedy: "Give an AbortSignal." },
  onProgress: { fits: (value) => typeof value === "function", remedy: "Give a function." },
  contextPolicy: {
    fits: (value) => typeof value === "string" && Object.hasOwn(POLICIES, value),
    remedy: `Use one of ${Object.keys(POLICIES).join(", ")}.`,
  },
  deterministic: { fits: (value) => typeof value === "boolean", remedy: "Use true or false." },
  target: {
    fits: isText,
    remedy: "Give the name of a target of the bundle.",
  },
  backends: {
    fits: areBackends,
    remedy: `Give a list of ${LOCAL_BACKENDS.join(", ")} and { remote, consent }, each once.`,
  },
};
const REMOTE: Record<keyof RemoteBackend, (value: unknown) => boolean> = {
  remote: (value) => isFolder(value) && /^https?:/.test(resolved(value as string | URL).protocol),
  consent: (value) => value === true || typeof value === "function",
  model: (value) => value === undefined || isText(value),
  apiKey: (value) => value === undefined || (isText(value) && /^[\x21-\x7e]+$/.test(value)),
  silenceMs: (value) => value === undefined || (typeof value === "number" && value > 0),
};

/** Throws EngineError "invalid_request" with the option's name in `param`. */
export function checkOptions(given: EngineOptions): void {
  if (typeof given !== "object" || given === null) {
    throw invalid("options", "The options are no object", "Leave them out, or give { model }.");
  }
  const values = given as Record<string, unknown>;
  for (const name of Object.keys(values)) {
    if (values[name] === undefined || Object.hasOwn(RULES, name)) continue;
    throw invalid(name, `There is no option ${name}`, `There are ${Object.keys(RULES).join(", ")}.`);
  }
  for (const [name, { fits, remedy }] of Object.entries(RULES)) {
    if (values[name] === undefined || fits(values[name])) continue;
    throw invalid(name, `${name} can't be ${shown(values[name])}`, remedy);
  }
}

export function invalid(param: string, message: string, remedy: string): EngineError {
  return new EngineError({ code: "invalid_request", message: `${message}.`, remedy, param });
}

function isModel(value: unknown): boolean {
  return isFolder(value) || (isText(value) && !value.includes("/"));
}

function areBackends(value: unknown): boolean {
  if (!Array.isArray(value) || value.length === 0) return false;
  const options = value as (BackendOption | null | undefined)[];
  return options.every(isBackend) && new Set(options).size === options.length;
}

function isBackend(value: unknown): boolean {
  if (typeof value !== "object" || value === null) return (LOCAL_BACKENDS as unknown[]).includes(value);
  const given = value as Record<string, unknown>;
  if (Object.keys(given).some((name) => !Object.hasOwn(REMOTE, name))) return false;
  return Object.entries(REMOTE).every(([name, fits]) => fits(given[name]));
}

function shown(value: unknown): string {
  return typeof value === "string" ? JSON.stringify(value.slice(0, 60)) : `of type ${typeOf(value)}`;
}

function typeOf(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "array" : typeof value;
}
