/** tensor-cache.json and its shards: from stored bytes to the bytes that a library wants. */
import { EngineError } from "../shared/errors.ts";
import { float16Bits } from "./float-types.ts";
import type { ParameterShape } from "./metadata.ts";

export interface TensorRecord {
  name: string;
  shape: number[];
  dtype: string;
  /** "raw", or "f32-to-bf16": float32 as its upper halves, and other types as they are. */
  format: string;
  nbytes: number;
  byteOffset: number;
}

export interface TensorCache {
  records: { dataPath: string; nbytes: number; records: TensorRecord[] }[];
}

/** Checks that every parameter is stored once, in the right shape. Throws "bundle_invalid". */
export function checkTensors(cache: TensorCache, parameters: readonly ParameterShape[]): void {
  const stored = new Map(cache.records.flatMap(({ records }) => records).map((r) => [r.name, r]));
  const problems = parameters.flatMap(({ name, shape }) => {
    const record = stored.get(name);
    if (!record) return [`${name} is missing`];
    if (String(record.shape) === String(shape)) return [];
    return [`${name} is ${record.shape.join(" x ")}, not ${shape.join(" x ")}`];
  });
  if (problems.length > 0) throw invalid(problems.join("; "));
}

/** Bytes of an element in a shard. */
const ITEM_BYTES: Readonly<Record<string, number>> = {
  uint8: 1,
  float16: 2,
  bfloat16: 2,
  uint32: 4,
  float32: 4,
};

/** A tensor's bytes in the type `wanted`; a view of `shard` if nothing must be converted. */
export function tensorBytes(
  shard: Uint8Array<ArrayBuffer>,
  { name, shape, dtype, format, byteOffset, nbytes }: TensorRecord,
  wanted: ParameterShape["dtype"],
): Uint8Array<ArrayBuffer> {
  if (byteOffset < 0 || nbytes < 0 || byteOffset + nbytes > shard.length) {
    throw invalid(`${name} lies outside of its shard`);
  }
  const bytes = shard.subarray(byteOffset, byteOffset + nbytes);
  // TVM's writer notes the format on tensors of every type, and encodes those of float32 alone.
  const stored = format === "f32-to-bf16" && dtype === "float32" ? "bfloat16" : dtype;
  const needed = shape.reduce((product, extent) => product * extent, ITEM_BYTES[stored] ?? NaN);
  if (nbytes !== needed) throw invalid(`${name} takes ${nbytes} bytes, not ${needed}`);
  if (stored === wanted) return bytes;
  if (wanted === "float32" && stored === "bfloat16") return widen(bytes, bfloat16);
  if (wanted === "float32" && stored === "float16") return widen(bytes, float16Bits);
  throw invalid(`${name} is stored as ${stored}, but the library wants ${wanted}`);
}

/** Turns 16-bit floats into the bits of 32-bit floats. */
function widen(bytes: Uint8Array<ArrayBuffer>, bits: (half: number) => number): Uint8Array<ArrayBuffer> {
  // A shard may begin a tensor at an odd address, which Uint16Array refuses.
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.length / 2);
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = bits(halves[i] ?? 0);
  return new Uint8Array(words.buffer);
}

const bfloat16 = (half: number): number => half << 16;

function invalid(problem: string): EngineError {
  return new EngineError({
    code: "bundle_invalid",
    message: `The bundle's weights can't be used: ${problem}.`,
    remedy: "Build the bundle again with `mlc-edge build`.",
  });
}
