/** A library's functions that draw tokens, with the tensors that they are called with again and again. */
import type { Instance, PackedFunc, Tensor, VirtualMachine } from "@mlc-ai/web-runtime";
import { type Adjustments, Drawn, type DrawRequest } from "./drawing.ts";
import type { GpuDispatcher } from "./gpu/dispatcher.ts";

const WORD_BYTES = 4;

/** What tvmjs's types keep private. */
interface Placed {
  readonly byteOffset: number;
}

/** A tensor on the device, and what it holds. */
interface Mirrored {
  readonly tensor: Tensor;
  readonly words: Int32Array<ArrayBuffer>;
}

export class DeviceDraws {
  /** int32[1] on the device: what was drawn last. */
  readonly token: Tensor;
  readonly #tvm: Instance;
  readonly #device: GpuDispatcher;
  readonly #vocabSize: number;
  readonly #adjust: PackedFunc;
  readonly #draw: PackedFunc;
  #settings: Mirrored | null = null;
  /** int32[n] and float32[n, 2]. */
  #adjustments: { readonly ids: Mirrored; readonly values: Mirrored } | null = null;

  /** Lives as long as the instance; within a scope of TVM's. */
  constructor(tvm: Instance, device: GpuDispatcher, vm: VirtualMachine, vocabSize: number) {
    this.#tvm = tvm;
    this.#device = device;
    this.#vocabSize = vocabSize;
    this.#adjust = tvm.detachFromCurrentScope(vm.getFunction("adjust_logits"));
    this.#draw = tvm.detachFromCurrentScope(vm.getFunction("draw_token"));
    this.token = this.#onDevice([1], "int32");
  }

  /**
   * Begins to draw by float32[1, 1, vocabulary] on the device, which are adjusted in place; within a scope of TVM's.
   * What it returns gives the token once the device has settled.
   */
  launch(logits: Tensor, request: DrawRequest): () => Drawn {
    const { settings, adjustments } = request;
    const all = logits.view([this.#vocabSize]);
    this.#settings ??= this.#mirrored([settings.length], "float32");
    this.#update(this.#settings, settings);
    if (adjustments) this.#adjust(all, ...this.#updated(adjustments));
    const drawn = this.#draw(all, this.#settings.tensor) as Tensor;
    const [pointer, offset] = [drawn.getDataPtr(), (drawn as unknown as Placed).byteOffset];
    const words = new Int32Array(drawn.shape[0] ?? 0);
    this.#device.copy(pointer, offset, this.token.getDataPtr(), 0, WORD_BYTES);
    this.#device.read(pointer, [offset], words.byteLength, (bytes) => new Uint8Array(words.buffer).set(bytes));
    return () => new Drawn(words, request);
  }

  #updated({ ids, values }: Adjustments): [Tensor, Tensor] {
    if (this.#adjustments?.ids.words.length !== ids.length) {
      this.#adjustments?.ids.tensor.dispose();
      this.#adjustments?.values.tensor.dispose();
      this.#adjustments = {
        ids: this.#mirrored([ids.length], "int32"),
        values: this.#mirrored([ids.length, 2], "float32"),
      };
    }
    const mirrored = this.#adjustments;
    this.#update(mirrored.ids, ids);
    this.#update(mirrored.values, values);
    return [mirrored.ids.tensor, mirrored.values.tensor];
  }

  #mirrored(shape: number[], dtype: string): Mirrored {
    const words = new Int32Array(shape.reduce((product, extent) => product * extent, 1));
    const tensor = this.#onDevice(shape, dtype);
    this.#write(tensor, words, 0);
    return { tensor, words };
  }

  /** Writes what differs, from the first number to the last one: from token to token that is little. */
  #update({ tensor, words }: Mirrored, numbers: Int32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): void {
    const wanted = new Int32Array(numbers.buffer, numbers.byteOffset, numbers.length);
    let from = 0;
    let to = words.length;
    while (from < to && words[from] === wanted[from]) from += 1;
    while (from < to && words[to - 1] === wanted[to - 1]) to -= 1;
    if (from === to) return;
    words.set(wanted.subarray(from, to), from);
    this.#write(tensor, wanted.subarray(from, to), from);
  }

  #onDevice(shape: number[], dtype: string): Tensor {
    return this.#tvm.detachFromCurrentScope(this.#tvm.empty(shape, dtype, this.#tvm.webgpu()));
  }

  #write(tensor: Tensor, words: Int32Array<ArrayBuffer>, place: number): void {
    const bytes = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
    this.#device.write(tensor.getDataPtr(), WORD_BYTES * place, bytes);
  }
}
