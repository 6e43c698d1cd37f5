/** What is told of bundles whose files can't be used. */
import { EngineError } from "../shared/errors.ts";

/** What `read` makes of files. Throws EngineError "bundle_invalid" with whatever it throws. */
export function understood<T>(path: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof EngineError) throw error;
    throw unusable(`${path}: ${error instanceof Error ? error.message : String(error)}`, error);
  }
}

export function unusable(problem: string, cause?: unknown): EngineError {
  return new EngineError(
    {
      code: "bundle_invalid",
      message: `The bundle can't be used: ${problem}.`,
      remedy: "Build it again with `mlc-edge build`.",
    },
    { cause },
  );
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
