import assert from "node:assert/strict";
import { test } from "node:test";
import type { ParameterShape } from "../../web/worker/engine/metadata.ts";
import { parseTensors, type TensorRecord, tensorSlices } from "../../web/worker/engine/weights.ts";
import { golden } from "./golden.ts";

interface Weights {
  halves: number[];
  float16: number[];
  bfloat16: number[];
  published: { shard: string; records: TensorRecord[]; expected: Record<string, number[]> };
}

const { halves, float16, bfloat16, published } = golden("weights") as Weights;

function record(dtype: string, format: string, shape: number[], nbytes: number, byteOffset = 0) {
  return { name: "w", dtype, format, shape, nbytes, byteOffset };
}

function words(bytes: Uint8Array): number[] {
  return [...new Uint32Array(Uint8Array.from(bytes).buffer)];
}

type Wanted = ParameterShape["dtype"];

/** What the store's files do. */
function ranges(shard: Uint8Array<ArrayBuffer>) {
  const read = async (offset: number, length: number) => shard.subarray(offset, offset + length);
  return { bytes: shard.length, read };
}

/** A tensor put together from its slices. */
async function tensorBytes(
  shard: Uint8Array<ArrayBuffer>,
  entry: TensorRecord,
  wanted: Wanted,
  sliceBytes?: number,
): Promise<Uint8Array> {
  const { name, shape } = entry;
  return parameterBytes(shard, entry, { name, shape, dtype: wanted }, sliceBytes);
}

/** A parameter put together from its slices. */
async function parameterBytes(
  shard: Uint8Array<ArrayBuffer>,
  entry: TensorRecord,
  parameter: ParameterShape,
  sliceBytes?: number,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let position = 0;
  for await (const { offset, bytes } of tensorSlices(ranges(shard), entry, parameter, sliceBytes)) {
    assert.equal(offset, position);
    position += bytes.length;
    pieces.push(bytes);
  }
  return Buffer.concat(pieces);
}

for (const [kind, dtype, format, expected] of [
  ["float16", "float16", "raw", float16],
  ["bfloat16", "float32", "f32-to-bf16", bfloat16],
] as const) {
  test(`${kind} is widened to float32, wherever it lies in its shard and in whatever slices`, async () => {
    const stored = new Uint8Array(Uint16Array.from(halves).buffer);
    for (const byteOffset of [0, 1, 2]) {
      const shard = new Uint8Array(byteOffset + stored.length);
      shard.set(stored, byteOffset);
      const entry = record(dtype, format, [halves.length], stored.length, byteOffset);
      for (const sliceBytes of [4, 12, stored.length, undefined]) {
        assert.deepEqual(words(await tensorBytes(shard, entry, "float32", sliceBytes)), expected);
      }
    }
  });
}

test("a shard that TVM wrote is read, though its format is noted on tensors of every type", async () => {
  const shard = new Uint8Array(Buffer.from(published.shard, "hex"));
  assert.deepEqual(
    published.records.map(({ dtype, format }) => `${dtype} ${format}`),
    ["uint32 f32-to-bf16", "float16 f32-to-bf16", "float32 f32-to-bf16"],
  );
  for (const entry of published.records) {
    const wanted = entry.dtype === "uint32" ? "uint32" : "float32";
    assert.deepEqual(words(await tensorBytes(shard, entry, wanted)), published.expected[entry.name]);
  }
});

test("a tensor as big as an 8B model's embedding is read in slices of some MiB", async () => {
  const nbytes = 262 << 20;
  const zeros = new Uint8Array(8 << 20);
  let longest = 0;
  const shard = {
    bytes: nbytes + 4,
    read: async (offset: number, length: number) => {
      assert.ok(offset + length <= nbytes + 4);
      longest = Math.max(longest, length);
      return zeros.subarray(0, length);
    },
  };
  const entry = record("float32", "f32-to-bf16", [nbytes / 2], nbytes, 4);
  let total = 0;
  for await (const { bytes } of tensorSlices(shard, entry, { ...entry, dtype: "float32" })) total += bytes.length;
  assert.equal(total, 2 * nbytes);
  assert.ok(longest <= 4 << 20);
});

test("what the library wants as it is stored isn't copied", async () => {
  const shard = new Uint8Array(16);
  const entry = record("uint32", "raw", [2], 8, 8);
  for await (const { bytes } of tensorSlices(ranges(shard), entry, { ...entry, dtype: "uint32" })) {
    assert.equal(bytes.buffer, shard.buffer);
    assert.equal(bytes.byteOffset, 8);
  }
});

test("tensors outside of their shard, or of another type, are refused", async () => {
  const shard = new Uint8Array(8);
  const outside = record("uint32", "raw", [2], 8, 4);
  await assert.rejects(tensorBytes(shard, outside, "uint32"), { code: "bundle_invalid" });
  const narrow = record("float32", "raw", [2], 8);
  await assert.rejects(tensorBytes(shard, narrow, "float16"), { code: "bundle_invalid" });
});

test("a tensor that takes more or fewer bytes than its shape is refused", async () => {
  const shard = new Uint8Array(64);
  for (const nbytes of [0, 4, 12]) {
    const entry = record("uint32", "raw", [2], nbytes);
    await assert.rejects(tensorBytes(shard, entry, "uint32"), { code: "bundle_invalid" });
  }
});

test("all missing and misshapen parameters are named at once", () => {
  const records = [record("uint32", "raw", [2, 3], 24)];
  const cache = { records: [{ dataPath: "a.bin", nbytes: 24, records }] };
  const wanted = [
    { name: "w", shape: [3, 2], dtype: "uint32" as const },
    { name: "v", shape: [1], dtype: "float32" as const },
  ];
  assert.throws(
    () => parseTensors(cache, wanted),
    ({ code, message }) =>
      code === "bundle_invalid" && message.includes("v is missing") && message.includes("2 x 3"),
  );
});

test("what is no list of shards is no tensor-cache.json", () => {
  const tensor = { name: "a", shape: [2], dtype: "float32", format: "raw", nbytes: 8, byteOffset: 0 };
  const shard = { dataPath: "params_shard_0.bin", nbytes: 8, records: [tensor] };
  assert.equal(parseTensors({ records: [shard] }, []).records.length, 1);
  const broken = Object.keys(tensor).map((field) => ({ ...shard, records: [{ ...tensor, [field]: null }] }));
  const wrong = [null, {}, { ...shard, dataPath: 3 }, { ...shard, records: [null] }, ...broken];
  for (const records of [undefined, "x", ...wrong.map((shard) => [shard])]) {
    assert.throws(() => parseTensors({ records }, []), { code: "bundle_invalid" }, JSON.stringify(records));
  }
});

test("a parameter is some rows of a tensor, wherever that lies and in whatever slices", async () => {
  const rows = [[1, 2], [3, 4], [5, 6], [7, 8]];
  const shard = new Uint8Array(Uint32Array.from([9, ...rows.flat()]).buffer);
  const entry = record("uint32", "raw", [4, 2], 32, 4);
  for (const sliceBytes of [4, 12, undefined]) {
    const piece = { name: "w", shape: [2, 2], dtype: "uint32", first_row: 1 } as const;
    assert.deepEqual(words(await parameterBytes(shard, entry, piece, sliceBytes)), [3, 4, 5, 6]);
  }
  const index = { records: [{ dataPath: "a", nbytes: 36, records: [entry] }] };
  const wanted = (shape: number[], first_row: number): ParameterShape => ({ name: "w", shape, dtype: "uint32", first_row });
  assert.ok(parseTensors(index, [wanted([2, 2], 2)]));
  for (const refused of [wanted([2, 2], 3), wanted([2, 1], 0)]) {
    assert.throws(() => parseTensors(index, [refused]), { code: "bundle_invalid", message: /from row/ });
  }
});
