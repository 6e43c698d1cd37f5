// The page of the frame that draws diagrams: one file, as a frame without an origin could load no other.
import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { common } from "./bundling.mjs";

const WEB = dirname(fileURLToPath(import.meta.url));
const MERMAID = join(WEB, "../node_modules/@mermaid-js/tiny/dist/mermaid.tiny.js");
const POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'";

export async function diagramPage() {
  const entryPoints = [join(WEB, "worker/diagram/frame.ts")];
  const { outputFiles } = await esbuild.build({ ...common, format: "iife", entryPoints, write: false });
  const scripts = [await readFile(MERMAID, "utf8"), outputFiles[0].text];
  const head = `<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${POLICY}">`;
  return `<!doctype html>${head}<title>Diagram</title>${scripts.map((text) => `<script>${inHtml(text)}</script>`).join("")}\n`;
}

/** What ends a script in HTML stands in strings and expressions alone, where it can be written otherwise. */
function inHtml(script) {
  return script.replace(/<(?=\/script|!--)/gi, "\\x3C");
}
