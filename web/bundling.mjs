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
