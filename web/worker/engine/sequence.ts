/** Feeds what the KV cache lacks of a text and returns the logits; keeps other texts for later. */
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

export interface Step {
  /** float32[vocabulary] after the last token. */
  readonly logits: Float32Array;
  /** Tokens that the KV cache held already. */
  readonly cached: number;
}

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
  async logitsAfter(text: Text, signal: AbortSignal): Promise<Step> {
    const { tokens, deterministic } = text;
    const cached = this.#cache.begin(tokens, { onGrid: deterministic, owner: text });
    for (;;) {
      signal.throwIfAborted();
      const chunk = tokens.slice(this.#cache.length, this.#chunkEnd(text));
      const start = performance.now();
      const logits = await this.#forward(chunk);
      if (chunk.length > 1) this.#adapt((performance.now() - start) / chunk.length);
      if (this.#cache.length === tokens.length) return { logits, cached };
    }
  }

  /** Forgets all texts. */
  clear(): void {
    this.#cache.clear();
  }

  async #forward(chunk: readonly number[]): Promise<Float32Array> {
    this.#cache.makeRoom(chunk.length);
    try {
      const logits = await this.#runner.forward(chunk, this.#cache.sequence);
      this.#cache.append(chunk);
      return logits;
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
