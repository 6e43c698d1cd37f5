// What built scripts use of the web, and the first versions that have it, by MDN's data:
// node needs.mjs MEMBER,... FILE... prints {"AbortSignal.any": {"chrome": 116, ...}, ...}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { parse } from "acorn";

const { api, javascript } = createRequire(import.meta.url)("@mdn/browser-compat-data");
const BROWSERS = ["chrome", "chrome_android", "edge", "firefox", "safari", "safari_ios"];
const INTERFACES = { ...api, ...javascript.builtins };

/** The first version with it, whole or in part; Infinity if none has it without a flag. */
function since({ support }) {
  const first = (statements) => {
    const usable = [statements].flat().filter(({ flags, alternative_name: other }) => !flags && !other);
    const versions = usable.map(({ version_added: added }) => Number.parseFloat(String(added).replace("≤", "")));
    return Math.min(...versions.filter((version) => !Number.isNaN(version)));
  };
  return Object.fromEntries(BROWSERS.map((browser) => [browser, first(support[browser] ?? [])]));
}

/** "Interface.member" or "Interface". */
function compatibility(name) {
  const [owner, member] = name.split(".");
  const entry = INTERFACES[owner];
  return member ? (entry?.[`${member}_static`] ?? entry?.[member])?.__compat : entry?.__compat;
}

function* nodes(node) {
  if (typeof node?.type === "string") yield node;
  for (const child of Object.values(node ?? {})) {
    if (child && typeof child === "object") yield* nodes(child);
  }
}

const [members, ...files] = process.argv.slice(2);
const used = {};
const words = new Set();

/** Statics and constructors name their interface; of other members only the name is there. */
function note(node) {
  if (node.type === "Identifier") words.add(node.name);
  const { callee, object, property } = node;
  const constructed = node.type === "NewExpression" && callee.type === "Identifier" && callee.name;
  const fixed = node.type === "MemberExpression" && !node.computed;
  const name = constructed || (fixed && object.name && `${object.name}.${property.name}`);
  const found = name && compatibility(name);
  if (found) used[name] = since(found);
}

for (const file of files) {
  const tree = parse(readFileSync(file, "utf8"), { ecmaVersion: "latest", sourceType: "module" });
  for (const node of nodes(tree)) note(node);
}
for (const member of members.split(",")) {
  const found = compatibility(member);
  if (!found || !words.has(member.split(".").at(-1))) throw new Error(`nothing uses ${member}`);
  used[member] = since(found);
}
console.log(JSON.stringify(used, (_, value) => (value === Infinity ? null : value)));
