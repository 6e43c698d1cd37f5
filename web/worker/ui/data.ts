/** JSON in answers: as the whole of one, or at its beginning, and as calls of tools. */
import type { MarkedExtension, Token } from "marked";

const BEGINNING = /^\s*(?:\{\s*"|\[\s*\{\s*")/;
const OPENING = "<tool_call>";
const CLOSING = "</tool_call>";
const MAX_DEPTH = 50;
const MAX_GROWTH = 8;
const MIN_LENGTH = 1_000;

/** The JSON that an answer begins with, as a block of code; it is indented once it is complete. */
export function leadingJson(text: string): Token | null {
  if (!BEGINNING.test(text)) return null;
  const end = endOfValue(text);
  const value = text.slice(0, end);
  const raw = value + (/^[ \t]*\n*/.exec(text.slice(end))?.[0] ?? "");
  return { type: "code", raw, lang: "json", text: indented(parsed(value), value) ?? value.trim() };
}

/** Where the first value ends: with the text, if it has no end. */
function endOfValue(text: string): number {
  let depth = 0;
  for (const { 0: part, index } of text.matchAll(/"(?:[^"\\]+|\\[^])*(?:"|$)|[{}[\]]/g)) {
    if (part === "{" || part === "[") depth += 1;
    if (part === "}" || part === "]") depth -= 1;
    if (depth === 0) return index + 1;
  }
  return text.length;
}

/** Blocks of `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as Hermes and Qwen write them. */
export function toolCallExtension(escapeHtml: (text: string) => string): MarkedExtension {
  return {
    extensions: [
      {
        name: "toolCall",
        level: "block",
        start(source) {
          const index = source.indexOf(`\n${OPENING}`);
          return index < 0 ? undefined : index + 1;
        },
        tokenizer(source) {
          if (!source.startsWith(OPENING)) return undefined;
          const end = source.indexOf(CLOSING);
          const inside = source.slice(OPENING.length, end < 0 ? undefined : end).trim();
          if (end < 0) return { type: "toolCall", raw: source, name: nameIn(inside), text: withoutTag(inside) };
          const [behind = ""] = /^[ \t]*\n*/.exec(source.slice(end + CLOSING.length)) ?? [];
          return { type: "toolCall", raw: source.slice(0, end) + CLOSING + behind, ...callIn(inside) };
        },
        renderer: ({ name, text }) =>
          `<pre title="${escapeHtml(name as string)}"><code class="language-json">${escapeHtml(text as string)}</code></pre>`,
      },
    ],
  };
}

/** Without the part of the closing tag that has come. */
function withoutTag(inside: string): string {
  const at = inside.lastIndexOf("<");
  return at >= 0 && CLOSING.startsWith(inside.slice(at)) ? inside.slice(0, at).trimEnd() : inside;
}

function callIn(inside: string): { name: string; text: string } {
  const call = parsed(inside) as { name?: unknown; arguments?: unknown; parameters?: unknown } | null | undefined;
  const given = call?.arguments ?? call?.parameters;
  const name = call?.name;
  if (typeof name !== "string" || given === undefined) return { name: nameIn(inside), text: indented(call, inside) ?? inside };
  return { name, text: indented(typeof given === "string" ? (parsed(given) ?? given) : given, inside) ?? inside };
}

function nameIn(text: string): string {
  return /"name"\s*:\s*"([^"\\]*)"/.exec(text)?.[1] ?? "…";
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Undefined for what isn't read more easily then: the indentation of what is nested deeply grows with its square. */
function indented(value: unknown, source: string): string | undefined {
  try {
    const text = JSON.stringify(value, null, isDeep(source) ? 0 : 2);
    return text.length > MAX_GROWTH * source.length + MIN_LENGTH ? undefined : text;
  } catch {
    return undefined;
  }
}

/** Counts brackets in strings, too, which are few in what is indented. */
function isDeep(source: string): boolean {
  let [depth, deepest] = [0, 0];
  for (const [bracket] of source.matchAll(/[{}[\]]/g)) {
    depth += "{[".includes(bracket) ? 1 : -1;
    deepest = Math.max(deepest, depth);
  }
  return deepest > MAX_DEPTH;
}
