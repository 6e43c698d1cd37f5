/** What comes back from the device, by way of buffers that are used again and again. */
import type { Gpu } from "./device.ts";

const MAX_SPARE_BUFFERS = 4;
/** Larger ones are for what is stored, not for logits. */
const MAX_SPARE_BYTES = 4 << 20;

interface Readback {
  readonly buffer: GPUBuffer;
  readonly bytes: number;
  readonly take: (bytes: Uint8Array<ArrayBuffer>) => void;
}

export class Readbacks {
  readonly #gpu: Gpu;
  readonly #spare: GPUBuffer[] = [];
  #encoded: Readback[] = [];
  #arrived: Promise<unknown> = Promise.resolve();

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Copies `bytes` from each of `offsets`; `take` gets all of them, for the time of its call, once they're here. */
  encode(
    encoder: GPUCommandEncoder,
    source: GPUBuffer,
    offsets: readonly number[],
    bytes: number,
    take: Readback["take"],
  ): void {
    const total = offsets.length * bytes;
    const buffer = this.#staging(total);
    for (const [index, offset] of offsets.entries()) {
      encoder.copyBufferToBuffer(source, offset, buffer, index * bytes, bytes);
    }
    this.#encoded.push({ buffer, bytes: total, take });
  }

  /** Lets what was encoded come, now that it's submitted; says whether there is any. */
  begin(): boolean {
    if (this.#encoded.length === 0) return false;
    const arrivals = this.#encoded.map((readback) => this.#receive(readback));
    this.#encoded = [];
    this.#arrived = Promise.all([this.#arrived, ...arrivals]);
    // Who waits for it is told; a loss of the device may come when nobody does.
    this.#arrived.catch(() => undefined);
    return true;
  }

  /** Settles when all that began to come has been taken. */
  get arrived(): Promise<unknown> {
    return this.#arrived;
  }

  async #receive({ buffer, bytes, take }: Readback): Promise<void> {
    await buffer.mapAsync(GPUMapMode.READ, 0, bytes);
    try {
      take(new Uint8Array(buffer.getMappedRange(0, bytes)));
    } finally {
      buffer.unmap();
      this.#keep(buffer);
    }
  }

  #staging(bytes: number): GPUBuffer {
    const index = this.#spare.findIndex(({ size }) => size >= bytes);
    const [spare] = index < 0 ? [] : this.#spare.splice(index, 1);
    return spare ?? this.#gpu.createBuffer(bytes, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
  }

  #keep(buffer: GPUBuffer): void {
    if (buffer.size <= MAX_SPARE_BYTES) this.#spare.push(buffer);
    else buffer.destroy();
    if (this.#spare.length > MAX_SPARE_BUFFERS) this.#spare.shift()?.destroy();
  }
}
