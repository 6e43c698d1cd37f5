/** Typesets formulas. Fetched with the first of them. */
import katex from "katex";
import { el } from "../dom.ts";

/** Beside this script: the build fills it in. */
declare const MATH_STYLE: string;

/** Resolves once formulas look as they should; rejects if their styles can't be had. */
export const styled = new Promise<void>((resolve, reject) => {
  const href = new URL(MATH_STYLE, import.meta.url).href;
  const link = el("link", { rel: "stylesheet", href });
  link.addEventListener("load", () => resolve());
  link.addEventListener("error", () => reject(new Error(`${href} can't be loaded`)));
  document.head.append(link);
});

const OPTIONS = {
  throwOnError: true,
  // No links, images or attributes of the model's choice.
  trust: false,
  strict: "ignore",
  /** In em. */
  maxSize: 30,
  maxExpand: 300,
  // Of commands that are refused, such as links.
  errorColor: "currentColor",
} as const;

/** Shows the formula `source`, delimiters included, in the element that says it; what is no TeX stays as it was written. */
export function typeset(element: HTMLElement, source: string): void {
  const shown = el("span", {});
  const length = /^\$[^$]/.test(source) ? 1 : 2;
  try {
    katex.render(source.slice(length, -length), shown, { ...OPTIONS, displayMode: element.classList.contains("display") });
  } catch {
    return;
  }
  element.replaceChildren(el("span", { class: "tex" }, source), shown);
  // What is too wide scrolls, by keyboard too.
  if (element.scrollWidth > element.clientWidth) element.tabIndex = 0;
}
