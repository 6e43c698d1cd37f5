/** Errors as people see them. */
import type { Problem } from "./types.ts";

/** Any thrown value: the engine's typed errors keep their code and remedy. */
export function problemOf(error: unknown): Problem {
  if (typeof error !== "object" || error === null) {
    return { code: "internal", message: String(error), remedy: "Reload the page." };
  }
  const { code, message, remedy } = error as Record<string, unknown>;
  return {
    code: typeof code === "string" ? code : "internal",
    message: typeof message === "string" && message ? message : "Something went wrong.",
    remedy: typeof remedy === "string" && remedy ? remedy : "Reload the page and try again.",
  };
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** After these the model must be loaded again before it answers. */
export function losesModel(code: string): boolean {
  return ["device_lost", "model_not_loaded", "out_of_memory", "unauthorized"].includes(code);
}
