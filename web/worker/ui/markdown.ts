/** A model's Markdown as safe DOM. What the model writes is untrusted: no HTML, images or scripts. */
import DOMPurify, { type Config } from "dompurify";
import { Lexer, Marked, type Token, type Tokens, type TokensList } from "marked";
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

type Links = TokensList["links"];

interface Block {
  token: Token;
  nodes: Node[];
}

/** Blocks that text behind them may still change: "1. a", a blank line and "2" become one list with "2. b". */
const OPEN_BLOCKS = 2;

/**
 * Renders a growing text into `target`, to the same elements as the whole text at once. Blocks whose source is
 * unchanged keep their elements, and code that grows its text, so that a long answer costs its last blocks a frame,
 * and selection, scroll and focus survive.
 */
export class MarkdownView {
  readonly #target: HTMLElement;
  readonly #strings: ConversationStrings;
  #blocks: Block[] = [];
  /** How many of the blocks nothing can change any more, but for links, and the text that they are made of. */
  #settled = 0;
  #settledText = "";
  /** Where references lead, by their labels: as settled blocks say, and as is shown. */
  #settledLinks: Links = {};
  #links: Links = {};

  constructor(target: HTMLElement, strings: ConversationStrings) {
    this.#target = target;
    this.#strings = strings;
  }

  update(text: string): void {
    const source = text.replace(/\r\n?/g, "\n");
    if (!source.startsWith(this.#settledText)) this.#reset();
    const tokens = lex(source.slice(this.#settledText.length), this.#settledLinks);
    this.#follow(tokens.links);
    const open = this.#blocks.slice(this.#settled);
    let same = 0;
    while (same < open.length && this.#grows(open[same] as Block, tokens[same])) same += 1;
    this.#replaceFrom(this.#settled + same, tokens.slice(same));
    this.#settle();
  }

  /** Renders what refers to links that are new or lead elsewhere now. */
  #follow(links: Links): void {
    if (isEqual(links, this.#links)) return;
    this.#links = links;
    for (const block of this.#blocks.slice(0, this.#settled)) {
      if (!block.token.raw.includes("[")) continue;
      const nodes = lex(block.token.raw, links).flatMap((token) => renderBlock(token, this.#strings));
      block.nodes[0]?.parentNode?.insertBefore(fragmentOf(nodes), block.nodes[0]);
      remove(block.nodes);
      block.nodes = nodes;
    }
    this.#replaceFrom(this.#settled, []);
  }

  /** Whether the block stands for this token, or could be made to without a new element. */
  #grows(block: Block, token: Token | undefined): boolean {
    if (block.token.raw === token?.raw) return true;
    const code = isCode(token) && isCode(block.token) && block.token.lang === token.lang ? codeOf(block) : null;
    if (!code) return false;
    replaceText(code, `${(token as Tokens.Code).text.replace(/\n$/, "")}\n`);
    block.token = token as Tokens.Code;
    return true;
  }

  #replaceFrom(first: number, tokens: Token[]): void {
    for (const { nodes } of this.#blocks.splice(first)) remove(nodes);
    for (const token of tokens) {
      const nodes = renderBlock(token, this.#strings);
      this.#target.append(...nodes);
      this.#blocks.push({ token, nodes });
    }
  }

  /** A blank line ends what came before it; without one, a line may yet come to belong to the paragraph above. */
  #settle(): void {
    const solid = this.#blocks.flatMap(({ token }, index) => (token.type === "space" ? [] : [index]));
    const open = solid.at(-OPEN_BLOCKS) ?? 0;
    const end = this.#blocks.findLastIndex(({ token }, index) => index < open && endsBlank(token)) + 1;
    for (const { token } of this.#blocks.slice(this.#settled, end)) {
      this.#settledText += token.raw;
      if (token.raw.includes("]:")) this.#settledLinks = lex(token.raw, this.#settledLinks).links;
    }
    this.#settled = Math.max(this.#settled, end);
  }

  #reset(): void {
    this.#replaceFrom(0, []);
    this.#settled = 0;
    this.#settledText = "";
    this.#settledLinks = {};
    this.#links = {};
  }
}

/** Tokens of a part of a text, whose links may be defined before it. */
function lex(text: string, links: Links): TokensList {
  const lexer = new Lexer(marked.defaults);
  Object.assign(lexer.tokens.links, links);
  return lexer.lex(text);
}

function endsBlank({ type, raw }: Token): boolean {
  return type === "space" || raw.endsWith("\n\n");
}

function isEqual(a: Links, b: Links): boolean {
  const labels = Object.keys(a);
  const isSame = (label: string) => a[label]?.href === b[label]?.href && a[label]?.title === b[label]?.title;
  return labels.length === Object.keys(b).length && labels.every(isSame);
}

function isCode(token: Token | undefined): token is Tokens.Code {
  return token?.type === "code";
}

function codeOf({ nodes }: Block): Text | null {
  const [frame] = nodes.filter((node) => node instanceof HTMLElement);
  const text = frame?.querySelector("code")?.firstChild;
  return text instanceof Text && text.nextSibling === null ? text : null;
}

/** Touches only what differs, so that a selection before it stays. */
function replaceText(node: Text, text: string): void {
  const before = node.data;
  let same = 0;
  while (same < before.length && before[same] === text[same]) same += 1;
  node.replaceData(same, before.length - same, text.slice(same));
}

function fragmentOf(nodes: Node[]): DocumentFragment {
  const fragment = document.createDocumentFragment();
  fragment.append(...nodes);
  return fragment;
}

function remove(nodes: Node[]): void {
  for (const node of nodes) node.parentNode?.removeChild(node);
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
  // Each block reads from its own side, whatever the answer began with.
  for (const block of fragment.children) block.setAttribute("dir", block.className === "code" ? "ltr" : "auto");
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
