export default { optimizeDeps: { exclude: ["@mlc-edge/web"] } };
