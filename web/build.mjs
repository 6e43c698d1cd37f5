// Bundles the TypeScript of every realm into web/static: hashed files under dist/, the page that
// names them, the service worker (its URL must not change), and app-lock.json with all hashes.
// Of these, files that most visits do without are marked: they are kept from their first use on.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { bundleLauncher, bundlePanel, common } from "./bundling.mjs";
import { diagramPage } from "./diagram.mjs";

const WEB = dirname(fileURLToPath(import.meta.url));
const WORKER = join(WEB, "worker");
const STATIC = join(WEB, "static");
const DIST = join(STATIC, "dist");
const MATH_STYLE = join(WEB, "../node_modules/katex/dist/katex.css");
/** Kept by the page's service worker once they were used; all others at once. */
const LAZY = /^dist\/(?:math|highlight)-/;
const TEMPLATES = { "page.html": "index.html", "benchmark-page.html": "benchmark.html" };
const NOT_LOCKED = new Set([
  "app-lock.json",
  "service-worker.js",
  "chat.css",
  ...Object.keys(TEMPLATES),
]);

/** Names of files without their hashes -> with them. */
function namesOf({ metafile }) {
  return Object.fromEntries(
    Object.keys(metafile.outputs).map((path) => {
      const file = path.split("/").at(-1);
      const [, stem, extension] = /^(.*)-[A-Z0-9]{8}\.(\w+)$/.exec(file);
      return [`${stem}.${extension}`, file];
    }),
  );
}

async function bundleHashed() {
  const hashed = { ...common, entryNames: "[name]-[hash]", outdir: DIST, metafile: true };
  const styles = namesOf(
    await esbuild.build({
      ...hashed,
      entryPoints: { chat: join(STATIC, "chat.css"), math: MATH_STYLE },
      assetNames: "math-[name]-[hash]",
      // Every browser that runs the page has WOFF2.
      loader: { ".woff2": "file", ".woff": "empty", ".ttf": "empty" },
    }),
  );
  const scripts = await esbuild.build({
    ...hashed,
    entryPoints: { engine: join(WORKER, "engine/worker.ts"), benchmark: join(WORKER, "bench/main.ts") },
  });
  // Alone, so that the page shares no script with the engine's worker.
  const chat = await esbuild.build({
    ...hashed,
    entryPoints: { chat: join(WORKER, "chat/main.ts") },
    splitting: true,
    chunkNames: "[name]-[hash]",
    define: {
      MATH_STYLE: JSON.stringify(`./${styles["math.css"]}`),
      DIAGRAM_FRAME: JSON.stringify(`./${await writeDiagramPage()}`),
    },
  });
  return { ...styles, ...namesOf(scripts), ...namesOf(chat), "chat.imports": preloads(chat) };
}

/** The name of the frame's page, with its hash. */
async function writeDiagramPage() {
  const text = await diagramPage();
  const hash = createHash("sha256").update(text).digest("hex").slice(0, 8).toUpperCase();
  await writeFile(join(DIST, `diagram-${hash}.html`), text);
  return `diagram-${hash}.html`;
}

/** Links to what the page's script imports, which then comes along with it. */
function preloads({ metafile }) {
  const chat = Object.values(metafile.outputs).find(({ entryPoint }) => entryPoint?.endsWith("chat/main.ts"));
  const paths = chat.imports.filter(({ kind }) => kind === "import-statement").map(({ path }) => path);
  return paths.map((path) => `<link rel="modulepreload" href="./dist/${path.split("/").at(-1)}" />`).join("\n    ");
}

async function bundleStable(names) {
  await esbuild.build({
    ...common,
    define: { ENGINE_WORKER: JSON.stringify(`./${names["engine.js"]}`), IN_SITE: "true" },
    entryPoints: { "mlc-edge": join(WORKER, "client/index.ts") },
    outdir: DIST,
  });
  await esbuild.build({
    ...common,
    entryPoints: { "service-worker": join(WORKER, "service-worker/main.ts") },
    outdir: STATIC,
  });
}

/** Its name is what pages write, with its hash beside it; the rest comes when it is opened. */
async function bundleWidget(names) {
  const define = { ENGINE_WORKER: JSON.stringify(`./${names["engine.js"]}`), IN_SITE: "true" };
  const panel = await bundlePanel({ define, entryNames: "widget-panel-[hash]", outdir: DIST });
  await bundleLauncher({ define, panel, outdir: DIST });
}

async function replaceFile(path, content) {
  await writeFile(`${path}.tmp`, content);
  await rename(`${path}.tmp`, path);
}

async function writePage(template, page, names) {
  const text = await readFile(join(STATIC, template), "utf8");
  const filled = text.replace(/\{\{([\w.]+)\}\}/g, (_, name) => {
    if (!(name in names)) throw new Error(`${template} names ${name}, which was not bundled`);
    return names[name];
  });
  await replaceFile(join(STATIC, page), filled);
}

async function writeLock() {
  const entries = await readdir(STATIC, { recursive: true, withFileTypes: true });
  const files = [];
  for (const entry of entries.filter((e) => e.isFile())) {
    const path = relative(STATIC, join(entry.parentPath ?? entry.path, entry.name));
    // Widgets are for other pages, which this page need not keep; frames without an origin have no service worker.
    if (NOT_LOCKED.has(path) || path.endsWith(".tmp") || /^dist\/(?:widget|diagram)/.test(path)) continue;
    const content = await readFile(join(STATIC, path));
    const sha256 = createHash("sha256").update(content).digest("hex");
    files.push({ path, bytes: content.length, sha256, ...(LAZY.test(path) && { lazy: true }) });
  }
  files.sort((a, b) => (a.path < b.path ? -1 : 1));
  await replaceFile(join(STATIC, "app-lock.json"), JSON.stringify({ files }, null, 1) + "\n");
}

await rm(DIST, { recursive: true, force: true });
await mkdir(DIST, { recursive: true });
const names = await bundleHashed();
await bundleStable(names);
await bundleWidget(names);
for (const [template, page] of Object.entries(TEMPLATES)) await writePage(template, page, names);
await writeLock();
