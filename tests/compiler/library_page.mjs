/** Calls a library's functions on WebGPU, without an engine around it. */
import { createPolyfillWASI, detectGPUDevice, instantiate } from "@mlc-ai/web-runtime";

let tvm, vm;

globalThis.openLibrary = async (url) => {
  const library = await (await fetch(url)).arrayBuffer();
  tvm = await instantiate(library, createPolyfillWASI(), console.debug);
  const { device } = await detectGPUDevice();
  globalThis.deviceErrors = [];
  device.onuncapturederror = ({ error }) => deviceErrors.push(error.message);
  tvm.initWebGPU(device);
  tvm.beginScope();
  vm = tvm.detachFromCurrentScope(tvm.createVirtualMachine(tvm.webgpu()));
  const module = vm.getInternalModule();
  await tvm.asyncLoadWebGPUPipelines(module);
  tvm.endScope();
};

/** float32 values of the file `url` in the shape given; the results as bytes in base64, and milliseconds. */
globalThis.callFunction = async (name, url, shape) => {
  const file = await fetch(url, { cache: "no-store" });
  const values = new Float32Array(await file.arrayBuffer());
  tvm.beginScope();
  const input = tvm.empty(shape, "float32", tvm.webgpu()).copyFrom(values);
  await tvm.webgpu().sync();
  const start = performance.now();
  const found = vm.getFunction(name)(input);
  await tvm.webgpu().sync();
  const milliseconds = performance.now() - start;
  const results = [];
  for (let i = 0; i < found.size(); i++) {
    const onDevice = found.get(i);
    const result = tvm.empty(onDevice.shape, onDevice.dtype, tvm.cpu()).copyFrom(onDevice);
    await tvm.webgpu().sync();
    results.push(toBase64(result.toRawBytes()));
  }
  tvm.endScope();
  return { results, milliseconds, errors: deviceErrors };
};

function toBase64(bytes) {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
