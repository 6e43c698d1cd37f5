/** Draws tokens of random logits on the page's device, and from all logits in JavaScript as engines without it do. */
import { createPolyfillWASI, instantiate } from "@mlc-ai/web-runtime";
import { DeviceDraws } from "../web/worker/engine/device-draws.ts";
import { findAdapter, Gpu } from "../web/worker/engine/gpu/device.ts";
import { GpuDispatcher } from "../web/worker/engine/gpu/dispatcher.ts";
import { DeviceApi } from "../web/worker/engine/gpu/tvm.ts";
import { Sampler } from "../web/worker/engine/sampler.ts";
import { logits as logitsOf } from "../tests/golden/logits.ts";
import { samplingOf } from "../tests/golden/sampling.ts";

let dispatches = 0;
const dispatch = GPUComputePassEncoder.prototype.dispatchWorkgroups;
GPUComputePassEncoder.prototype.dispatchWorkgroups = function (...size) {
  dispatches += 1;
  return dispatch.apply(this, size);
};

interface Times {
  /** Milliseconds of JavaScript, and until the token is known. */
  script: number[];
  wall: number[];
}

/** Each token once in each way. */
async function measure(url: string, vocabSize: number, settings: object, tokens: number) {
  const needs = { features: [], limits: {}, adapter: {} };
  const gpu = await Gpu.open(await findAdapter(), { name: "page", needs } as never, () => undefined);
  const tvm = await instantiate(await (await fetch(url)).arrayBuffer(), createPolyfillWASI(), console.debug);
  const device = new GpuDispatcher(gpu);
  new DeviceApi(tvm, gpu, device);
  tvm.beginScope();
  const vm = tvm.detachFromCurrentScope(tvm.createVirtualMachine(tvm.webgpu()));
  const draws = new DeviceDraws(tvm, device, vm, vocabSize);
  const row = logitsOf({ vocabulary: vocabSize, seed: 5, scale: 10, peaks: 40, lift: 6 }, 0);
  const logits = tvm.detachFromCurrentScope(tvm.empty([1, 1, vocabSize], "float32", tvm.webgpu()));
  const copied = tvm.detachFromCurrentScope(tvm.empty([1, 1, vocabSize], "float32", tvm.cpu()));
  tvm.endScope();
  device.write(logits.getDataPtr(), 0, new Uint8Array(row.buffer as ArrayBuffer));
  const sampling = samplingOf(settings);
  const samplers = [1, 2].map(() => new Sampler(sampling, 3, 0, [])) as [Sampler, Sampler];
  const times = { device: { script: [], wall: [] } as Times, host: { script: [], wall: [] } as Times };
  const turn = async (which: "device" | "host", begin: () => () => unknown) => {
    const start = performance.now();
    const end = begin();
    device.flush();
    const begun = performance.now();
    await gpu.guard(device.settle());
    const settled = performance.now();
    end();
    const done = performance.now();
    times[which].script.push(begun - start + done - settled);
    times[which].wall.push(done - start);
  };
  const counts = [];
  for (let n = 0; n < tokens; n++) {
    const request = samplers[0].request(vocabSize);
    dispatches = 0;
    await turn("device", () => {
      const drawn = tvm.withNewScope(() => draws.launch(logits, request));
      return () => samplers[0].sample(drawn());
    });
    counts.push(dispatches);
    await turn("host", () => {
      copied.copyFrom(logits);
      return () => samplers[1].sample(copied.toArray() as Float32Array);
    });
  }
  gpu.close();
  return { times, dispatches: counts.at(-1) };
}

Object.assign(globalThis, { measure, ready: true });
