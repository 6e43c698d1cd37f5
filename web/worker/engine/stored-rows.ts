/** Rows of weights, kept while they're uploaded: what a library's kernels must agree with. */
import { decodeFloats } from "./float-types.ts";
import type { LinearResult, Metadata, ParameterShape, StoredWeight } from "./metadata.ts";
import type { Slice } from "./weights.ts";

/** Outputs of a product that are compared: the first, the last, and what lies evenly between. */
export const COMPARED = 16;
const GROUP = 32;
const ZERO_POINTS = { q4: 7, q4m: 0, q8: 128 } as const;

/** Up to `wanted` numbers below `count`: 0, count - 1, and what lies evenly between. */
export function spread(count: number, wanted = COMPARED): number[] {
  const kept = Math.min(count, wanted);
  return Array.from({ length: kept }, (_, i) => Math.floor((i * (count - 1)) / Math.max(kept - 1, 1)));
}

/** Rows of a weight that results are compared with: one a result, or gate and up. */
export function comparedRows({ out_features: rows, gated = false }: LinearResult): number[][] {
  if (!gated) return spread(rows).map((row) => [row]);
  return spread(rows / 2).map((row) => [row, rows / 2 + row]);
}

export class StoredRows {
  /** Rows to keep of each parameter; null for all. */
  readonly #wanted = new Map<string, Set<number> | null>();
  readonly #kept = new Map<string, Map<number, Uint8Array>>();
  readonly #types: ReadonlyMap<string, ParameterShape["dtype"]>;

  constructor({ params, self_test: test }: Pick<Metadata, "params" | "self_test">) {
    this.#types = new Map(params.map(({ name, dtype }) => [name, dtype]));
    for (const result of test.results) {
      if (result.kind === "rms_norm") this.#wanted.set(result.parameters[0], null);
      if (result.kind === "linear") {
        this.#want(result, comparedRows(result).flat());
        if (result.norm) this.#wanted.set(result.norm.parameters[0], null);
      }
    }
    this.#want(test.embedding, spread(test.embedding.out_features, test.embedding.rows));
  }

  /** Takes what is wanted of a piece of a parameter, in the type in which the device gets it. */
  keep({ name, shape, dtype, first_row: first = 0 }: ParameterShape, slice: Slice): void {
    const wanted = this.#wanted.get(name);
    if (wanted === undefined) return;
    const { bytes } = slice;
    const rows = wanted === null ? 1 : (shape[0] ?? 1);
    const size = shape.reduce((product, extent) => product * extent, dtype === "float16" ? 2 : 4) / rows;
    const offset = slice.offset + first * size;
    const kept = this.#kept.get(name) ?? new Map<number, Uint8Array>();
    this.#kept.set(name, kept);
    for (const row of wanted ?? [0]) {
      const begin = Math.max(row * size, offset);
      const end = Math.min((row + 1) * size, offset + bytes.length);
      if (begin >= end) continue;
      const whole = kept.get(row) ?? new Uint8Array(size);
      whole.set(bytes.subarray(begin - offset, end - offset), begin - row * size);
      kept.set(row, whole);
    }
  }

  /** A parameter with one axis. */
  vector(name: string): Float64Array {
    return Float64Array.from(this.#floats(name, 0));
  }

  /** One row of a weight, [in_features]. */
  row({ parameters, layout, in_features: width }: StoredWeight, row: number): Float64Array {
    const [weight = "", scale = "", minimum] = parameters;
    if (layout === "plain") return Float64Array.from(this.#floats(weight, row));
    const words = new Uint32Array(this.#bytes(weight, row).slice().buffer);
    const scales = this.#floats(scale, row);
    const minimums = minimum === undefined ? undefined : this.#floats(minimum, row);
    const bits = layout === "q8" ? 8 : 4;
    const perWord = 32 / bits;
    return Float64Array.from({ length: width }, (_, k) => {
      const word = words[Math.floor(k / perWord)] ?? 0;
      const level = (word >>> (bits * (k % perWord))) & (2 ** bits - 1);
      const group = Math.floor(k / GROUP);
      const value = (level - ZERO_POINTS[layout]) * (scales[group] ?? Number.NaN);
      return minimums ? value + (minimums[group] ?? Number.NaN) : value;
    });
  }

  #want({ parameters }: StoredWeight, rows: readonly number[]): void {
    for (const name of parameters) {
      const before = this.#wanted.get(name) ?? [];
      this.#wanted.set(name, new Set([...before, ...rows]));
    }
  }

  #floats(name: string, row: number): Float32Array {
    const dtype = this.#types.get(name) === "float16" ? "float16" : "float32";
    return decodeFloats(this.#bytes(name, row), dtype);
  }

  #bytes(name: string, row: number): Uint8Array {
    const bytes = this.#kept.get(name)?.get(row);
    if (!bytes) throw new Error(`row ${row} of ${name} wasn't kept`);
    return bytes;
  }
}
