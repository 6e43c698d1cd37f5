/** What is added to a text that is shown, once it stands: formulas are typeset and code is coloured, in idle time. */
import { sourceOf } from "../math.ts";
import { once } from "../once.ts";
import { forgetRemoved, MAX_COLOURED, paint } from "./colours.ts";
import type { Diagrams } from "./diagrams.ts";
import { whenIdle } from "./idle.ts";

const mathScript = once(async () => {
  const script = await import("./math.ts");
  await script.styled;
  return script;
});
const highlightScript = once(() => import("./highlight.ts"));

/** Some languages' words take the square of their length to read. */
const LONG_LINE = /.{1000}/;

/** Of what was seen to: what it said then. */
const seen = new WeakMap<Element, string>();

/** @param isComplete whether nothing will be added; until then what stands last may still become something else. */
export function enrich(target: Element, isComplete: boolean, diagrams: Diagrams): void {
  forgetRemoved();
  const found = target.querySelectorAll<HTMLElement>(".math, .code code");
  found.forEach((element, index) => {
    if (!isComplete && index === found.length - 1 && isLast(element, target)) return;
    const { firstChild } = element;
    const source = firstChild instanceof Text ? firstChild.data : sourceOf(element);
    if (seen.get(element) === source) return;
    seen.set(element, source);
    if (element.classList.contains("language-mermaid")) diagrams.show(element, source);
    else if (element.tagName === "CODE") colour(element, source);
    else typeset(element, source);
  });
}

function typeset(element: HTMLElement, source: string): void {
  const show = ({ typeset }: Awaited<ReturnType<typeof mathScript>>): void =>
    whenIdle(() => {
      if (element.isConnected && element.textContent === source) typeset(element, source);
    });
  // Without the script the formula stays as it was written.
  void mathScript().then(show, () => undefined);
}

function colour(element: HTMLElement, source: string): void {
  const language = /language-(\S+)/.exec(element.className)?.[1];
  if (!language || source.length > MAX_COLOURED || LONG_LINE.test(source) || !("highlights" in CSS)) return;
  const show = ({ highlight }: Awaited<ReturnType<typeof highlightScript>>): void =>
    whenIdle(() => {
      const text = element.firstChild;
      if (element.isConnected && text instanceof Text && text.data === source) paint(text, highlight(source, language));
    });
  void highlightScript().then(show, () => undefined);
}

function isLast(element: Element, target: Element): boolean {
  for (let at: Element | null = element; at && at !== target; at = at.parentElement) {
    for (let next = at.nextSibling; next; next = next.nextSibling) if (next.textContent?.trim()) return false;
  }
  return true;
}
