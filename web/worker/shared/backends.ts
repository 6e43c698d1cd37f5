/** Where models run on this device: the fastest first. */
import type { LocalBackend } from "./protocol.ts";

export const LOCAL_BACKENDS: readonly LocalBackend[] = ["webgpu-f16", "webgpu-f32", "wasm"];
