/** Calls a library's functions on WebGPU, without an engine around it. */
import { createPolyfillWASI, detectGPUDevice, instantiate, Tensor } from "@mlc-ai/web-runtime";

const ARRAYS = { float32: Float32Array, int32: Int32Array };
const errors = [];
let tvm, vm;

globalThis.openLibrary = async (url) => {
  const library = await (await fetch(url)).arrayBuffer();
  tvm = await instantiate(library, createPolyfillWASI(), console.debug);
  const { device } = await detectGPUDevice();
  device.onuncapturederror = ({ error }) => errors.push(error.message);
  tvm.initWebGPU(device);
  tvm.beginScope();
  vm = tvm.detachFromCurrentScope(tvm.createVirtualMachine(tvm.webgpu()));
  await tvm.asyncLoadWebGPUPipelines(vm.getInternalModule());
  tvm.endScope();
};

/** Results of a function as {shape, dtype, base64}, and the device's errors; inputs are files. */
globalThis.callFunction = async (name, inputs) => {
  const contents = inputs.map(async ({ url }) => (await fetch(url, { cache: "no-store" })).arrayBuffer());
  const bytes = await Promise.all(contents);
  tvm.beginScope();
  const tensors = inputs.map(({ shape, dtype }, i) =>
    tvm.empty(shape, dtype, tvm.webgpu()).copyFrom(new ARRAYS[dtype](bytes[i])),
  );
  const found = vm.getFunction(name)(...tensors);
  const outputs =
    found instanceof Tensor ? [found] : Array.from({ length: found.size() }, (_, i) => found.get(i));
  const onCpu = outputs.map((output) =>
    tvm.empty(output.shape, output.dtype, tvm.cpu()).copyFrom(output),
  );
  await tvm.webgpu().sync();
  const results = onCpu.map((output) => ({
    shape: output.shape,
    dtype: output.dtype,
    base64: toBase64(output.toRawBytes()),
  }));
  tvm.endScope();
  return { results, errors };
};

function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
