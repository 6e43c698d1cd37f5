import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import * as esbuild from "esbuild";

const WIDGET = join(dirname(fileURLToPath(import.meta.url)), "worker/widget");

/** How our scripts are bundled, for sites and for npm. */
export const common = {
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  // tvmjs names Node's modules in branches that a browser never takes.
  external: ["fs", "path", "crypto", "perf_hooks", "ws", "url", "module", "node:*"],
  loader: { ".svg": "text" },
  legalComments: "none",
  logLevel: "warning",
};

/** The open widget; the name of its script. */
export async function bundlePanel(options) {
  const { metafile } = await esbuild.build({
    ...common,
    ...options,
    entryPoints: { "widget-panel": join(WIDGET, "panel.ts") },
    metafile: true,
  });
  return basename(Object.keys(metafile.outputs)[0]);
}

/** `widget.js`, which loads the script `panel` beside it when the widget is opened. */
export async function bundleLauncher({ define, panel, outdir }) {
  const address = `./${panel}`;
  await esbuild.build({
    ...common,
    define: { ...define, WIDGET_PANEL: JSON.stringify(address) },
    external: [...common.external, address],
    entryPoints: { widget: join(WIDGET, "main.ts") },
    outdir,
  });
}
