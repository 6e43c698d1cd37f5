/** In which order a bundle's targets are tried, by what the device has, and what is said of the others. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { backendOf, first, isCandidate, rank } from "../../web/worker/engine/backends.ts";
import type { Runtime, Runtimes } from "../../web/worker/engine/runtime.ts";
import { estimate } from "../../web/worker/engine/speed.ts";
import { EngineError } from "../../web/worker/shared/errors.ts";
import type { Lock, LockedTarget } from "../../web/worker/shared/lock.ts";
import type { LocalBackend } from "../../web/worker/shared/protocol.ts";

const F16 = target("webgpu-f16", "shader-f16");
const F32 = target("webgpu-f32");
const WASM = target("wasm32-simd");
const NATIVE = target("native", "avx2");

function target(name: string, ...features: string[]): LockedTarget {
  const device = name === "native" ? "cpu" : name.startsWith("wasm") ? "wasm" : "webgpu";
  const needs = { features, limits: {}, adapter: {} };
  return { name, device, library: `lib/${name}`, parameters: "tensor-cache.json", parameterBytes: 8, needs };
}

function bundle(...targets: LockedTarget[]): { lock: Lock } {
  const model = { id: "tiny", modelType: "llama", quantization: "q0f32", contextWindowSize: 64 };
  const named = new Map(targets.map((target) => [target.name, target]));
  return { lock: { abiVersion: 3, model, files: new Map(), targets: named } };
}

function runtime(adapter: Runtime["adapter"], lacking: string[] = []): () => Promise<Runtime> {
  const refuse = () => Promise.reject(new Error("nothing is opened here"));
  return async () => ({ adapter, misfits: () => lacking, measure: refuse, open: refuse });
}

const gpu = (isSoftware: boolean) => ({ vendor: "v", architecture: "a", description: "d", isSoftware });
const wasm = runtime(null);

async function names(runtimes: Runtimes, targets: LockedTarget[], backends?: LocalBackend[]): Promise<string[]> {
  const options = await rank(bundle(...targets), { backends }, runtimes);
  return options.filter(isCandidate).map(({ target }) => target.name);
}

test("the fastest come first, and what is for another machine never", async () => {
  const runtimes = { webgpu: runtime(gpu(false)), wasm };
  assert.deepEqual(await names(runtimes, [NATIVE, WASM, F32, F16]), ["webgpu-f16", "webgpu-f32", "wasm32-simd"]);
});

test("of one kind what is made for fewer adapters comes first, and what doesn't fit isn't told of", async () => {
  const subgroups = target("webgpu-subgroups-f32", "subgroups");
  const software = { ...target("webgpu-software-f32"), needs: { features: [], limits: {}, adapter: { isSoftware: 1 } } };
  const fits = (...fitting: string[]) => async (): Promise<Runtime> => ({
    ...(await runtime(gpu(false))()),
    misfits: ({ name }) => (fitting.includes(name) ? [] : [name]),
  });
  const order = async (...fitting: string[]) => {
    const options = await rank(bundle(F32, software, subgroups), { backends: ["webgpu-f32"] }, { webgpu: fits(...fitting) });
    return options.map((option) => [option.target?.name, isCandidate(option)]);
  };
  assert.deepEqual(await order("webgpu-f32"), [["webgpu-f32", true]]);
  assert.deepEqual(await order("webgpu-f32", "webgpu-subgroups-f32"), [["webgpu-subgroups-f32", true], ["webgpu-f32", true]]);
  assert.deepEqual(await order("webgpu-f32", "webgpu-software-f32"), [["webgpu-software-f32", true], ["webgpu-f32", true]]);
  assert.deepEqual(await order(), [["webgpu-f32", false]]);
});

test("the site's order counts, and what it leaves out isn't tried", async () => {
  const runtimes = { webgpu: runtime(gpu(false)), wasm };
  assert.deepEqual(await names(runtimes, [F16, F32, WASM], ["wasm", "webgpu-f32"]), ["wasm32-simd", "webgpu-f32"]);
});

test("a GPU that the CPU stands in for comes after WebAssembly, and is used where that isn't", async () => {
  const webgpu = runtime(gpu(true));
  assert.deepEqual(await names({ webgpu, wasm }, [F16, F32, WASM]), ["wasm32-simd", "webgpu-f16", "webgpu-f32"]);
  const asked = await rank(bundle(F16, WASM), { backends: ["webgpu-f16"] }, { webgpu, wasm });
  assert.deepEqual(asked.map(({ kind }) => kind), ["webgpu-f16"]);
  const { kind, target, runtime: found, tried } = first(await rank(bundle(F32), {}, { webgpu, wasm }));
  const backend = backendOf({ kind, target, runtime: found }, tried);
  assert.deepEqual([backend.kind, backend.target, backend.origin], ["webgpu-f32", "webgpu-f32", null]);
  assert.match(backend.reason, /on the CPU/);
  assert.deepEqual(
    backend.tried.map(({ kind, target, reason }) => [kind, target, reason]),
    [
      ["wasm", null, "The bundle tiny has no wasm target."],
      ["webgpu-f16", null, "The bundle tiny has no webgpu-f16 target."],
    ],
  );
});

test("a bundle's WebAssembly target is nothing to this engine yet, and it says so", async () => {
  const options = await rank(bundle(WASM), { backends: ["wasm"] }, { webgpu: runtime(gpu(false)) });
  assert.throws(() => first(options), (error: EngineError) => {
    assert.deepEqual(error.tried.map(({ kind, target }) => [kind, target]), [["wasm", "wasm32-simd"]]);
    return /nothing that runs models in WebAssembly/.test(error.message);
  });
});

test("why nothing runs is what is wrong with the last target that there is", async () => {
  const lacking = { webgpu: runtime(gpu(false), ["the feature shader-f16"]), wasm };
  await assert.rejects(async () => first(await rank(bundle(F16, NATIVE), {}, lacking)), (error: EngineError) => {
    assert.deepEqual(error.tried.map(({ kind }) => kind), ["webgpu-f16", "webgpu-f32", "wasm"]);
    return error.code === "adapter_unsuitable" && /webgpu-f16 needs: the feature shader-f16/.test(error.message);
  });
  await assert.rejects(async () => first(await rank(bundle(F16, F32), {}, lacking)), /webgpu-f32 needs/);
  const missing = () =>
    Promise.reject(new EngineError({ code: "webgpu_unavailable", message: "none", remedy: "wait" }));
  await assert.rejects(async () => first(await rank(bundle(F32), {}, { webgpu: missing, wasm })), {
    code: "webgpu_unavailable",
  });
});

test("a target that is asked for is the only one, or named where it isn't there", async () => {
  const runtimes = { webgpu: runtime(gpu(false)), wasm };
  const options = await rank(bundle(F16, F32), { target: "webgpu-f32" }, runtimes);
  assert.deepEqual(options.map(({ target }) => target?.name), ["webgpu-f32"]);
  await assert.rejects(async () => first(await rank(bundle(F16), { target: "other" }, runtimes)), /no target other/);
});

test("a token takes its weights' bytes and its launches", () => {
  const device = { bytesPerSecond: 1e9, launchSeconds: 1e-5 };
  // 133 launches for 16 layers: 1.33 ms; and 10 ms of reading.
  const { tokensPerSecond, low, high } = estimate(device, { layers: 16, weightBytes: 1e7 });
  assert.ok(Math.abs(tokensPerSecond - 1 / 0.01133) < 1e-6);
  assert.ok(low < tokensPerSecond && tokensPerSecond < high);
});
