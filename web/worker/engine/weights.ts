/** tensor-cache.json and its shards: from stored bytes to the bytes that a library wants. */
import { EngineError } from "../shared/errors.ts";
import type { Bytes } from "../shared/hash.ts";
import { isObject } from "./bundle-errors.ts";
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

/** tensor-cache.json, in which every parameter is stored, in the right shape. Throws "bundle_invalid". */
export function parseTensors(content: object, parameters: readonly ParameterShape[]): TensorCache {
  const cache = content as TensorCache;
  const shards = Array.isArray(cache.records) ? cache.records : [null];
  if (!shards.every(isShard)) throw invalid("tensor-cache.json is no list of shards and their tensors");
  const stored = new Map(cache.records.flatMap(({ records }) => records).map((r) => [r.name, r]));
  const problems = parameters.flatMap((parameter) => {
    const { name, shape, first_row: row } = parameter;
    const record = stored.get(name);
    if (!record) return [`${name} is missing`];
    if (holds(record, parameter)) return [];
    const from = row === undefined ? "" : ` from row ${row} on`;
    return [`${name} is ${record.shape.join(" x ")}, not ${shape.join(" x ")}${from}`];
  });
  if (problems.length > 0) throw invalid(problems.join("; "));
  return cache;
}

function holds({ shape: stored }: TensorRecord, { shape, first_row: row }: ParameterShape): boolean {
  if (row === undefined) return String(stored) === String(shape);
  const [rows = 0, ...width] = shape;
  return row + rows <= (stored[0] ?? 0) && String(stored.slice(1)) === String(width);
}

function isShard(shard: unknown): boolean {
  return (
    isObject(shard) && typeof shard["dataPath"] === "string" &&
    Array.isArray(shard["records"]) && shard["records"].every(isTensor)
  );
}

function isTensor(record: unknown): boolean {
  if (!isObject(record)) return false;
  const { name, shape, dtype, format, nbytes, byteOffset } = record;
  const isCount = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
  return (
    [name, dtype, format].every((field) => typeof field === "string") &&
    [nbytes, byteOffset].every(isCount) && Array.isArray(shape) && shape.every(isCount)
  );
}

/** A multiple of every element's size; what is on its way to the device at once. */
const SLICE_BYTES = 4 << 20;

/** Bytes of an element. */
const ITEM_BYTES: Readonly<Record<string, number>> = {
  uint8: 1,
  float16: 2,
  bfloat16: 2,
  uint32: 4,
  float32: 4,
};

/** How a tensor's stored bytes become those of its parameter. */
export interface Conversion {
  /** Bytes of an element, stored and on the device. */
  readonly storedItem: number;
  readonly item: number;
  /** A whole number of elements; the same array if nothing must be converted. */
  readonly convert: (stored: Bytes) => Bytes;
}

/** Checks where a tensor lies in its shard, and that the library can take it. Throws "bundle_invalid". */
export function conversionOf(
  { name, shape, dtype, format, byteOffset, nbytes }: TensorRecord,
  wanted: ParameterShape["dtype"],
  shardBytes: number,
): Conversion {
  if (byteOffset < 0 || nbytes < 0 || byteOffset + nbytes > shardBytes) {
    throw invalid(`${name} lies outside of its shard`);
  }
  // TVM's writer notes the format on tensors of every type, and encodes those of float32 alone.
  const stored = format === "f32-to-bf16" && dtype === "float32" ? "bfloat16" : dtype;
  const storedItem = ITEM_BYTES[stored] ?? NaN;
  const needed = bytesOf(shape, storedItem);
  if (nbytes !== needed) throw invalid(`${name} takes ${nbytes} bytes, not ${needed}`);
  const item = ITEM_BYTES[wanted] ?? NaN;
  if (stored === wanted) return { storedItem, item, convert: (bytes) => bytes };
  const bits = wanted === "float32" ? TO_FLOAT32[stored] : undefined;
  if (bits) return { storedItem, item, convert: (bytes) => widen(bytes, bits) };
  throw invalid(`${name} is stored as ${stored}, but the library wants ${wanted}`);
}

/** A piece of a parameter, in the type in which the device gets it. */
export interface Slice {
  /** Where in the parameter its bytes lie. */
  readonly offset: number;
  readonly bytes: Bytes;
}

/** Of a shard, what `tensorSlices` needs. */
export interface Ranges {
  readonly bytes: number;
  read(offset: number, length: number): Promise<Bytes>;
}

/** What a parameter is of a tensor, piece by piece as they are read, each of at most `sliceBytes` stored bytes. */
export async function* tensorSlices(
  shard: Ranges,
  record: TensorRecord,
  wanted: ParameterShape,
  sliceBytes = SLICE_BYTES,
): AsyncGenerator<Slice, void> {
  const { storedItem, item, convert } = conversionOf(record, wanted.dtype, shard.bytes);
  const byteOffset = record.byteOffset + (wanted.first_row ?? 0) * bytesOf(wanted.shape.slice(1), storedItem);
  const nbytes = bytesOf(wanted.shape, storedItem);
  for (let begin = 0; begin < nbytes; begin += sliceBytes) {
    const stored = await shard.read(byteOffset + begin, Math.min(sliceBytes, nbytes - begin));
    yield { offset: (begin / storedItem) * item, bytes: convert(stored) };
  }
}

function bytesOf(shape: readonly number[], item: number): number {
  return shape.reduce((product, extent) => product * extent, item);
}

/** Turns 16-bit floats into the bits of 32-bit floats. */
function widen(bytes: Bytes, bits: (half: number) => number): Bytes {
  // A shard may begin a tensor at an odd address, which Uint16Array refuses.
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  const halves = new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.length / 2);
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = bits(halves[i] ?? 0);
  return new Uint8Array(words.buffer);
}

/** Bits of a float32, by the type that is widened. */
const TO_FLOAT32: Readonly<Record<string, (half: number) => number>> = {
  bfloat16: (half) => half << 16,
  float16: float16Bits,
};

function invalid(problem: string): EngineError {
  return new EngineError({
    code: "bundle_invalid",
    message: `The bundle's weights can't be used: ${problem}.`,
    remedy: "Build the bundle again with `mlc-edge build`.",
  });
}
