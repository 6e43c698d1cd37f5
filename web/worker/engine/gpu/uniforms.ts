/** One buffer for the uniforms of all launches of a step. */
import type { Gpu } from "./device.ts";
import type { Arguments } from "./kernel.ts";

/** A step of a large model is some hundred launches, of 256 bytes each as devices align them. */
const BYTES = 256 << 10;

export interface Scalar {
  /** Among a launch's arguments. */
  readonly position: number;
  readonly isFloat: boolean;
}

/** Most of a step's uniforms are those of the step before: only the range that changed is written. */
export class UniformArena {
  readonly buffer: GPUBuffer;
  readonly #queue: GPUQueue;
  readonly #alignment: number;
  /** What the buffer holds, once the changed range is written. */
  readonly #words = new Int32Array(BYTES / 4);
  readonly #float = new Float32Array(1);
  readonly #floatBits = new Int32Array(this.#float.buffer);
  #next = 0;
  #changedFrom = BYTES / 4;
  #changedTo = 0;

  constructor(gpu: Gpu) {
    this.buffer = gpu.createBuffer(BYTES, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
    this.#queue = gpu.device.queue;
    this.#alignment = gpu.device.limits.minUniformBufferOffsetAlignment / 4;
  }

  hasRoom(bytes: number): boolean {
    return 4 * this.#next + bytes <= BYTES;
  }

  /**
   * Adds a launch's scalars, and after them the place of its last workgroup in x (TVM's `packGridDimX`: kernels return
   * where theirs is larger); gives their offset in bytes.
   */
  add(scalars: readonly Scalar[], args: Arguments, last: number): number {
    const start = this.#next;
    let word = start;
    // By index: a launch leaves nothing for the garbage collector.
    for (let index = 0; index < scalars.length; index++) {
      const { position, isFloat } = scalars[index] as Scalar;
      this.#put(word++, isFloat ? this.#bitsOf(args.float(position)) : args.integer(position));
    }
    this.#put(word++, last);
    this.#next = Math.ceil(word / this.#alignment) * this.#alignment;
    return 4 * start;
  }

  /** Writes what was added, for commands that are submitted next; begins anew. */
  write(): void {
    const count = this.#changedTo - this.#changedFrom;
    if (count > 0) this.#queue.writeBuffer(this.buffer, 4 * this.#changedFrom, this.#words, this.#changedFrom, count);
    this.#next = 0;
    this.#changedFrom = BYTES / 4;
    this.#changedTo = 0;
  }

  #put(word: number, bits: number): void {
    if (this.#words[word] === (bits | 0)) return;
    this.#words[word] = bits;
    if (word < this.#changedFrom) this.#changedFrom = word;
    if (word >= this.#changedTo) this.#changedTo = word + 1;
  }

  #bitsOf(value: number): number {
    this.#float[0] = value;
    return this.#floatBits[0] as number;
  }
}
