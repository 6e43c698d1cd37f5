/** The engine's errors under the names that the Prompt API gives them. */
import { EngineError } from "../shared/errors.ts";
import type { ErrorCode } from "../shared/protocol.ts";

const NAMES: Partial<Record<ErrorCode, string>> = {
  consent_declined: "NotAllowedError",
  unauthorized: "NotAllowedError",
  network_error: "NetworkError",
  webgpu_unavailable: "NotSupportedError",
  adapter_unsuitable: "NotSupportedError",
  self_test_failed: "NotSupportedError",
};

export function notSupported(message: string): DOMException {
  return new DOMException(message, "NotSupportedError");
}

/** While a session is created. */
export function creationError(error: unknown): unknown {
  return named(error, "OperationError");
}

/** While it answers. */
export function promptError(error: unknown): unknown {
  return named(error, "UnknownError");
}

/** Both in tokens. A subclass of DOMException in newer browsers, elsewhere one with the same fields. */
export function quotaExceeded(requested: number, quota: number): Error {
  const message = `The prompt has ${requested} tokens, and the context window ${quota}.`;
  const { QuotaExceededError: Known } = globalThis as {
    QuotaExceededError?: new (message: string, options: { requested: number; quota: number }) => DOMException;
  };
  if (Known) return new Known(message, { requested, quota });
  return Object.assign(new DOMException(message, "QuotaExceededError"), { requested, quota });
}

function named(error: unknown, otherwise: string): unknown {
  if (!(error instanceof EngineError)) return error;
  const exception = new DOMException(`${error.message} ${error.remedy}`, NAMES[error.code] ?? otherwise);
  return Object.assign(exception, { cause: error });
}
