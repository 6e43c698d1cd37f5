/** Feeds what the KV cache lacks of a text and returns the logits; keeps other texts for later. */
import { isAbort } from "../shared/errors.ts";
import type { Bytes } from "../shared/hash.ts";
import type { Drawn, DrawRequest } from "./drawing.ts";
import { KvCache } from "./kv-cache.ts";
import type { ModelRunner } from "./model-runner.ts";

/** A chunk of a prompt may take so long: between chunks the page paints and answers can be aborted. */
const CHUNK_MS = 100;
const FIRST_CHUNK = 32;
const SMALLEST_CHUNK = 8;

/** A prompt and what was drawn after it so far. */
export interface Text {
  readonly tokens: readonly number[];
  readonly promptLength: number;
  /** The same bits whatever was computed before. */
  readonly deterministic: boolean;
}

/** A text that goes on. */
export interface OpenText extends Text {
  /** How a device draws the next token. */
  readonly drawing: DrawRequest;
}

export interface Step<T = Float32Array> {
  /** float32[vocabulary] after the last token, or what was drawn by them. */
  readonly logits: T;
  /** Tokens that the KV cache held already. */
  readonly cached: number;
}

/** Keys and values of a sequence. */
export interface ComputedState {
  /** So many of the first tokens were computed in whole chunks of the grid. */
  readonly onGrid: number;
  readonly layers: AsyncIterable<Bytes>;
}

type Forward<T> = (chunk: readonly number[], sequence: number) => Promise<T>;

export class Sequence {
  readonly #runner: ModelRunner;
  readonly #cache: KvCache;
  readonly #largestChunk: number;
  #chunk: number;

  constructor(runner: ModelRunner) {
    this.#runner = runner;
    this.#largestChunk = runner.metadata.prefill_chunk_size;
    this.#cache = new KvCache(runner.sequences, this.#largestChunk);
    this.#chunk = Math.min(FIRST_CHUNK, this.#largestChunk);
  }

  /** Brings the KV cache to hold the text, which may share a prefix with what it holds already. */
  logitsAfter(text: Text, signal: AbortSignal): Promise<Step> {
    return this.#after(text, signal, (chunk, sequence) => this.#runner.forward(chunk, sequence));
  }

  /** The same where the device draws the next token, if the library can. */
  drawAfter(text: OpenText, signal: AbortSignal): Promise<Step<Float32Array | Drawn>> {
    if (!this.#runner.draws) return this.logitsAfter(text, signal);
    return this.#after(text, signal, (chunk, sequence) => this.#runner.draw(chunk, sequence, text.drawing));
  }

  #after<T>(text: Text, signal: AbortSignal, last: Forward<T>): Promise<Step<T>> {
    return this.#explained(async () => {
      const { tokens, deterministic } = text;
      const cached = this.#cache.begin(tokens, { onGrid: deterministic, owner: text });
      for (;;) {
        signal.throwIfAborted();
        const chunk = tokens.slice(this.#cache.length, this.#chunkEnd(text));
        if (this.#cache.length + chunk.length === tokens.length) {
          return { logits: await this.#forward(chunk, last), cached };
        }
        await this.#forward(chunk, (some, sequence) => this.#runner.forward(some, sequence));
      }
    });
  }

  /** Forgets all texts. */
  clear(): void {
    this.#cache.clear();
  }

  /** Computes the tokens so that every text can take them over; gives what is on the device then. */
  async compute(tokens: readonly number[], signal: AbortSignal): Promise<ComputedState> {
    await this.logitsAfter({ tokens, promptLength: tokens.length, deterministic: true }, signal);
    return { onGrid: this.#cache.onGrid, layers: this.#runner.readState(this.#cache.sequence) };
  }

  /** Whether the tokens are computed, as many on the grid as that. */
  holds(tokens: readonly number[], onGrid: number): boolean {
    return this.#cache.holds(tokens, onGrid);
  }

  /** Takes over what `compute` gave for the tokens; nothing of it if `layers` throws. */
  adopt(tokens: readonly number[], { onGrid, layers }: ComputedState): Promise<void> {
    return this.#explained(async () => {
      this.#cache.adopt(tokens, onGrid);
      try {
        await this.#runner.writeState(this.#cache.sequence, layers);
      } catch (error) {
        this.#cache.drop();
        throw error;
      }
    });
  }

  /** A lost device shows wherever TVM is called next, in the bookkeeping of the KV cache, too. */
  async #explained<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw isAbort(error) ? error : await this.#runner.gpu.explain(error);
    }
  }

  async #forward<T>(chunk: readonly number[], forward: Forward<T>): Promise<T> {
    this.#cache.makeRoom(chunk.length);
    try {
      const start = performance.now();
      const result = await forward(chunk, this.#cache.sequence);
      if (chunk.length > 1) this.#adapt((performance.now() - start) / chunk.length);
      this.#cache.append(chunk);
      return result;
    } catch (error) {
      this.#cache.drop();
      throw error;
    }
  }

  #chunkEnd({ promptLength, deterministic }: Text): number {
    const { length: start, grid } = this.#cache;
    if (!deterministic) return start + this.#chunk;
    if (start >= promptLength) return start + 1;
    return Math.min(start - (start % grid) + grid, promptLength);
  }

  /** Sizes are powers of two, so that the device's allocator meets few of them. */
  #adapt(msPerToken: number): void {
    const fitting = 2 ** Math.floor(Math.log2(CHUNK_MS / Math.max(msPerToken, 0.001)));
    const next = Math.min(fitting, 4 * this.#chunk, this.#largestChunk);
    this.#chunk = Math.max(next, Math.min(SMALLEST_CHUNK, this.#largestChunk));
  }
}
