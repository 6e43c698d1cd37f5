/** What people are told of downloads and of storage. */
import { EngineError } from "../shared/errors.ts";
import { IntegrityError } from "../shared/hash.ts";
import { RefusedError } from "./transfer.ts";

/** Why a file couldn't be had, as EngineError: integrity_error, network_error; other errors as they are. */
export function fileError(url: URL, error: unknown): unknown {
  if (error instanceof IntegrityError) return damaged(url, error);
  if (error instanceof RefusedError) return networkError(url, `status ${error.status}`, error);
  if (error instanceof TypeError) return networkError(url, "the transfer broke off", error);
  return error;
}

export function networkError({ pathname }: URL, what: string, cause?: unknown): EngineError {
  return new EngineError(
    {
      code: "network_error",
      message: `Could not load ${pathname}: ${what}.`,
      remedy: "Check the connection and try again; what has arrived is kept.",
    },
    { cause },
  );
}

export function noRoom(id: string): EngineError {
  return new EngineError({
    code: "quota_exceeded",
    message: `The browser has no room for the new version of ${id} beside the old one.`,
    remedy: "Delete other models or free disk space, then try again.",
  });
}

export function notStored(url: string): EngineError {
  return new EngineError({
    code: "invalid_request",
    message: `${url} is not stored.`,
    remedy: "List what is stored, and delete one of these.",
  });
}

function damaged({ pathname }: URL, cause: IntegrityError): EngineError {
  return new EngineError(
    {
      code: "integrity_error",
      message: `${pathname} arrived with other content than the bundle's lock says.`,
      remedy: "Try again; if it stays so, the server's copy is damaged and must be replaced.",
    },
    { cause },
  );
}
