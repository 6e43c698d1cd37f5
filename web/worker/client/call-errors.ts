/** What goes wrong with a call on the page's side, before the engine sees it or in its place. */
import { EngineError } from "../shared/errors.ts";

export function aborted(): DOMException {
  return new DOMException("The call was aborted.", "AbortError");
}

export function disposed(): EngineError {
  return new EngineError({
    code: "model_not_loaded",
    message: "The engine was disposed.",
    remedy: "Create a new engine.",
  });
}

export function stateless(): EngineError {
  return new EngineError({
    code: "invalid_request",
    message: "States are saved for models of this device, and a server answers for this one.",
    remedy: "Look at `backend.kind` first, or go on without: its chats need none.",
    param: "model",
  });
}

export function noObject(): EngineError {
  const message = "The request is no object.";
  return new EngineError({ code: "invalid_request", message, remedy: "Give an object with messages." });
}
