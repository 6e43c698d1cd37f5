/** The sequences of TVM's paged KV cache, and the pages on the device that have their keys and values. */
import type { Instance, PackedFunc, TVMObject } from "@mlc-ai/web-runtime";
import type { Bytes } from "../shared/hash.ts";
import type { GpuDispatcher } from "./gpu/dispatcher.ts";
import { PAGE_TOKENS, pagesOf, type KvStore } from "./kv-cache.ts";
import type { Metadata } from "./metadata.ts";

const STATE_FUNCTIONS = ["add_sequence", "remove_sequence", "begin_forward", "end_forward", "popn"] as const;
/** Begins a step as `begin_forward` does, and says where its keys and values go. */
const RESERVE = "vm.builtin.kv_cache_disagg_prepare_recv";
/** Of TVM's objects in memory, before what they hold. */
const OBJECT_HEADER_BYTES = 24;
const POINTER_BYTES = 4;
const INT64_BYTES = 8;
const MAX_COPY_BYTES = 1 << 20;

type Functions = Record<(typeof STATE_FUNCTIONS)[number] | "reserve", PackedFunc>;

/**
 * Each sequence has whole pages for itself. TVM's own fork would share them, and compute shared and own
 * pages apart from then on: slower at every token, and with other bits.
 */
export class KvPages implements KvStore {
  readonly totalPages: number;
  /** Of a page, its keys and values in one layer. */
  readonly pageBytes: number;
  readonly #tvm: Instance;
  readonly #device: GpuDispatcher;
  readonly #functions: Functions;
  readonly #kv: TVMObject;
  /** For each layer, the pointer to [page, 2, kv_heads, page_tokens, head_dim] on the device. */
  readonly #layers: readonly number[];
  /** Of a token, its keys or its values of one head. */
  readonly #tokenBytes: number;
  readonly #largestChunk: number;
  readonly #sequences = new Map<number, { length: number; readonly pages: number[] }>();

  /** Lives as long as the instance; `create` is the library's function. */
  constructor(tvm: Instance, device: GpuDispatcher, create: PackedFunc, metadata: Metadata) {
    const { context_window_size: tokens, prefill_chunk_size: chunk, kv_cache: shape } = metadata;
    const element = metadata.dtype === "float16" ? 2 : 4;
    this.#tvm = tvm;
    this.#device = device;
    this.#largestChunk = chunk;
    this.#functions = functionsOf(tvm);
    // One more, because TVM's runtime has it.
    this.totalPages = pagesOf(tokens) + 1;
    this.#tokenBytes = shape.head_dim * element;
    this.pageBytes = 2 * shape.num_key_value_heads * PAGE_TOKENS * this.#tokenBytes;
    // TVM tells nobody where its pages are.
    const { made, allocations } = device.recordAllocations(() =>
      // No step has more than one sequence.
      create(...[1, tokens, chunk, PAGE_TOKENS, 0].map((size) => tvm.makeShapeTuple([size]))),
    );
    this.#kv = tvm.detachFromCurrentScope(made as TVMObject);
    const layer = this.totalPages * this.pageBytes;
    this.#layers = allocations.filter(({ bytes }) => bytes === layer).map(({ pointer }) => pointer);
    const { length } = this.#layers;
    if (length !== shape.num_hidden_layers) {
      throw new Error(`the KV cache has ${length} buffers of ${layer} bytes, not ${shape.num_hidden_layers}`);
    }
  }

  /** What the compiled functions take, between `beginStep` and `endStep`. */
  get object(): TVMObject {
    return this.#kv;
  }

  addSequence(number: number): void {
    this.#functions.add_sequence(this.#kv, this.#tvm.scalar(number, "int64"));
    this.#sequences.set(number, { length: 0, pages: [] });
  }

  removeSequence(number: number): void {
    this.#sequences.delete(number);
    this.#functions.remove_sequence(this.#kv, this.#tvm.scalar(number, "int64"));
  }

  popTokens(number: number, count: number): void {
    const sequence = this.#of(number);
    sequence.length -= count;
    sequence.pages.length = pagesOf(sequence.length);
    const tvm = this.#tvm;
    this.#functions.popn(this.#kv, tvm.scalar(number, "int64"), tvm.scalar(count, "int32"));
  }

  reserve(number: number, count: number): void {
    for (let done = 0; done < count; done += this.#largestChunk) {
      this.beginStep(number, Math.min(this.#largestChunk, count - done));
      this.endStep();
    }
  }

  forkSequence(parent: number, child: number, length: number): void {
    this.addSequence(child);
    this.reserve(child, length);
    const { pages } = this.#of(child);
    const copied = this.#of(parent).pages.slice(0, pages.length);
    for (const layer of this.#layers) this.#copyPages(layer, copied, pages);
  }

  /** Makes room for `count` more tokens of a sequence, which the functions then fill. */
  beginStep(number: number, count: number): void {
    const tvm = this.#tvm;
    const sequence = this.#of(number);
    const { length, pages } = sequence;
    sequence.length += count;
    if (pagesOf(sequence.length) === pages.length) {
      const [sequences, lengths] = [[number], [count]].map((shape) => tvm.makeShapeTuple(shape));
      this.#functions.begin_forward(this.#kv, sequences, lengths);
      return;
    }
    tvm.withNewScope(() => {
      const sizes = [tvm.scalar(number, "int64"), tvm.scalar(count, "int32")];
      const runs = this.#integers(this.#functions.reserve(this.#kv, ...sizes) as TVMObject);
      for (const [index, place] of placesOf(runs).entries()) {
        if ((length + index) % PAGE_TOKENS === 0) pages.push(place / PAGE_TOKENS);
      }
    });
  }

  endStep(): void {
    this.#functions.end_forward(this.#kv);
  }

  /** Bytes of a sequence of so many tokens in one layer. */
  layerBytes(tokens: number): number {
    return pagesOf(tokens) * this.pageBytes;
  }

  get layers(): number {
    return this.#layers.length;
  }

  /** Keys and values in one layer, [page, 2, kv_heads, page_tokens, head_dim]; 0 beyond the last token. */
  async read(number: number, layer: number): Promise<Bytes> {
    const { length, pages } = this.#of(number);
    const bytes = new Uint8Array(pages.length * this.pageBytes);
    const offsets = pages.map((page) => page * this.pageBytes);
    this.#device.read(this.#pointer(layer), offsets, this.pageBytes, (read) => bytes.set(read));
    await this.#device.settle();
    if (length % PAGE_TOKENS > 0) this.#clearFrom(length % PAGE_TOKENS, bytes.subarray(-this.pageBytes));
    return bytes;
  }

  /** What `read` gave, for a sequence of as many tokens. */
  write(number: number, layer: number, bytes: Bytes): void {
    const { length, pages } = this.#of(number);
    if (bytes.length !== this.layerBytes(length)) throw new Error(`${bytes.length} bytes are no layer`);
    for (const [index, page] of pages.entries()) {
      const part = bytes.subarray(index * this.pageBytes, (index + 1) * this.pageBytes);
      this.#device.write(this.#pointer(layer), page * this.pageBytes, part);
    }
  }

  #pointer(layer: number): number {
    const pointer = this.#layers[layer];
    if (pointer === undefined) throw new Error(`there is no layer ${layer}`);
    return pointer;
  }

  /** Overwrites what another text may have left in a page after so many tokens. */
  #clearFrom(tokens: number, page: Uint8Array): void {
    const headBytes = PAGE_TOKENS * this.#tokenBytes;
    for (let head = 0; head < page.length; head += headBytes) {
      page.fill(0, head + tokens * this.#tokenBytes, head + headBytes);
    }
  }

  #of(number: number): { length: number; readonly pages: number[] } {
    const sequence = this.#sequences.get(number);
    if (!sequence) throw new Error(`there is no sequence ${number}`);
    return sequence;
  }

  /** By way of another buffer: WebGPU copies nothing within one. */
  #copyPages(layer: number, from: readonly number[], to: readonly number[]): void {
    const device = this.#device;
    const bytes = this.pageBytes;
    const atOnce = Math.max(1, Math.floor(MAX_COPY_BYTES / bytes));
    const between = device.allocate(Math.min(atOnce, to.length) * bytes);
    for (let start = 0; start < to.length; start += atOnce) {
      const end = start + atOnce;
      for (const [index, page] of from.slice(start, end).entries()) {
        device.copy(layer, page * bytes, between, index * bytes, bytes);
      }
      for (const [index, page] of to.slice(start, end).entries()) {
        device.copy(between, index * bytes, layer, page * bytes, bytes);
      }
    }
    device.free(between);
  }

  /** The elements of an ffi.Shape: int64* data and a size, as tvm-ffi's TVMFFIShapeCell has them. */
  #integers(shape: TVMObject): number[] {
    const { memory } = this.#tvm;
    const cell = shape.getHandle() + OBJECT_HEADER_BYTES;
    const [data, size] = [memory.loadPointer(cell), memory.loadUSize(cell + POINTER_BYTES)];
    return Array.from({ length: size }, (_, index) => memory.loadI64(data + index * INT64_BYTES));
  }
}

function functionsOf(tvm: Instance): Functions {
  const get = (name: string): PackedFunc => tvm.detachFromCurrentScope(tvm.getGlobalFunc(name));
  const state = STATE_FUNCTIONS.map((name) => [name, get(`vm.builtin.kv_state_${name}`)]);
  return { ...Object.fromEntries(state), reserve: get(RESERVE) } as Functions;
}

/** Positions in the pool, out of [runs, first, length, first, length, ...]. */
function placesOf(runs: readonly number[]): number[] {
  const places: number[] = [];
  for (let run = 0; run < (runs[0] ?? 0); run++) {
    const [first = 0, length = 0] = runs.slice(1 + 2 * run);
    for (let place = first; place < first + length; place++) places.push(place);
  }
  return places;
}
