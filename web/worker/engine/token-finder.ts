/** Finds control tokens' strings in texts: as they are, and as what a normaliser makes of a text. */

/** The step of a tokenizer that comes first, such as NFKC or lower case. */
export interface Normalizer {
  normalize(text: string): string;
}

export interface TextPart {
  readonly text: string;
  /** It would become a control token. */
  readonly isControl: boolean;
}

type Span = readonly [start: number, end: number];

export class TokenFinder {
  readonly #literal: RegExp;
  readonly #normalized: RegExp;
  readonly #normalizer: Normalizer | null;

  constructor(contents: ReadonlySet<string>, normalizer: Normalizer | null) {
    const normalized = normalizer ? [...contents].map((text) => normalizer.normalize(text)) : [];
    this.#literal = oneOf([...contents]);
    this.#normalized = oneOf([...contents, ...normalized]);
    this.#normalizer = normalizer;
  }

  split(text: string): TextPart[] {
    const spans = [...text.matchAll(this.#literal)].map((m): Span => [m.index, m.index + m[0].length]);
    return separate(text, spans).flatMap((part) => {
      if (part.isControl || !this.#isHiddenIn(part.text)) return [part];
      return separate(part.text, this.#hiddenSpans(part.text)).map((smaller) => ({
        text: smaller.text,
        // Letters may become a control token only together.
        isControl: smaller.isControl || this.#isHiddenIn(smaller.text),
      }));
    });
  }

  #isHiddenIn(text: string): boolean {
    return this.#normalizer !== null && this.#normalizer.normalize(text).search(this.#normalized) >= 0;
  }

  #hiddenSpans(text: string): Span[] {
    /** Of each unit of the normalised text: where the letter that it comes from begins and ends. */
    const origins: Span[] = [];
    let normalized = "";
    let start = 0;
    for (const letter of text) {
      const origin: Span = [start, start + letter.length];
      const became = this.#normalizer?.normalize(letter) ?? letter;
      for (let i = 0; i < became.length; i++) origins.push(origin);
      normalized += became;
      start += letter.length;
    }
    return [...normalized.matchAll(this.#normalized)].map((match) => [
      origins[match.index]?.[0] ?? 0,
      origins[match.index + match[0].length - 1]?.[1] ?? text.length,
    ]);
  }
}

/** Matches any of the texts, the longest where several begin; nothing if there are none. */
export function oneOf(texts: readonly string[]): RegExp {
  const longestFirst = texts.filter((text) => text !== "").sort((a, b) => b.length - a.length);
  const escaped = longestFirst.map((text) => text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  return new RegExp(escaped.join("|") || "(?!)", "gu");
}

/** The parts of a text inside and outside of spans, which come in order and may overlap. */
function separate(text: string, spans: readonly Span[]): TextPart[] {
  const parts: TextPart[] = [];
  let end = 0;
  for (const [start, stop] of spans) {
    if (start > end) parts.push({ text: text.slice(end, start), isControl: false });
    if (stop > end) parts.push({ text: text.slice(Math.max(start, end), stop), isControl: true });
    end = Math.max(end, stop);
  }
  if (end < text.length) parts.push({ text: text.slice(end), isControl: false });
  return parts;
}
