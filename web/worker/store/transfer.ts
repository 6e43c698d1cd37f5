/** Downloads over connections that break: continues where the last one ended. */
import type { Bytes } from "../shared/hash.ts";
import type { Limits } from "./limits.ts";
import { within } from "./patience.ts";

export interface TransferRequest {
  url: URL;
  /** Size of the whole file. */
  bytes: number;
  signal: AbortSignal;
}

export interface TransferStart {
  /** Bytes that the caller has already; 0 for a new download. */
  offset: number;
  /** Validator of those bytes. */
  etag: string | null;
}

/** The server answered, and the answer isn't the file. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";

  constructor(
    readonly status: number,
    url: string,
  ) {
    super(`${url} answered ${status}`);
  }
}

/** One file on its way, over as many connections as it takes. */
export class Transfer {
  /** Where `body` begins: the offset asked for, or 0 when the server starts over. */
  readonly offset: number;
  readonly etag: string | null;
  readonly #request: TransferRequest;
  readonly #limits: Limits;
  readonly #abort: AbortController;
  #response: Response;
  /** Bytes to leave out, of an answer that begins at the file's start again. */
  #skip = 0;

  private constructor(
    request: TransferRequest,
    response: Response,
    offset: number,
    limits: Limits,
    abort: AbortController,
  ) {
    this.#request = request;
    this.#response = response;
    this.#limits = limits;
    this.#abort = abort;
    this.offset = offset;
    this.etag = strongEtag(response);
  }

  /** Throws RefusedError for an error status, TypeError when the network gives no file. */
  static async open(
    request: TransferRequest,
    start: TransferStart,
    limits: Limits,
  ): Promise<Transfer> {
    const abort = new AbortController();
    const { signal } = request;
    signal.throwIfAborted();
    signal.addEventListener("abort", () => abort.abort(signal.reason), { once: true, signal: abort.signal });
    try {
      let { offset } = start;
      let response = await ask(request, start, limits, abort.signal);
      if (response.status === 416 || rangeStart(response, offset) !== offset) {
        await response.body?.cancel();
        offset = 0;
        response = await ask(request, { ...start, offset }, limits, abort.signal);
      }
      if (response.status === 200 && !isPage(response)) offset = 0;
      else if (response.status !== 206 || offset === 0) throw await refusal(response);
      return new Transfer(request, response, offset, limits, abort);
    } catch (error) {
      abort.abort();
      throw error;
    }
  }

  /** Ends the connection. */
  abort(): void {
    this.#abort.abort();
  }

  /** The file's bytes from `offset` to its end. Throws the signal's reason if that was given. */
  async *body(): AsyncGenerator<Bytes, void> {
    let position = this.offset;
    let failures = 0;
    try {
      for (;;) {
        try {
          for await (const chunk of read(this.#response, this.#skip, this.#limits.silenceMs)) {
            failures = 0;
            position += chunk.length;
            yield chunk;
          }
          if (position >= this.#request.bytes) return;
        } catch (error) {
          this.#request.signal.throwIfAborted();
        }
        await this.#reconnect(position, failures);
        failures += 1;
      }
    } finally {
      this.#abort.abort();
    }
  }

  async #reconnect(position: number, failures: number): Promise<void> {
    const { signal, url } = this.#request;
    for (let attempt = failures; ; attempt += 1) {
      if (attempt >= this.#limits.resumeAttempts) {
        throw new TypeError(`The download of ${url} broke off at byte ${position}.`);
      }
      await new Promise((resolve) => setTimeout(resolve, this.#limits.resumeDelayMs(attempt)));
      signal.throwIfAborted();
      try {
        await this.#continue(position);
        return;
      } catch (error) {
        signal.throwIfAborted();
        // A proxy says 5xx while its server starts again.
        if (error instanceof RefusedError && error.status < 500) throw error;
      }
    }
  }

  async #continue(position: number): Promise<void> {
    const start: TransferStart = { offset: position, etag: this.etag };
    const response = await ask(this.#request, start, this.#limits, this.#abort.signal);
    const continues = response.status === 206 && rangeStart(response, position) === position;
    // The bytes before `position` went out already; the hash tells if these are of another file.
    if (!continues && (response.status !== 200 || isPage(response))) throw await refusal(response);
    this.#response = response;
    this.#skip = continues ? 0 : position;
  }
}

/** What a portal on the way says to everything: no bundle has such a file. */
function isPage(response: Response): boolean {
  return /^text\/html\b/i.test(response.headers.get("content-type") ?? "");
}

async function refusal(response: Response): Promise<Error> {
  const { url, status } = response;
  await response.body?.cancel();
  if (response.ok) return new TypeError(`${url} answered ${status}, not what was asked for.`);
  return new RefusedError(status, url);
}

function ask(
  { url }: TransferRequest,
  start: TransferStart,
  { silenceMs }: Limits,
  signal: AbortSignal,
): Promise<Response> {
  const headers = new Headers();
  if (start.offset > 0) {
    headers.set("range", `bytes=${start.offset}-`);
    // Across origins it would cost a preflight that many servers refuse; the hash decides there.
    if (start.etag !== null && url.origin === self.location.origin) {
      headers.set("if-range", start.etag);
    }
  }
  // Past the browser's own cache; it makes those on the way look again, too.
  return within(silenceMs, fetch(url, { headers, signal, cache: "no-store" }));
}

/** A response's chunks. Safari's streams are no async iterables. */
async function* read(
  response: Response,
  skip: number,
  silenceMs: number,
): AsyncGenerator<Bytes, void> {
  const reader = response.body?.getReader();
  if (!reader) return;
  let left = skip;
  try {
    for (;;) {
      const { done, value } = await within(silenceMs, reader.read());
      if (done) return;
      const dropped = Math.min(left, value.length);
      left -= dropped;
      if (dropped < value.length) yield value.subarray(dropped);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

function rangeStart(response: Response, asked: number): number {
  // Other origins may hide this header; then the answer is taken to be what was asked for.
  const start = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1];
  return start === undefined ? asked : Number(start);
}

function strongEtag(response: Response): string | null {
  const etag = response.headers.get("etag");
  return etag?.startsWith('"') ? etag : null;
}
