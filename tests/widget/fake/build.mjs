// node build.mjs FOLDER: the widget around a scripted engine, as FOLDER/dist/widget.js and what that loads.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { bundleLauncher, bundlePanel } from "../../../web/bundling.mjs";

const [, , folder] = process.argv;
const outdir = join(folder, "dist");
const define = { ENGINE_WORKER: '"./engine.js"', IN_SITE: "true" };
const scripted = {
  name: "scripted engine",
  setup(build) {
    const path = fileURLToPath(new URL("client.ts", import.meta.url));
    build.onResolve({ filter: /\/client\.ts$/ }, ({ importer }) =>
      importer.includes("worker/widget") ? { path } : undefined,
    );
  },
};
const panel = await bundlePanel({ define, entryNames: "widget-panel", outdir, plugins: [scripted] });
await bundleLauncher({ define, panel, outdir });
