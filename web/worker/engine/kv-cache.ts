/** Which tokens the device's KV cache holds, so that what turns have in common is computed once. */

/** The device side: drops keys and values of the last tokens. */
export interface KvStore {
  /** Drops the last `count` of all tokens. */
  popTokens(count: number): void;
}

export class KvCache {
  readonly #store: KvStore;
  readonly #tokens: number[] = [];

  constructor(store: KvStore) {
    this.#store = store;
  }

  get length(): number {
    return this.#tokens.length;
  }

  /**
   * Keeps what the cache and `tokens` begin with alike and drops the rest.
   *
   * Returns how many are kept: at most all but one, because only a token that is fed gives logits.
   */
  keepPrefix(tokens: readonly number[]): number {
    const most = Math.min(this.#tokens.length, Math.max(tokens.length - 1, 0));
    let kept = 0;
    while (kept < most && this.#tokens[kept] === tokens[kept]) kept += 1;
    const surplus = this.#tokens.length - kept;
    if (surplus > 0) {
      this.#store.popTokens(surplus);
      this.#tokens.length = kept;
    }
    return kept;
  }

  /** Notes what the device has appended. */
  append(tokens: readonly number[]): void {
    for (const token of tokens) this.#tokens.push(token);
  }
}
