/** Long texts are encoded a piece at a time: cut where no token crosses. */
import { oneOf } from "./token-finder.ts";

/** Characters that are encoded at a time, at least: a tenth of a second or less. */
const PIECE = 16384;
/** Where words, lines and runs of white space begin or end, and between letters of scripts without spaces. */
const PLACES =
  /(?<=\S)(?=\s)|(?<=\n)(?=\S)|(?<=[\p{L}\p{N}])(?=[^\p{L}\p{N}\p{M}\s])|(?<=\p{L})(?=\p{N})|(?<=\p{Lo})(?=\p{Lo})/u;
/** Places that are looked at before a piece grows by another PIECE. */
const MOST_TRIES = 16;

export class TextPieces {
  readonly #places: RegExp;
  readonly #isBorder: (text: string, at: number) => boolean;

  /** Tokens never cross the beginnings of `marks`; elsewhere `isBorder` says whether they do. */
  constructor(marks: readonly string[], isBorder: (text: string, at: number) => boolean) {
    this.#places = new RegExp(`${oneOf(marks).source}|${PLACES.source}`, "gu");
    this.#isBorder = isBorder;
  }

  /** The pieces of a text, in order; one alone of a text without any border. */
  *cut(text: string): Generator<string> {
    let start = 0;
    while (start < text.length) {
      const end = this.#border(text, start + PIECE) ?? text.length;
      yield text.slice(start, end);
      start = end;
    }
  }

  #border(text: string, from: number): number | undefined {
    let tries = 0;
    this.#places.lastIndex = from;
    for (const { 0: mark, index } of text.matchAll(this.#places)) {
      if (index < from) continue;
      if (mark !== "" || this.#isBorder(text, index)) return index;
      tries += 1;
      if (tries % MOST_TRIES === 0) from = index + PIECE;
    }
    return undefined;
  }
}
