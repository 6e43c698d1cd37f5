/** A model's Markdown as safe DOM. What the model writes is untrusted: no HTML, images or scripts. */
import DOMPurify, { type Config } from "dompurify";
import { Marked, type Token } from "marked";
import { button, el } from "./dom.ts";
import type { ConversationStrings } from "./strings.ts";

const PURIFY: Config & { RETURN_DOM_FRAGMENT: true } = {
  ALLOWED_TAGS: (
    "a blockquote br code del em h2 h3 h4 h5 h6 hr li ol p pre strong table tbody td th thead tr ul"
  ).split(" "),
  ALLOWED_ATTR: ["align", "class", "href", "start", "title"],
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  // DOMPurify holds every attribute to that which is not named here.
  ADD_URI_SAFE_ATTR: ["align", "start"],
  RETURN_DOM_FRAGMENT: true,
};

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // HTML in an answer is shown as text: models explain markup more often than they mean it.
    html: ({ text }) => escapeHtml(text),
    // An image would tell a stranger's server that the answer was read.
    image: ({ href, text }) => `<a href="${escapeHtml(href)}">${escapeHtml(text || href)}</a>`,
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
    // The page's title is the only h1.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 1, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
  },
});

function escapeHtml(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
    "'": "&#39;",
  };
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character);
}

interface Block {
  raw: string;
  nodes: Node[];
}

/**
 * Renders a growing text into `target`. Blocks whose source is unchanged keep their elements,
 * so a long answer costs one block a frame, and a selection in it survives.
 */
export class MarkdownView {
  readonly #target: HTMLElement;
  readonly #strings: ConversationStrings;
  #blocks: Block[] = [];

  constructor(target: HTMLElement, strings: ConversationStrings) {
    this.#target = target;
    this.#strings = strings;
  }

  update(text: string): void {
    const tokens = marked.lexer(text);
    let same = 0;
    while (same < this.#blocks.length && this.#blocks[same]?.raw === tokens[same]?.raw) same += 1;
    for (const block of this.#blocks.splice(same)) {
      for (const node of block.nodes) node.parentNode?.removeChild(node);
    }
    for (const token of tokens.slice(same)) {
      const nodes = renderBlock(token, this.#strings);
      this.#target.append(...nodes);
      this.#blocks.push({ raw: token.raw, nodes });
    }
  }
}

function renderBlock(token: Token, strings: ConversationStrings): Node[] {
  const fragment = DOMPurify.sanitize(marked.parser([token]), PURIFY);
  for (const link of fragment.querySelectorAll("a[href]")) {
    link.setAttribute("target", "_blank");
    link.setAttribute("rel", "noopener noreferrer");
  }
  for (const pre of fragment.querySelectorAll("pre")) frameCode(pre, strings);
  for (const table of fragment.querySelectorAll("table")) {
    const wrap = el("div", { class: "table-wrap", tabindex: "0", role: "group", "aria-label": strings.table });
    table.replaceWith(wrap);
    wrap.append(table);
  }
  return [...fragment.childNodes];
}

function frameCode(pre: HTMLPreElement, strings: ConversationStrings): void {
  const language = /language-([\w+#.-]+)/.exec(pre.firstElementChild?.className ?? "")?.[1];
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", language ? `${strings.code}, ${language}` : strings.code);
  const copy = button({ icon: "copy", text: strings.copy, label: strings.copyCode, className: "button quiet small" });
  copy.dataset.copyCode = "";
  const frame = el("div", { class: "code" });
  pre.replaceWith(frame);
  frame.append(el("div", { class: "code-head" }, el("span", {}, language ?? "code"), copy), pre);
}
