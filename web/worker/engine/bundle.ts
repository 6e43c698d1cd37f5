/** A bundle on a server: its lock, and its files, verified. */
import { EngineError } from "../shared/errors.ts";
import { parseLock, type Lock, type LockedFile } from "../shared/lock.ts";
import { failedAllocation } from "./device.ts";
import type { Progress } from "./progress.ts";

export const ABI_VERSION = 3;
const ATTEMPTS = 4;
const retryDelayMs = (attempt: number): number => 250 * 2 ** attempt;

export class Bundle {
  readonly lock: Lock;
  readonly #url: URL;

  /** Reads the lock. Throws EngineError: network_error, bundle_invalid, abi_mismatch. */
  static async open(url: string, signal: AbortSignal): Promise<Bundle> {
    const base = new URL(url.endsWith("/") ? url : `${url}/`);
    const lockUrl = new URL("mlc-lock.json", base);
    const response = await request(lockUrl, { signal, cache: "no-cache" });
    const value: unknown = await response.json().catch(() => null);
    const lock = parseLock(value);
    if (lock.abiVersion !== ABI_VERSION) throw abiMismatch(lock.abiVersion);
    return new Bundle(lock, base);
  }

  private constructor(lock: Lock, url: URL) {
    this.lock = lock;
    this.#url = url;
  }

  /** The lock's entry. Throws EngineError "bundle_invalid" if there is none. */
  entry(path: string): LockedFile {
    const file = this.lock.files.get(path);
    if (file) return file;
    throw new EngineError({
      code: "bundle_invalid",
      message: `The bundle ${this.lock.model.id} has no ${path}.`,
      remedy: "Build it again with `mlc-edge build`.",
    });
  }

  /** Bytes of a file that match the lock's hash. Errors of the network are tried again. */
  async read(path: string, progress: Progress, signal: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    const file = this.entry(path);
    const url = new URL(path, this.#url);
    url.searchParams.set("sha256", file.sha256);
    let anew = false;
    for (let attempt = 1; ; attempt++) {
      try {
        return await readOnce(url, file, { progress, signal, anew });
      } catch (error) {
        signal.throwIfAborted();
        const code = error instanceof EngineError ? error.code : "internal";
        const again = code === "network_error" || (code === "integrity_error" && !anew);
        if (!again || attempt === ATTEMPTS) throw error;
        anew = code === "integrity_error";
        await delay(retryDelayMs(attempt), signal);
      }
    }
  }

  /** A JSON file; T is trusted to be what this bundle's builder writes. */
  async readJson<T>(path: string, progress: Progress, signal: AbortSignal): Promise<T> {
    return JSON.parse(new TextDecoder().decode(await this.read(path, progress, signal))) as T;
  }
}

export function abiMismatch(version: unknown): EngineError {
  return new EngineError({
    code: "abi_mismatch",
    message: `The model was built for ABI version ${version}, this engine runs ${ABI_VERSION}.`,
    remedy: "Build model and page with one version of mlc-edge, then reload the page.",
  });
}

interface ReadOptions {
  progress: Progress;
  signal: AbortSignal;
  /** Past all caches, which gave wrong bytes. */
  anew: boolean;
}

async function readOnce(
  url: URL,
  file: LockedFile,
  { progress, signal, anew }: ReadOptions,
): Promise<Uint8Array<ArrayBuffer>> {
  const response = await request(url, { signal, ...(anew && { cache: "reload" as const }) });
  const bytes = allocate(file.bytes);
  let length = 0;
  try {
    for await (const part of response.body ?? []) {
      if (length + part.length > bytes.length) throw integrityError(file);
      bytes.set(part, length);
      length += part.length;
      progress.loaded(part.length);
    }
    const verified = response.headers.get("x-mlc-edge-verified") === "sha256";
    if (length < bytes.length) throw integrityError(file);
    if (!verified && (await sha256(bytes)) !== file.sha256) throw integrityError(file);
    return bytes;
  } catch (error) {
    progress.loaded(-length);
    if (error instanceof TypeError) throw networkError(url, "the transfer broke off", error);
    throw error;
  }
}

function allocate(bytes: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(bytes);
  } catch (error) {
    throw failedAllocation(error);
  }
}

async function request(url: URL, init: RequestInit & { signal: AbortSignal }): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(url, init);
  } catch (error) {
    init.signal.throwIfAborted();
    throw networkError(url, "no answer", error);
  }
  if (response.ok) return response;
  await response.body?.cancel();
  if (response.headers.get("x-mlc-edge-error") === "integrity_error") {
    throw integrityError({ path: url.pathname });
  }
  throw networkError(url, `status ${response.status}`);
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function integrityError({ path }: { path: string }): EngineError {
  return new EngineError({
    code: "integrity_error",
    message: `${path} arrived with other content than the bundle's lock says.`,
    remedy: "Try again; if it stays so, the server's copy is damaged and must be replaced.",
  });
}

function networkError(url: URL, what: string, cause?: unknown): EngineError {
  return new EngineError(
    {
      code: "network_error",
      message: `Could not load ${url.pathname}: ${what}.`,
      remedy: "Check the connection and try again; what has arrived is kept.",
    },
    { cause },
  );
}

function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
