/** A library's functions that draw tokens, with the tensors that they are called with again and again. */
import type { Instance, PackedFunc, Tensor, VirtualMachine } from "@mlc-ai/web-runtime";
import { type Adjustments, Drawn, type DrawRequest } from "./drawing.ts";
import type { GpuDispatcher } from "./gpu/dispatcher.ts";

const TOKEN_BYTES = 4;

/** What tvmjs's types keep private. */
interface Placed {
  readonly byteOffset: number;
}

export class DeviceDraws {
  /** int32[1] on the device: what was drawn last. */
  readonly token: Tensor;
  readonly #tvm: Instance;
  readonly #device: GpuDispatcher;
  readonly #vocabSize: number;
  readonly #adjust: PackedFunc;
  readonly #draw: PackedFunc;
  #settings: Tensor | null = null;
  /** int32[n] and float32[n, 2], on the device. */
  #adjustments: { readonly ids: Tensor; readonly values: Tensor } | null = null;

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
    this.#settings ??= this.#onDevice([settings.length], "float32");
    this.#write(this.#settings, settings);
    if (adjustments) this.#adjust(all, ...this.#written(adjustments));
    const drawn = this.#draw(all, this.#settings) as Tensor;
    const [pointer, offset] = [drawn.getDataPtr(), (drawn as unknown as Placed).byteOffset];
    const words = new Int32Array(drawn.shape[0] ?? 0);
    this.#device.copy(pointer, offset, this.token.getDataPtr(), 0, TOKEN_BYTES);
    this.#device.read(pointer, [offset], words.byteLength, (bytes) => new Uint8Array(words.buffer).set(bytes));
    return () => new Drawn(words, request);
  }

  #written({ ids, values }: Adjustments): [Tensor, Tensor] {
    if (this.#adjustments?.ids.shape[0] !== ids.length) {
      this.#adjustments?.ids.dispose();
      this.#adjustments?.values.dispose();
      this.#adjustments = {
        ids: this.#onDevice([ids.length], "int32"),
        values: this.#onDevice([ids.length, 2], "float32"),
      };
    }
    const tensors = this.#adjustments;
    this.#write(tensors.ids, ids);
    this.#write(tensors.values, values);
    return [tensors.ids, tensors.values];
  }

  #onDevice(shape: number[], dtype: string): Tensor {
    return this.#tvm.detachFromCurrentScope(this.#tvm.empty(shape, dtype, this.#tvm.webgpu()));
  }

  #write(tensor: Tensor, { buffer, byteOffset, byteLength }: Int32Array<ArrayBuffer> | Float32Array<ArrayBuffer>): void {
    this.#device.write(tensor.getDataPtr(), 0, new Uint8Array(buffer, byteOffset, byteLength));
  }
}
