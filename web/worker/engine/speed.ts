/** How fast a model is likely to write here: what its weights and launches take on this adapter, measured. */
import type { AdapterDescription, SpeedEstimate } from "../shared/protocol.ts";

export interface DeviceSpeed {
  /** Of packed 4-bit weights that are multiplied and added up. */
  bytesPerSecond: number;
  /** From one small kernel to the next that waits for it. */
  launchSeconds: number;
}

/** Kernels of a token for each layer, and around them: a 1B model of 16 layers has 133. */
const LAUNCHES_PER_LAYER = 8;
const OTHER_LAUNCHES = 5;
/** Attention, sampling and what a kernel falls short of the measured one's speed: either way at most this factor. */
const UNCERTAINTY = 2;

const MIB = 2 ** 20;
/** Larger ones leave every cache behind; smaller ones are enough where they take long already. */
const SIZES = [1 * MIB, 8 * MIB, 32 * MIB, 128 * MIB];
/** Browsers' clocks may tick once a millisecond. */
const LONG_ENOUGH_MS = 8;
const MAX_LAUNCHES = 1024;
const REPEATS = 3;
const THREADS = 64;
const MAX_GROUPS = 4096;

/** What a decode step's products do: each thread unpacks 4-bit weights and adds them up. */
const KERNEL = `
@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@compute @workgroup_size(${THREADS})
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  var sum = 0.0;
  let end = arrayLength(&weights);
  for (var i = id.x; i < end; i += groups.x * ${THREADS}u) {
    for (var shift = 0u; shift < 32u; shift += 4u) {
      let q = vec4<f32>((weights[i] >> vec4<u32>(shift)) & vec4<u32>(15u));
      sum += dot(q - vec4<f32>(7.0), vec4<f32>(0.5, -0.25, 0.125, 1.0));
    }
  }
  sums[id.x] += sum;
}`;

/** By adapter: one measurement is enough for a worker's life. */
const measured = new Map<string, Promise<DeviceSpeed>>();

/** Takes some tenths of a second at most, the first time. */
export function measureGpu(
  find: () => Promise<GPUAdapter>,
  description: AdapterDescription,
): Promise<DeviceSpeed> {
  const key = JSON.stringify(description);
  const known = measured.get(key) ?? find().then(measure);
  measured.set(key, known);
  known.catch(() => measured.delete(key));
  return known;
}

export function estimate(
  { bytesPerSecond, launchSeconds }: DeviceSpeed,
  { layers, weightBytes }: { layers: number; weightBytes: number },
): SpeedEstimate {
  const launches = layers * LAUNCHES_PER_LAYER + OTHER_LAUNCHES;
  const tokensPerSecond = 1 / (weightBytes / bytesPerSecond + launches * launchSeconds);
  const [low, high] = [tokensPerSecond / UNCERTAINTY, tokensPerSecond * UNCERTAINTY];
  return { tokensPerSecond, low, high, bytesPerSecond, launchSeconds };
}

/** Throws Error where there is no room, or the device goes away. */
async function measure(adapter: GPUAdapter): Promise<DeviceSpeed> {
  const device = await adapter.requestDevice();
  let isLost = false;
  void device.lost.then(() => {
    isLost = true;
  });
  try {
    const bench = await Bench.create(device);
    const speed = { bytesPerSecond: await bench.bytesPerSecond(), launchSeconds: await bench.launchSeconds() };
    if (isLost || !(speed.bytesPerSecond > 0 && speed.launchSeconds > 0)) throw new Error("not measured");
    return speed;
  } finally {
    device.destroy();
  }
}

/** Times kernels, less what a queue takes to answer at all. */
class Bench {
  readonly #device: GPUDevice;
  readonly #pipeline: GPUComputePipeline;
  readonly #sums: GPUBuffer;

  static async create(device: GPUDevice): Promise<Bench> {
    const module = device.createShaderModule({ code: KERNEL });
    const pipeline = await device.createComputePipelineAsync({ layout: "auto", compute: { module } });
    return new Bench(device, pipeline);
  }

  private constructor(device: GPUDevice, pipeline: GPUComputePipeline) {
    this.#device = device;
    this.#pipeline = pipeline;
    this.#sums = device.createBuffer({ size: 4 * THREADS * MAX_GROUPS, usage: GPUBufferUsage.STORAGE });
  }

  async bytesPerSecond(): Promise<number> {
    for (const [index, bytes] of SIZES.entries()) {
      const groups = Math.min(MAX_GROUPS, bytes / 16 / THREADS / 8);
      const ms = await this.#withBuffer(bytes, async (weights) => {
        const once = await this.#launchMs(weights, groups, 1);
        if (once < LONG_ENOUGH_MS / 4 && index + 1 < SIZES.length) return null;
        return this.#launchMs(weights, groups, MAX_LAUNCHES);
      });
      if (ms !== null) return bytes / (ms / 1000);
    }
    return 0;
  }

  /** Of many small kernels, each of which waits for the one before it. */
  async launchSeconds(): Promise<number> {
    const bytes = 16 * THREADS;
    return (await this.#withBuffer(bytes, (weights) => this.#launchMs(weights, 1, MAX_LAUNCHES))) / 1000;
  }

  async #withBuffer<T>(size: number, use: (buffer: GPUBuffer) => Promise<T>): Promise<T> {
    this.#device.pushErrorScope("out-of-memory");
    const buffer = this.#device.createBuffer({ size, usage: GPUBufferUsage.STORAGE });
    const problem = await this.#device.popErrorScope();
    if (problem) throw new Error(problem.message);
    try {
      return await use(buffer);
    } finally {
      buffer.destroy();
    }
  }

  /** Milliseconds of one launch, of as many as a clock can tell; of at most so many. */
  async #launchMs(weights: GPUBuffer, groups: number, most: number): Promise<number> {
    const idle = await this.#time(weights, groups, 0);
    for (let launches = 1; ; launches = Math.min(most, launches * 4)) {
      const ms = (await this.#time(weights, groups, launches)) - idle;
      if (ms >= LONG_ENOUGH_MS || launches === most) return ms / launches;
    }
  }

  /** The shortest of some attempts: what else the machine does only makes them longer. */
  async #time(weights: GPUBuffer, groups: number, launches: number): Promise<number> {
    const times: number[] = [];
    for (let attempt = 0; attempt < REPEATS; attempt++) {
      const start = performance.now();
      this.#submit(weights, groups, launches);
      await this.#device.queue.onSubmittedWorkDone();
      times.push(performance.now() - start);
    }
    return Math.min(...times);
  }

  /** As the model's steps are: kernels in one pass, with bind groups that were made before. */
  #submit(weights: GPUBuffer, groups: number, launches: number): void {
    const layout = this.#pipeline.getBindGroupLayout(0);
    const entries = [weights, this.#sums].map((buffer, binding) => ({ binding, resource: { buffer } }));
    const encoder = this.#device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(this.#pipeline);
    pass.setBindGroup(0, this.#device.createBindGroup({ layout, entries }));
    for (let launch = 0; launch < launches; launch++) pass.dispatchWorkgroups(groups);
    pass.end();
    this.#device.queue.submit([encoder.finish()]);
  }
}
