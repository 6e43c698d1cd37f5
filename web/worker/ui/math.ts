/** Formulas in Markdown, marked as in LaTeX and, with dollars, by pandoc's rule. They stay TeX here: what was written. */
import type { MarkedExtension, Tokens } from "marked";

/** What is longer is text, and no formula. */
const MAX_LENGTH = 10_000;
/** Formulas have no empty lines. */
const LINE_END = String.raw`\\(?=\n)|\n(?![ \t]*\n)`;
const DISPLAY = [
  String.raw`\$\$(?:\\.|${LINE_END}|[^\\$\n]|\$(?!\$))+?\$\$`,
  String.raw`\\\[(?:\\[^[\]\n]|${LINE_END}|[^\\\n])+?\\\]`,
].join("|");
const INLINE = [
  String.raw`\\\((?:\\[^()\n]|${LINE_END}|[^\\\n])+?\\\)`,
  // "$5 and $10" is none; and code begins where it would have ended.
  "\\$(?![\\s$])(?:\\\\.|" + LINE_END + "|[^\\\\$\\n`])+?\\$(?!\\d)",
].join("|");

const IN_TEXT = new RegExp(`^(?:(${DISPLAY})|${INLINE})`);
const BLOCK = new RegExp(String.raw`^ {0,3}(?:${DISPLAY})[ \t]*(?:\n+|$)`);
/** Or an empty line, whichever comes first. */
const NEXT_BLOCK = new RegExp(String.raw`\n[ \t]*\n|\n {0,3}((?:${DISPLAY})[ \t]*(?:\n|$))`);
/** Text is read so much at a time, as each part of it asks where the next formula is. */
const REACH = 500;

interface Formula extends Tokens.Generic {
  text: string;
}

export function mathExtension(escapeHtml: (text: string) => string): MarkedExtension {
  return {
    extensions: [
      {
        name: "displayMath",
        level: "block",
        start(source) {
          const next = NEXT_BLOCK.exec(source);
          return next?.[1] === undefined ? undefined : next.index + 1;
        },
        tokenizer(source) {
          const [raw] = BLOCK.exec(source.slice(0, MAX_LENGTH)) ?? [];
          return raw === undefined ? undefined : { type: "displayMath", raw, text: raw.trim() };
        },
        renderer: (token) => `<div class="math display">${escapeHtml((token as Formula).text)}</div>`,
      },
      {
        name: "math",
        level: "inline",
        start(source) {
          const index = source.slice(0, REACH).search(/\$|\\[[(]/);
          return index < 0 && source.length > REACH ? REACH : index;
        },
        tokenizer(source) {
          const [raw, display] = IN_TEXT.exec(source.slice(0, MAX_LENGTH)) ?? [];
          if (raw === undefined || /\s\$$/.test(raw)) return undefined;
          return { type: "math", raw, text: raw, display: display !== undefined };
        },
        renderer: (token) =>
          `<span class="math${token.display ? " display" : ""}">${escapeHtml((token as Formula).text)}</span>`,
      },
    ],
    hooks: {
      // Asterisks and underscores in formulas end no emphasis.
      emStrongMask: (source) =>
        source.replace(MASKED, (formula) => (/\s\$$/.test(formula) ? formula : "+".repeat(formula.length))),
    },
  };
}

const MASKED = new RegExp(`${DISPLAY}|${INLINE}`, "g");

/** What was written for a formula that is shown, typeset or not. */
export function sourceOf(formula: Element): string {
  return (formula.querySelector(":scope > .tex") ?? formula).textContent;
}
