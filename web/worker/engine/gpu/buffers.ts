/** The device's buffers under the numbers that TVM knows them by, and freed ones that wait to be used again. */
import type { Gpu } from "./device.ts";

/** Of freed buffers that are kept. Steps free token ids and copied pages; temporaries stay TVM's. */
const MAX_SPARE_BUFFERS = 32;
const MAX_SPARE_BYTES = 4 << 20;

/** Something that was made of a buffer and is worthless without it. */
export interface Dependent {
  drop(): void;
}

export interface Allocation {
  readonly pointer: number;
  readonly bytes: number;
}

export class DeviceBuffer {
  static #made = 0;
  /** Of no other buffer, before or after. */
  readonly id = ++DeviceBuffer.#made;
  readonly gpu: GPUBuffer;
  readonly bytes: number;
  readonly dependents = new Set<Dependent>();
  /** The last batch of commands that uses it. */
  batch = 0;

  constructor(gpu: GPUBuffer, bytes: number) {
    this.gpu = gpu;
    this.bytes = bytes;
  }
}

export class BufferTable {
  readonly #gpu: Gpu;
  readonly #buffers: (DeviceBuffer | undefined)[] = [undefined];
  readonly #freePointers: number[] = [];
  /** Oldest first. */
  readonly #spare: DeviceBuffer[] = [];
  #spareBytes = 0;
  #bytes = 0;
  #doomed: DeviceBuffer[] = [];
  #recorded: Allocation[] | null = null;

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Of all buffers in use; freed ones that are kept are 4 MiB at most. */
  get bytes(): number {
    return this.#bytes;
  }

  at(pointer: number): DeviceBuffer {
    const buffer = this.#buffers[pointer];
    if (!buffer) throw new Error(`there is no buffer ${pointer} on the device`);
    return buffer;
  }

  /** A buffer's pointer, which is never 0; what the buffer holds is undefined. */
  allocate(bytes: number): number {
    const size = Math.max(4, Math.ceil(bytes / 4) * 4);
    const pointer = this.#freePointers.pop() ?? this.#buffers.length;
    this.#buffers[pointer] = this.#takeSpare(size) ?? this.#create(size);
    this.#bytes += size;
    this.#recorded?.push({ pointer, bytes });
    return pointer;
  }

  /** `batch` is that of commands which aren't submitted yet: they may use the buffer still. */
  free(pointer: number, batch: number): void {
    const buffer = this.at(pointer);
    this.#buffers[pointer] = undefined;
    this.#freePointers.push(pointer);
    this.#bytes -= buffer.bytes;
    if (buffer.bytes > MAX_SPARE_BYTES) this.#discard(buffer, batch);
    else this.#keep(buffer, batch);
  }

  /** Destroys what was freed for good while commands used it, which are submitted now. */
  destroyDoomed(): void {
    if (this.#doomed.length === 0) return;
    for (const buffer of this.#doomed) this.#destroy(buffer);
    this.#doomed = [];
  }

  /** What `make` returns, and what it allocates. */
  recordAllocations<T>(make: () => T): { made: T; allocations: readonly Allocation[] } {
    const allocations: Allocation[] = [];
    this.#recorded = allocations;
    try {
      return { made: make(), allocations };
    } finally {
      this.#recorded = null;
    }
  }

  /** In the place of the oldest ones. */
  #keep(buffer: DeviceBuffer, batch: number): void {
    this.#spare.push(buffer);
    this.#spareBytes += buffer.bytes;
    while (this.#spareBytes > MAX_SPARE_BYTES || this.#spare.length > MAX_SPARE_BUFFERS) {
      const oldest = this.#spare.shift() as DeviceBuffer;
      this.#spareBytes -= oldest.bytes;
      this.#discard(oldest, batch);
    }
  }

  #discard(buffer: DeviceBuffer, batch: number): void {
    if (buffer.batch === batch) this.#doomed.push(buffer);
    else this.#destroy(buffer);
  }

  #takeSpare(size: number): DeviceBuffer | undefined {
    const index = this.#spare.findLastIndex(({ bytes }) => bytes === size);
    if (index < 0) return undefined;
    this.#spareBytes -= size;
    return this.#spare.splice(index, 1)[0];
  }

  #create(size: number): DeviceBuffer {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    return new DeviceBuffer(this.#gpu.createBuffer(size, usage), size);
  }

  #destroy(buffer: DeviceBuffer): void {
    for (const dependent of buffer.dependents) dependent.drop();
    buffer.gpu.destroy();
  }
}
