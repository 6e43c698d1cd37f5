/**
 * Which tokens the device's KV cache holds, in several sequences: what texts begin with alike is computed
 * once, and a text that is left for another is still there when it goes on.
 */

/**
 * Deterministic prompts are computed in chunks of so many tokens that begin at their multiples, as the
 * Python engine does: a number's bits depend on the chunk in which it was computed.
 */
export const GRID_TOKENS = 64;
/** Tokens of a page; a sequence has whole pages. */
export const PAGE_TOKENS = 16;
/** Fewer tokens are worth no page. */
const LEAST_TOKENS = PAGE_TOKENS;
const MOST_SEQUENCES = 64;
/** In the place of a token that the device drew and nobody has read. No text has it. */
export const UNREAD = -1;
/** A number that no text's sequence has. */
export const SELF_TEST_SEQUENCE = -1;

/** The device side: sequences by number, which share one pool of pages. */
export interface KvStore {
  /** Pages of all sequences together. */
  readonly totalPages: number;
  addSequence(sequence: number): void;
  /** Lets a sequence have `count` more tokens, whose keys and values are undefined. */
  reserve(sequence: number, count: number): void;
  removeSequence(sequence: number): void;
  /** Drops the last `count` tokens of a sequence. */
  popTokens(sequence: number, count: number): void;
  /** Begins `child` with a copy of the first `length` keys and values of `parent`. */
  forkSequence(parent: number, child: number, length: number): void;
}

export interface Reuse {
  /** Take over only what was computed in whole chunks of the grid. */
  readonly onGrid: boolean;
  /** Who comes with the same owner again goes on where it stopped, whatever the grid says. */
  readonly owner?: object;
}

interface CachedSequence {
  readonly number: number;
  readonly tokens: number[];
  /** So many of the first tokens were computed in whole chunks of the grid. */
  onGrid: number;
  /** For whom all of the tokens were computed; null where some were dropped since. */
  owner: object | null;
}

interface Beginning {
  readonly sequence: CachedSequence | null;
  readonly kept: number;
}

export class KvCache {
  /** Tokens of a grid chunk. */
  readonly grid: number;
  readonly #store: KvStore;
  /** The most recently used comes last, and is the one that grows. */
  readonly #sequences: CachedSequence[] = [];
  #numbers = 0;

  /** `largestChunk` is what the library takes at a time. */
  constructor(store: KvStore, largestChunk: number) {
    this.#store = store;
    this.grid = Math.min(GRID_TOKENS, largestChunk);
  }

  /** The sequence that grows. */
  get sequence(): number {
    return this.#current.number;
  }

  /** So many of its first tokens were computed in whole chunks of the grid. */
  get onGrid(): number {
    return this.#current.onGrid;
  }

  /** Its tokens. */
  get length(): number {
    return this.#sequences.at(-1)?.tokens.length ?? 0;
  }

  /**
   * Chooses the sequence that is to hold `tokens`, with what it can take over from the longest common
   * beginning, and keeps the other texts where there is room.
   *
   * Returns how many tokens it has: at most all but one, because only a token that is fed gives logits.
   */
  begin(tokens: readonly number[], reuse: Reuse): number {
    const { sequence, kept } = this.#longestBeginning(tokens, reuse);
    const rest = sequence ? sequence.tokens.length - kept : Infinity;
    if (sequence && rest > 0 && this.#affordsBoth(sequence, kept, tokens.length)) {
      this.#fork(sequence, kept);
    } else if (sequence && (kept >= LEAST_TOKENS || rest < LEAST_TOKENS)) {
      this.#use(sequence);
      this.#cut(sequence, kept);
    } else {
      this.#add();
    }
    this.#current.owner = reuse.owner ?? null;
    return this.length;
  }

  /** Whether a sequence begins with `tokens`, the first `onGrid` of them from whole chunks of the grid. */
  holds(tokens: readonly number[], onGrid: number): boolean {
    return this.#sequences.some(
      (sequence) =>
        sequence.onGrid >= onGrid &&
        commonLength(sequence.tokens, tokens, tokens.length) === tokens.length,
    );
  }

  /** Begins a sequence whose keys and values the caller brings; `drop` it if they don't come. */
  adopt(tokens: readonly number[], onGrid: number): void {
    this.#add();
    this.makeRoom(tokens.length);
    this.#store.reserve(this.sequence, tokens.length);
    this.#current.tokens.push(...tokens);
    this.#current.onGrid = onGrid;
  }

  /** Drops what others have until the growing sequence may have `count` more tokens. */
  makeRoom(count: number): void {
    const { tokens } = this.#current;
    this.#free(pagesOf(tokens.length + count) - pagesOf(tokens.length));
  }

  /** Notes what the device appends, in one chunk. */
  append(chunk: readonly number[]): void {
    const current = this.#current;
    if (current.onGrid === current.tokens.length && chunk.length === this.grid) {
      current.onGrid += chunk.length;
    }
    for (const token of chunk) current.tokens.push(token);
  }

  /** Notes that the growing sequence has `token` where it had an unread one. */
  learn(place: number, token: number): void {
    this.#current.tokens[place] = token;
  }

  /** The growing sequence's token. */
  at(place: number): number | undefined {
    return this.#current.tokens[place];
  }

  /** Drops what the growing sequence has beyond so many tokens. */
  cutTo(length: number): void {
    this.#cut(this.#current, length);
  }

  /** Forgets the growing sequence: what a failed step left of it is unknown. */
  drop(): void {
    this.#remove(this.#current);
  }

  /** Forgets all sequences. */
  clear(): void {
    for (const sequence of [...this.#sequences]) this.#remove(sequence);
  }

  get #current(): CachedSequence {
    const current = this.#sequences.at(-1);
    if (!current) throw new Error("no sequence has begun");
    return current;
  }

  #longestBeginning(tokens: readonly number[], { onGrid, owner }: Reuse): Beginning {
    const most = Math.max(tokens.length - 1, 0);
    let best: Beginning = { sequence: null, kept: -1 };
    for (const sequence of this.#sequences) {
      const same = commonLength(sequence.tokens, tokens, most);
      if (owner && owner === sequence.owner && same === sequence.tokens.length) {
        return { sequence, kept: same };
      }
      const kept = onGrid ? Math.min(sequence.onGrid, same - (same % this.grid)) : same;
      // Of equals the most recent, which is the last to be dropped.
      if (kept >= best.kept) best = { sequence, kept };
    }
    return best;
  }

  /** Whether keeping what `sequence` has beyond `kept` costs no more pages than that has. */
  #affordsBoth(sequence: CachedSequence, kept: number, length: number): boolean {
    const rest = sequence.tokens.length - kept;
    if (kept === 0 || rest < LEAST_TOKENS) return false;
    const { totalPages } = this.#store;
    const lost = pagesOf(length) - (totalPages - this.#usedPages());
    const room = totalPages - pagesOf(sequence.tokens.length);
    return lost <= pagesOf(rest) && pagesOf(kept) <= room;
  }

  #fork(parent: CachedSequence, length: number): void {
    this.#use(parent);
    this.#free(pagesOf(length));
    const number = this.#numbers++;
    this.#store.forkSequence(parent.number, number, length);
    const onGrid = Math.min(parent.onGrid, length - (length % this.grid));
    this.#push({ number, tokens: parent.tokens.slice(0, length), onGrid, owner: null });
  }

  #add(): void {
    const number = this.#numbers++;
    this.#store.addSequence(number);
    this.#push({ number, tokens: [], onGrid: 0, owner: null });
  }

  #push(sequence: CachedSequence): void {
    this.#sequences.push(sequence);
    const oldest = this.#sequences[0];
    if (oldest && this.#sequences.length > MOST_SEQUENCES) this.#remove(oldest);
  }

  #use(sequence: CachedSequence): void {
    this.#sequences.splice(this.#sequences.indexOf(sequence), 1);
    this.#sequences.push(sequence);
  }

  /** Takes pages from the ends of the least recently used, never of the last: what texts begin with is shared most. */
  #free(pages: number): void {
    for (const victim of this.#sequences.slice(0, -1)) {
      const lacking = pages - (this.#store.totalPages - this.#usedPages());
      if (lacking <= 0) return;
      const left = (pagesOf(victim.tokens.length) - lacking) * PAGE_TOKENS;
      if (left < LEAST_TOKENS) this.#remove(victim);
      else this.#cut(victim, left);
    }
  }

  #cut(sequence: CachedSequence, length: number): void {
    const surplus = sequence.tokens.length - length;
    if (surplus === 0) return;
    this.#store.popTokens(sequence.number, surplus);
    sequence.tokens.length = length;
    sequence.onGrid = Math.min(sequence.onGrid, length - (length % this.grid));
    sequence.owner = null;
  }

  #remove(sequence: CachedSequence): void {
    this.#sequences.splice(this.#sequences.indexOf(sequence), 1);
    this.#store.removeSequence(sequence.number);
  }

  #usedPages(): number {
    return this.#sequences.reduce((sum, { tokens }) => sum + pagesOf(tokens.length), 0);
  }
}

/** Pages that a sequence of so many tokens has. */
export function pagesOf(tokens: number): number {
  return Math.ceil(tokens / PAGE_TOKENS);
}

function commonLength(left: readonly number[], right: readonly number[], most: number): number {
  const end = Math.min(left.length, most);
  let same = 0;
  while (same < end && left[same] === right[same]) same += 1;
  return same;
}
