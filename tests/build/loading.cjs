// Loads a model library as the browser's engine does and prints what it offers, as JSON.
const { readFileSync } = require("node:fs");
const tvmjs = require("@mlc-ai/web-runtime");

const [path, ...names] = process.argv.slice(2);
const unavailable = () => {
  throw new Error("there is no GPU here");
};

async function main() {
  const bytes = new Uint8Array(readFileSync(path));
  const tvm = await tvmjs.instantiate(bytes.buffer, tvmjs.createPolyfillWASI(), () => {});
  tvm.registerFunc("wasm.WebGPUCreateShader", unavailable, true);
  tvm.registerFunc("wasm.WebGPUDeviceAPI", unavailable, true);
  tvm.beginScope();
  const machine = tvm.createVirtualMachine(tvm.cpu());
  const isThere = (name) => {
    try {
      machine.getFunction(name);
      return true;
    } catch {
      return false;
    }
  };
  const module = machine.getInternalModule();
  console.log(
    JSON.stringify({
      metadata: JSON.parse(machine.getFunction("_metadata")()),
      missing: names.filter((name) => !isThere(name)),
      kernels: Object.keys(JSON.parse(module.getFunction("webgpu.get_fmap", true)())),
      globals: tvm.listGlobalFuncNames(),
    }),
  );
}

main();
