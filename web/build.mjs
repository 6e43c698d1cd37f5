// Bundles the TypeScript of every realm into web/static: hashed files under dist/, the page that
// names them, the service worker (its URL must not change), and app-lock.json with all hashes.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { bundleLauncher, bundlePanel, common } from "./bundling.mjs";

const WEB = dirname(fileURLToPath(import.meta.url));
const WORKER = join(WEB, "worker");
const STATIC = join(WEB, "static");
const DIST = join(STATIC, "dist");
const TEMPLATES = { "page.html": "index.html", "benchmark-page.html": "benchmark.html" };
const NOT_LOCKED = new Set([
  "app-lock.json",
  "service-worker.js",
  "chat.css",
  ...Object.keys(TEMPLATES),
]);

async function bundleHashed() {
  const result = await esbuild.build({
    ...common,
    entryPoints: {
      chat: join(WORKER, "chat/main.ts"),
      engine: join(WORKER, "engine/worker.ts"),
      benchmark: join(WORKER, "bench/main.ts"),
      style: join(STATIC, "chat.css"),
    },
    entryNames: "[name]-[hash]",
    outdir: DIST,
    metafile: true,
  });
  return Object.fromEntries(
    Object.keys(result.metafile.outputs).map((path) => {
      const file = path.split("/").at(-1);
      const [, stem, extension] = /^(.*)-[A-Z0-9]{8}\.(js|css)$/.exec(file);
      return [`${stem === "style" ? "chat" : stem}.${extension}`, file];
    }),
  );
}

async function bundleStable(names) {
  await esbuild.build({
    ...common,
    define: { ENGINE_WORKER: JSON.stringify(`./${names["engine.js"]}`), IN_SITE: "true" },
    entryPoints: { "mlc-edge": join(WORKER, "page/index.ts") },
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
    // Widgets are for other pages, which this page need not keep.
    if (NOT_LOCKED.has(path) || path.endsWith(".tmp") || path.startsWith("dist/widget")) continue;
    const content = await readFile(join(STATIC, path));
    const sha256 = createHash("sha256").update(content).digest("hex");
    files.push({ path, bytes: content.length, sha256 });
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
