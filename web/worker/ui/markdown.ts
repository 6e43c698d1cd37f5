/** A model's Markdown as safe DOM. What the model writes is untrusted: no HTML, images or scripts. */
import DOMPurify, { type Config } from "dompurify";
import { Marked, type Token } from "marked";
import { toolCallExtension } from "./data.ts";
import { button, el } from "./dom.ts";
import { Draft, isList, isTable, type Links } from "./draft.ts";
import { mathExtension } from "./math.ts";
import { patch } from "./patch.ts";
import { type ConversationStrings, filled } from "./strings.ts";

const PURIFY: Config & { RETURN_DOM_FRAGMENT: true } = {
  ALLOWED_TAGS: (
    "a blockquote br code del div em h2 h3 h4 h5 h6 hr li ol p pre span strong table tbody td th thead tr ul"
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

marked.use(mathExtension(escapeHtml), toolCallExtension(escapeHtml));

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
  token: Token;
  nodes: Node[];
}

/** Blocks that text behind them may still change: "1. a", a blank line and "2" become one list with "2. b". */
const OPEN_BLOCKS = 2;

/** Some texts take the square of their length to read: what has held the page up so often is shown as it was written. */
const MAX_SLOW = 3;
const SLOW_MS = 500;

/** A line that opens more quotes and lists in each other than people write. */
const NESTED = /^(?:[ \t]*(?:>|[-*+]|\d{1,9}[.)])(?=[ \t>])){60}/m;

/**
 * Renders a growing text into `target`, to the same elements as the whole text at once. Blocks, list items and table rows
 * whose source is unchanged aren't rendered again, and what changes is patched, so that a long answer costs its end a
 * frame, and selection, scroll and focus survive.
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
  /** The text that couldn't be rendered: no longer one can. */
  #failed = "";
  /** How many of the last updates held the page up. */
  #slow = 0;

  constructor(target: HTMLElement, strings: ConversationStrings) {
    this.#target = target;
    this.#strings = strings;
  }

  /** Shows the text so far; as it was written, if it can't be rendered. */
  update(text: string): void {
    // Long runs of blanks take the square of their length to read, and show nothing.
    const source = text.replace(/\r\n?/g, "\n").replace(/([ \t]{500})[ \t]+/g, "$1");
    if (this.#failed === "" || !source.startsWith(this.#failed)) {
      try {
        this.#leaveSource();
        if (NESTED.test(source)) throw new RangeError("blocks are nested too deeply");
        if (this.#slow === MAX_SLOW) throw new RangeError("it takes too long to read");
        const start = performance.now();
        this.#render(source);
        this.#slow = performance.now() - start > SLOW_MS ? this.#slow + 1 : 0;
        return;
      } catch {
        // What reads Markdown recurses, and models repeat themselves.
        this.#failed = source;
      }
    }
    this.#reset();
    this.#target.replaceChildren(el("div", { class: "source", dir: "auto" }, source));
  }

  #leaveSource(): void {
    if (this.#failed === "") return;
    this.#failed = "";
    this.#target.replaceChildren();
  }

  #render(source: string): void {
    if (!source.startsWith(this.#settledText)) this.#reset();
    const draft = draftOf(source.slice(this.#settledText.length), this.#settledLinks, this.#settledText === "");
    this.#follow(draft.blocks.links);
    const open = this.#blocks.slice(this.#settled);
    let same = 0;
    while (same < open.length && this.#grows(open[same] as Block, draft, same)) same += 1;
    this.#replaceFrom(this.#settled + same, draft, same);
    this.#settle();
  }

  /** Renders what refers to links that are new or lead elsewhere now. */
  #follow(links: Links): void {
    const changed = changedLabels(links, this.#links);
    if (changed.length === 0) return;
    this.#links = links;
    for (const block of this.#blocks.slice(0, this.#settled)) {
      const text = withLabels(block.token.raw);
      if (!changed.some((label) => text.includes(`[${label}]`))) continue;
      const draft = draftOf(block.token.raw, links);
      const nodes = draft.blocks.flatMap((token) => this.#draw(draft, token));
      block.nodes = patch(this.#target, block.nodes, nodes, block.nodes.at(-1)?.nextSibling ?? null);
    }
    for (const { nodes } of this.#blocks.splice(this.#settled)) remove(nodes);
  }

  /** Whether the block stands for the draft's block at `index` now. */
  #grows(block: Block, draft: Draft, index: number): boolean {
    const token = draft.blocks[index];
    if (!token || block.token.type !== token.type) return false;
    if (hasSameSource(block.token, token)) return true;
    const [first] = block.nodes;
    if (!first) return false;
    const kept = sharedParts(block.token, token) - 1;
    if (kept > 0) {
      const [fresh] = this.#draw(draft, withoutParts(token, kept));
      // The last part that both share is where to go on.
      const old = partsOf(first as Element);
      const [from, to] = [old.children[kept], partsOf(fresh as Element).children[0]];
      patch(old, siblingsFrom(from), siblingsFrom(to), null);
    } else {
      const next = block.nodes.at(-1)?.nextSibling ?? null;
      block.nodes = patch(this.#target, block.nodes, this.#draw(draft, token), next);
    }
    block.token = token;
    return true;
  }

  #replaceFrom(first: number, draft: Draft, index: number): void {
    for (const { nodes } of this.#blocks.splice(first)) remove(nodes);
    for (const token of draft.blocks.slice(index)) {
      const nodes = this.#draw(draft, token);
      this.#target.append(...nodes);
      this.#blocks.push({ token, nodes });
    }
  }

  #draw(draft: Draft, token: Token): Node[] {
    return renderBlock(draft.read(token), this.#strings);
  }

  /** A blank line ends what came before it; without one, a line may yet come to belong to the paragraph above. */
  #settle(): void {
    const solid = this.#blocks.flatMap(({ token }, index) => (token.type === "space" ? [] : [index]));
    const open = solid.at(-OPEN_BLOCKS) ?? 0;
    const end = this.#blocks.findLastIndex(({ token }, index) => index < open && endsBlank(token)) + 1;
    for (const { token } of this.#blocks.slice(this.#settled, end)) {
      this.#settledText += token.raw;
      if (token.raw.includes("]:")) this.#settledLinks = draftOf(token.raw, this.#settledLinks).blocks.links;
    }
    this.#settled = Math.max(this.#settled, end);
  }

  #reset(): void {
    for (const { nodes } of this.#blocks.splice(0)) remove(nodes);
    this.#settled = 0;
    this.#settledText = "";
    this.#settledLinks = {};
    this.#links = {};
  }
}

function draftOf(text: string, links: Links, isStart = false): Draft {
  return new Draft(text, links, marked.defaults, isStart);
}

function changedLabels(a: Links, b: Links): string[] {
  const isSame = (label: string) => a[label]?.href === b[label]?.href && a[label]?.title === b[label]?.title;
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((label) => !isSame(label));
}

/** A text with the labels in it as marked compares them. */
function withLabels(text: string): string {
  const spaced = text.replace(/\s+/g, " ").replaceAll("[ ", "[").replaceAll(" ]", "]");
  return spaced.toLowerCase().toUpperCase().toLowerCase();
}

/** A paragraph's text may come to end otherwise where its source doesn't. */
function hasSameSource(a: Token, b: Token): boolean {
  return a.raw === b.raw && ("text" in a && a.text) === ("text" in b && b.text);
}

function endsBlank({ type, raw }: Token): boolean {
  return type === "space" || raw.endsWith("\n\n");
}

/** How many items or rows two blocks share at their beginnings, where nothing else would make them look different. */
function sharedParts(before: Token, after: Token): number {
  if (isList(before) && isList(after)) {
    const alike = before.ordered === after.ordered && before.start === after.start && before.loose === after.loose;
    return alike ? sharedLength(before.items, after.items, (a, b) => a.raw === b.raw) : 0;
  }
  if (isTable(before) && isTable(after)) {
    const [head, delimiters] = after.raw.split("\n", 2);
    if (!before.raw.startsWith(`${head}\n${delimiters}\n`)) return 0;
    return sharedLength(before.rows, after.rows, (a, b) => a.every(({ text }, column) => text === b[column]?.text));
  }
  return 0;
}

function sharedLength<T>(before: T[], after: T[], isSame: (a: T, b: T) => boolean): number {
  const different = before.findIndex((part, index) => {
    const other = after[index];
    return other === undefined || !isSame(part, other);
  });
  return different < 0 ? before.length : different;
}

function withoutParts(token: Token, count: number): Token {
  if (isList(token)) return { ...token, items: token.items.slice(count) };
  return isTable(token) ? { ...token, rows: token.rows.slice(count) } : token;
}

/** The element whose children are a list's items or a table's rows. */
function partsOf(block: Element): Element {
  return block.querySelector(":scope > table > tbody") ?? block;
}

function siblingsFrom(node: Node | undefined): Node[] {
  const siblings = [];
  for (let sibling: Node | null = node ?? null; sibling; sibling = sibling.nextSibling) siblings.push(sibling);
  return siblings;
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
  for (const block of fragment.children) block.setAttribute("dir", "auto");
  for (const block of fragment.querySelectorAll(".code, .math")) block.setAttribute("dir", "ltr");
  return [...fragment.childNodes];
}

function frameCode(pre: HTMLPreElement, strings: ConversationStrings): void {
  const language = /language-([\w+#.-]+)/.exec(pre.firstElementChild?.className ?? "")?.[1];
  const called = pre.title && filled(strings.toolCall, { name: pre.title });
  pre.removeAttribute("title");
  pre.tabIndex = 0;
  pre.setAttribute("role", "group");
  pre.setAttribute("aria-label", called || (language ? `${strings.code}, ${language}` : strings.code));
  const copy = button({ icon: "copy", text: strings.copy, label: strings.copyCode, className: "button quiet small" });
  copy.dataset.copyCode = "";
  const frame = el("div", { class: called ? "code call" : "code" });
  pre.replaceWith(frame);
  frame.append(el("div", { class: "code-head" }, el("span", {}, called || (language ?? "code")), copy), pre);
}
