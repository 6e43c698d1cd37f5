/** The engine's errors, the same on both sides of the worker's border. */
import type { ErrorCode, ErrorData, LeftBackend } from "./protocol.ts";

/** Anything that goes wrong in the engine: `code` says what, `remedy` what to do about it. */
export class EngineError extends Error {
  override readonly name = "EngineError";
  readonly code: ErrorCode;
  readonly remedy: string;
  /** Name of the offending request parameter, if one is to blame. */
  readonly param: string | undefined;
  /** Backends that were left, if that is what went wrong. */
  readonly tried: readonly LeftBackend[];

  constructor({ code, message, remedy, param, tried = [] }: ErrorData, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.remedy = remedy;
    this.param = param;
    this.tried = tried;
  }

  /** The error as data that can be posted. */
  toData(): ErrorData {
    const { code, message, remedy, param, tried } = this;
    return {
      code,
      message,
      remedy,
      ...(param !== undefined && { param }),
      ...(tried.length > 0 && { tried: [...tried] }),
    };
  }
}

/** Whatever was thrown, as an EngineError; unknown things become code "internal". */
export function asEngineError(thrown: unknown): EngineError {
  if (thrown instanceof EngineError) return thrown;
  const message =
    thrown instanceof Error
      ? thrown.message
      : typeof thrown === "string"
        ? thrown
        : "The model library stopped; the console says why.";
  return new EngineError(
    { code: "internal", message, remedy: "Load the model again; if that fails, reload the page." },
    { cause: thrown },
  );
}

export function isAbort(thrown: unknown): boolean {
  return thrown instanceof DOMException && thrown.name === "AbortError";
}
