/** Requests on their way to whoever answers them. */
import { EngineError } from "./errors.ts";

/** What a page's stack can post may be more than a worker's can take, which then sees no request at all. */
const MAX_LEVELS = 100;
const REMEDY = "Give what JSON can have, with few levels.";

/** Throws EngineError "invalid_request" for what has more levels than any worker can be relied on to take. */
export function checkLevels(request: object): void {
  let level = new Set<object>([request]);
  for (let count = 0; count < MAX_LEVELS; count++) {
    level = new Set([...level].flatMap((value) => Object.values(value).filter(isObject)));
    if (level.size === 0) return;
  }
  const message = `The request has more than ${MAX_LEVELS} levels of lists and objects.`;
  throw new EngineError({ code: "invalid_request", message, remedy: REMEDY });
}

/**
 * What `send` gives, which writes or posts a request. Throws EngineError "invalid_request" for what can't be
 * written or posted, such as functions, and in JSON BigInts.
 */
export function sent<T>(send: () => T): T {
  try {
    return send();
  } catch (cause) {
    const isUncloneable = cause instanceof DOMException && cause.name === "DataCloneError";
    if (!isUncloneable && !(cause instanceof RangeError) && !(cause instanceof TypeError)) throw cause;
    const message = `The request can't be sent: ${cause.message}`;
    throw new EngineError({ code: "invalid_request", message, remedy: REMEDY }, { cause });
  }
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
