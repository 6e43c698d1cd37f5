/** Fields of an untrusted request: what each must be, and errors that name it. */
import { EngineError } from "../shared/errors.ts";

const MOST_SHOWN = 60;

export type Params = Record<string, unknown>;

export interface Bounds {
  low: number;
  high: number;
  whole?: boolean;
}

/** The error for a field, whose name may be anything. */
export function invalid(param: string, message: string, remedy: string): EngineError {
  const named = param.slice(0, 2 * MOST_SHOWN);
  return new EngineError({ code: "invalid_request", message: `${message}.`, remedy, param: named });
}

/** A JSON object. */
export function object(value: unknown, name: string): Params {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Params;
  throw invalid(name, `${name} must be an object`, "See OpenAI's chat completions API.");
}

export function number(given: Params, name: string, bounds: Bounds): number | null {
  const { low, high, whole = false } = bounds;
  const value = given[name];
  if (value === undefined || value === null) return null;
  const fits = typeof value === "number" && value >= low && value <= high;
  if (fits && (!whole || Number.isInteger(value))) return value;
  const kind = whole ? "a whole number" : "a number";
  throw invalid(name, `${name} is ${show(value)}`, `Use ${kind} from ${low} to ${high}.`);
}

export function flag(given: Params, name: string): boolean | null {
  const value = given[name];
  if (value === undefined || value === null) return null;
  if (typeof value === "boolean") return value;
  throw invalid(name, `${name} is ${show(value)}`, "Use true or false.");
}

/** Text of whole characters. */
export function text(value: unknown, at: string): string {
  if (typeof value !== "string") throw invalid(at, `${at} must be text`, "Give a string.");
  const half = value.search(/\p{Surrogate}/u);
  if (half < 0) return value;
  const message = `${at} has half of a surrogate pair at position ${half}`;
  throw invalid(at, message, "Give whole characters.");
}

/**
 * Throws EngineError for a field that would change the answer if it were supported: one that is
 * neither known, nor null, nor has a neutral value.
 */
export function refuseUnknown(
  given: Params,
  known: ReadonlySet<string>,
  neutral: Readonly<Record<string, readonly unknown[]>>,
  at = "",
): void {
  for (const [name, value] of Object.entries(given)) {
    if (known.has(name) || value === undefined || value === null) continue;
    const values = Object.hasOwn(neutral, name) ? (neutral[name] ?? []) : [];
    if (values.some((other) => isSame(value, other))) continue;
    const shown = `${at}${name}`.slice(0, 2 * MOST_SHOWN);
    throw invalid(shown, `${shown} is not supported`, "Leave it out.");
  }
}

/** A value in an error message: short, and whatever it is. */
export function show(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (typeof value === "object" && value !== null) return "an object";
  if (typeof value !== "string") return String(value);
  const short = value.length > MOST_SHOWN ? `${value.slice(0, MOST_SHOWN - 3)}...` : value;
  return JSON.stringify(short);
}

/** Compares with a value that isn't deep. */
function isSame(value: unknown, other: unknown): boolean {
  if (typeof other !== "object" || other === null) return value === other;
  if (typeof value !== "object" || value === null) return false;
  const names = Object.keys(other);
  return (
    Array.isArray(value) === Array.isArray(other) &&
    Object.keys(value).length === names.length &&
    names.every((name) => isSame((value as Params)[name], (other as Params)[name]))
  );
}
