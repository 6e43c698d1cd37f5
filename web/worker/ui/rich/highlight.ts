/** What code is made of. Fetched with the first code of a language. */
import hljs from "highlight.js/lib/common";
import type { Colouring } from "./colours.ts";

/** The styles' kinds, by the library's scopes: the longest beginning counts. */
const KINDS: Record<string, string> = {
  addition: "string",
  attr: "name",
  attribute: "name",
  built_in: "type",
  bullet: "keyword",
  class: "type",
  code: "string",
  comment: "comment",
  deletion: "keyword",
  doctag: "keyword",
  keyword: "keyword",
  link: "string",
  literal: "number",
  meta: "comment",
  name: "keyword",
  number: "number",
  params: "",
  property: "name",
  quote: "comment",
  regexp: "string",
  section: "function",
  "selector-attr": "name",
  "selector-class": "name",
  "selector-id": "name",
  "selector-pseudo": "name",
  "selector-tag": "keyword",
  string: "string",
  subst: "",
  symbol: "number",
  "template-tag": "keyword",
  "template-variable": "name",
  title: "function",
  "title.class": "type",
  type: "type",
  variable: "name",
  "variable.language": "keyword",
};

/** Empty for languages that nobody knows. */
export function highlight(code: string, language: string): Colouring[] {
  if (!hljs.getLanguage(language)) return [];
  const { value } = hljs.highlight(code, { language, ignoreIllegals: true });
  // A document of its own, in which nothing is fetched or run.
  const { body } = new DOMParser().parseFromString(`<body><pre><code>${value}</code></pre>`, "text/html");
  const colourings: Colouring[] = [];
  let at = 0;
  const walk = (node: Node, kind: string): void => {
    if (!(node instanceof Element)) {
      const to = at + (node.textContent?.length ?? 0);
      if (kind) colourings.push({ from: at, to, kind });
      at = to;
      return;
    }
    const inner = kindOf(node, kind);
    for (const child of node.childNodes) walk(child, inner);
  };
  walk(body.querySelector("code") as Element, "");
  return colourings;
}

/** `class="hljs-title class_"` says title.class. */
function kindOf(element: Element, outer: string): string {
  const [scope, ...parts] = [...element.classList].map((name) => name.replace(/^hljs-|_+$/g, ""));
  if (scope === undefined) return outer;
  return KINDS[[scope, parts[0]].join(".")] ?? KINDS[scope] ?? outer;
}
