/** Which tokens the device's KV cache holds, so that what turns have in common is computed once. */

/**
 * Deterministic prompts are computed in chunks of so many tokens that begin at their multiples, as the
 * Python engine does: a number's bits depend on the chunk in which it was computed.
 */
export const GRID_TOKENS = 64;

/** The device side: drops keys and values of the last tokens. */
export interface KvStore {
  /** Drops the last `count` of all tokens. */
  popTokens(count: number): void;
}

export class KvCache {
  /** Tokens of a grid chunk. */
  readonly grid: number;
  readonly #store: KvStore;
  readonly #tokens: number[] = [];
  /** So many of the first tokens were computed in whole chunks of the grid. */
  #onGrid = 0;

  /** `largestChunk` is what the library takes at a time. */
  constructor(store: KvStore, largestChunk: number) {
    this.#store = store;
    this.grid = Math.min(GRID_TOKENS, largestChunk);
  }

  get length(): number {
    return this.#tokens.length;
  }

  /**
   * Keeps what the cache and `tokens` begin with alike, or of that only what was computed in whole chunks
   * of the grid, and drops the rest.
   *
   * Returns how many are kept: at most all but one, because only a token that is fed gives logits.
   */
  keepPrefix(tokens: readonly number[], { onGrid }: { onGrid: boolean }): number {
    const most = Math.min(this.#tokens.length, Math.max(tokens.length - 1, 0));
    let kept = 0;
    while (kept < most && this.#tokens[kept] === tokens[kept]) kept += 1;
    const wholeChunks = Math.min(this.#onGrid, kept - (kept % this.grid));
    if (onGrid) kept = wholeChunks;
    const surplus = this.#tokens.length - kept;
    if (surplus > 0) {
      this.#store.popTokens(surplus);
      this.#tokens.length = kept;
      this.#onGrid = wholeChunks;
    }
    return kept;
  }

  /** Notes what the device has appended, in one chunk. */
  append(chunk: readonly number[]): void {
    if (this.#onGrid === this.#tokens.length && chunk.length === this.grid) {
      this.#onGrid += chunk.length;
    }
    for (const token of chunk) this.#tokens.push(token);
  }
}
