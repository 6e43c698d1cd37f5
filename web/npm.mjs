// Makes the npm package in build/npm, for `npm pack`: two scripts without dependencies, and their types.
import { execFileSync } from "node:child_process";
import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";
import { bundleLauncher, bundlePanel, common } from "./bundling.mjs";

const WEB = dirname(fileURLToPath(import.meta.url));
const ROOT = dirname(WEB);
const OUTPUT = process.argv[2] ?? join(ROOT, "build/npm");

async function version() {
  const source = await readFile(join(ROOT, "mlc_edge/version.py"), "utf8");
  return /__version__ = "(.+)"/.exec(source)[1];
}

await rm(OUTPUT, { recursive: true, force: true });
await mkdir(OUTPUT, { recursive: true });
await esbuild.build({
  ...common,
  entryPoints: {
    index: join(WEB, "worker/client/index.ts"),
    engine: join(WEB, "worker/engine/worker.ts"),
  },
  define: { ENGINE_WORKER: '"./engine.js"', IN_SITE: "false" },
  outdir: OUTPUT,
});
const define = { ENGINE_WORKER: '"./engine.js"', IN_SITE: "false" };
const panel = await bundlePanel({ define, entryNames: "widget-panel", outdir: OUTPUT });
await bundleLauncher({ define, panel, outdir: OUTPUT });
const types = ["--declaration", "--emitDeclarationOnly", "--noEmit", "false"];
const project = ["-p", join(WEB, "worker/tsconfig.package.json")];
execFileSync(join(ROOT, "node_modules/.bin/tsc"), [...project, ...types, "--outDir", join(OUTPUT, "types")], {
  stdio: "inherit",
});
const manifest = JSON.parse(await readFile(join(WEB, "npm/package.json"), "utf8"));
const { name, ...rest } = manifest;
const complete = { name, version: await version(), ...rest };
await writeFile(join(OUTPUT, "package.json"), JSON.stringify(complete, null, 2) + "\n");
await cp(join(WEB, "npm/README.md"), join(OUTPUT, "README.md"));
