/** From tokens to text, which never ends within a character or a stop string. */

/** What tokens stand for; see Vocabulary. */
export interface TokenBytes {
  readonly stripsFirstSpace: boolean;
  bytes(id: number): Uint8Array;
}

/** What became certain with a token. */
export interface TextPiece {
  readonly text: string;
  /** A stop string was found: `text` ends before it and nothing follows. */
  readonly stopped: boolean;
}

/**
 * Text of one answer, token by token.
 *
 * The first stop string to be complete ends the text, the longest if several end there. What may be
 * the start of one is held back until that's decided. Text that goes on keeps its first space.
 */
export class Detokenizer {
  readonly #vocabulary: TokenBytes;
  readonly #stops: readonly string[];
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  #held = "";
  #atStart: boolean;

  constructor(vocabulary: TokenBytes, stops: readonly string[], { goesOn = false } = {}) {
    this.#vocabulary = vocabulary;
    this.#stops = stops;
    this.#atStart = !goesOn;
  }

  push(id: number): TextPiece {
    return this.#release(this.#decoder.decode(this.#bytes(id), { stream: true }));
  }

  /** What is left at the end; an unfinished character becomes U+FFFD. */
  finish(): TextPiece {
    const { text, stopped } = this.#release(this.#decoder.decode());
    if (stopped) return { text, stopped };
    const rest = this.#held;
    this.#held = "";
    return { text: text + rest, stopped };
  }

  #bytes(id: number): Uint8Array {
    const bytes = this.#vocabulary.bytes(id);
    if (!this.#atStart || bytes.length === 0) return bytes;
    this.#atStart = false;
    const strip = this.#vocabulary.stripsFirstSpace && bytes[0] === 0x20;
    return strip ? bytes.subarray(1) : bytes;
  }

  #release(fresh: string): TextPiece {
    const text = this.#held + fresh;
    const end = this.#findStop(text);
    if (end !== null) {
      this.#held = "";
      return { text: text.slice(0, end), stopped: true };
    }
    const kept = this.#undecided(text);
    this.#held = text.slice(text.length - kept);
    return { text: text.slice(0, text.length - kept), stopped: false };
  }

  /** Where the text ends because of a stop string, or null. */
  #findStop(text: string): number | null {
    let best: { start: number; end: number } | null = null;
    for (const stop of this.#stops) {
      const start = text.indexOf(stop);
      if (start < 0) continue;
      const end = start + stop.length;
      if (!best || end < best.end || (end === best.end && start < best.start)) best = { start, end };
    }
    return best && best.start;
  }

  /** Length of the longest end of `text` that begins a stop string. */
  #undecided(text: string): number {
    return Math.max(0, ...this.#stops.map((stop) => overlap(text, stop)));
  }
}

/** Length of the longest end of `text` that begins `stop` and isn't all of it. */
function overlap(text: string, stop: string): number {
  let start = text.indexOf(stop.charAt(0), Math.max(0, text.length - stop.length + 1));
  while (start >= 0 && !stop.startsWith(text.slice(start))) {
    start = text.indexOf(stop.charAt(0), start + 1);
  }
  return start >= 0 ? text.length - start : 0;
}
