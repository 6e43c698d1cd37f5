/** The one sequence on the device: feeds what its KV cache lacks and returns the logits. */
import { KvCache } from "./kv-cache.ts";
import type { ModelRunner } from "./model-runner.ts";

/** A chunk of a prompt may take so long: between chunks the page paints and answers can be aborted. */
const CHUNK_MS = 100;
const FIRST_CHUNK = 32;
const SMALLEST_CHUNK = 8;

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
    this.#cache = new KvCache(runner);
    this.#largestChunk = runner.metadata.prefill_chunk_size;
    this.#chunk = Math.min(FIRST_CHUNK, this.#largestChunk);
  }

  /** Brings the KV cache to hold `tokens`, which may share a prefix with what it holds now. */
  async logitsAfter(tokens: readonly number[], signal: AbortSignal): Promise<Step> {
    const cached = this.#cache.keepPrefix(tokens);
    for (;;) {
      signal.throwIfAborted();
      const chunk = tokens.slice(this.#cache.length, this.#cache.length + this.#chunk);
      const start = performance.now();
      const logits = await this.#runner.forward(chunk);
      this.#cache.append(chunk);
      if (chunk.length > 1) this.#adapt((performance.now() - start) / chunk.length);
      if (this.#cache.length === tokens.length) return { logits, cached };
    }
  }

  /** Forgets all tokens. */
  clear(): void {
    this.#cache.keepPrefix([]);
  }

  /** Sizes are powers of two, so that the device's allocator meets few of them. */
  #adapt(msPerToken: number): void {
    const fitting = 2 ** Math.floor(Math.log2(CHUNK_MS / Math.max(msPerToken, 0.001)));
    const next = Math.min(fitting, 4 * this.#chunk, this.#largestChunk);
    this.#chunk = Math.max(next, Math.min(SMALLEST_CHUNK, this.#largestChunk));
  }
}
