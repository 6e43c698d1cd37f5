/** Colours for ranges of text, by the CSS Custom Highlight API: the text itself stays one node. */

/** Characters of a block; what is longer takes too long at once. */
export const MAX_COLOURED = 16_000;

/** What to colour, from one offset to before another; `kind` is one of the styles' `::highlight(code-KIND)`. */
export interface Colouring {
  from: number;
  to: number;
  kind: string;
}

const painted = new Map<Text, [Highlight, StaticRange][]>();

/** Colours a text in place of what was coloured in it before. */
export function paint(text: Text, colourings: readonly Colouring[]): void {
  clear(text);
  const ranges = colourings.map(({ from, to, kind }): [Highlight, StaticRange] => {
    // Unlike live ranges they cost nothing when the page changes elsewhere.
    const range = new StaticRange({ startContainer: text, startOffset: from, endContainer: text, endOffset: to });
    const highlight = highlightOf(`code-${kind}`);
    highlight.add(range);
    return [highlight, range];
  });
  painted.set(text, ranges);
}

/** Lets go of texts that are shown no more. */
export function forgetRemoved(): void {
  for (const text of painted.keys()) if (!text.isConnected) clear(text);
}

function clear(text: Text): void {
  for (const [highlight, range] of painted.get(text) ?? []) highlight.delete(range);
  painted.delete(text);
}

function highlightOf(name: string): Highlight {
  const known = CSS.highlights.get(name);
  if (known) return known;
  const highlight = new Highlight();
  CSS.highlights.set(name, highlight);
  return highlight;
}
