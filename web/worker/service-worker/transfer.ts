/** Downloads over connections that break: continues where the last one ended. */
import type { Bytes } from "./hash.ts";
import type { Limits } from "./policy.ts";

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
    readonly response: Response,
    url: string,
  ) {
    super(`${url} answered ${response.status}`);
  }
}

/** One file on its way, over as many connections as it takes. */
export class Transfer {
  /** Where `body` begins: the offset asked for, or 0 when the server starts over. */
  readonly offset: number;
  /** Size of the whole file, null when the server doesn't say. */
  readonly bytes: number | null;
  readonly etag: string | null;
  readonly contentType: string;
  /** The server compressed it, so it is small, and offsets aren't the server's. */
  readonly encoded: boolean;
  readonly #request: Request;
  readonly #limits: Limits;
  readonly #abort: AbortController;
  #response: Response;

  private constructor(
    request: Request,
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
    this.encoded = response.headers.has("content-encoding");
    this.bytes = this.encoded ? null : totalBytes(response, offset);
    this.etag = strongEtag(response);
    this.contentType = response.headers.get("content-type") ?? "application/octet-stream";
  }

  /** Raises RefusedError for an error status, TypeError when the network gives no file. */
  static async open(request: Request, start: TransferStart, limits: Limits): Promise<Transfer> {
    const abort = new AbortController();
    request.signal.addEventListener("abort", () => abort.abort(), { once: true });
    let { offset } = start;
    let response = await ask(request, start, limits, abort.signal);
    if (response.status === 416 || rangeStart(response, offset) !== offset) {
      await response.body?.cancel();
      offset = 0;
      response = await ask(request, { ...start, offset }, limits, abort.signal);
    }
    if (response.status === 200) offset = 0;
    else if (response.status !== 206 || offset === 0) throw await refusal(response);
    return new Transfer(request, response, offset, limits, abort);
  }

  /** Ends the transfer, also while the network keeps it waiting: `body` throws. */
  abort(): void {
    this.#abort.abort();
  }

  /** The file's bytes from `offset` to its end. */
  async *body(): AsyncGenerator<Bytes, void> {
    let position = this.offset;
    let failures = 0;
    try {
      for (;;) {
        try {
          for await (const chunk of read(this.#response, this.#limits.silenceMs)) {
            failures = 0;
            position += chunk.length;
            yield chunk;
          }
          if (this.bytes === null || position >= this.bytes) return;
        } catch (error) {
          if (this.#abort.signal.aborted) throw error;
        }
        await this.#reconnect(position, failures);
        failures += 1;
      }
    } finally {
      this.#abort.abort();
    }
  }

  async #reconnect(position: number, failures: number): Promise<void> {
    for (let attempt = failures; ; attempt += 1) {
      if (attempt >= this.#limits.resumeAttempts) {
        throw new TypeError(`The download of ${this.#request.url} broke off at byte ${position}.`);
      }
      await new Promise((resolve) => setTimeout(resolve, this.#limits.resumeDelayMs(attempt)));
      try {
        this.#response = await this.#continue(position);
        return;
      } catch (error) {
        // A proxy says 5xx while its server starts again.
        const refused = error instanceof RefusedError && error.response.status < 500;
        if (refused || this.#abort.signal.aborted) throw error;
      }
    }
  }

  async #continue(position: number): Promise<Response> {
    const start: TransferStart = { offset: position, etag: this.etag };
    const response = await ask(this.#request, start, this.#limits, this.#abort.signal);
    if (response.status === 206 && rangeStart(response, position) === position) return response;
    // The bytes before `position` went out already; the hash tells if these are of another file.
    if (response.status === 200) return new Response(skip(response, position));
    throw await refusal(response);
  }
}

/** Its response can be read after the transfer has ended. */
async function refusal(response: Response): Promise<Error> {
  const { url, status } = response;
  if (response.ok) return new TypeError(`${url} answered ${status}, not what was asked for.`);
  return new RefusedError(new Response(await response.arrayBuffer(), response), url);
}

function ask(
  request: Request,
  start: TransferStart,
  { silenceMs }: Limits,
  signal: AbortSignal,
): Promise<Response> {
  const headers = new Headers();
  if (start.offset > 0) {
    headers.set("range", `bytes=${start.offset}-`);
    // Across origins it would cost a preflight that many servers refuse; the hash decides there.
    if (start.etag !== null && isSameOrigin(request.url)) headers.set("if-range", start.etag);
  }
  const { credentials, url } = request;
  // Past the browser's own cache; it makes those on the way look again, too.
  const answer = fetch(url, { headers, signal, credentials, cache: "no-store" });
  return within(silenceMs, answer);
}

async function* read(response: Response, silenceMs: number): AsyncGenerator<Bytes, void> {
  const reader = response.body?.getReader();
  if (!reader) return;
  try {
    for (;;) {
      const { done, value } = await within(silenceMs, reader.read());
      if (done) return;
      yield value;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** What the network says within so long; TypeError, as for any network that fails, if nothing. */
async function within<T>(silenceMs: number, said: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TypeError("The network says nothing.")), silenceMs);
  });
  try {
    return await Promise.race([said, silence]);
  } finally {
    clearTimeout(timer);
  }
}

function skip(response: Response, bytes: number): ReadableStream<Bytes> | null {
  let left = bytes;
  const dropHead = new TransformStream<Bytes, Bytes>({
    transform(chunk, controller) {
      const dropped = Math.min(left, chunk.length);
      left -= dropped;
      if (dropped < chunk.length) controller.enqueue(chunk.subarray(dropped));
    },
  });
  return response.body?.pipeThrough(dropHead) ?? null;
}

function totalBytes(response: Response, offset: number): number | null {
  const total = /\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
  if (total !== undefined) return Number(total);
  const length = response.headers.get("content-length");
  return length === null ? null : offset + Number(length);
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

function isSameOrigin(url: string): boolean {
  return new URL(url).origin === self.location.origin;
}
