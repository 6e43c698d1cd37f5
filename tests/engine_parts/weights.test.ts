import assert from "node:assert/strict";
import { test } from "node:test";
import { checkTensors, tensorBytes, type TensorRecord } from "../../web/worker/engine/weights.ts";
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
  return [...new Uint32Array(bytes.slice().buffer)];
}

for (const [kind, dtype, format, expected] of [
  ["float16", "float16", "raw", float16],
  ["bfloat16", "float32", "f32-to-bf16", bfloat16],
] as const) {
  test(`${kind} is widened to float32, wherever it lies in its shard`, () => {
    const stored = new Uint8Array(Uint16Array.from(halves).buffer);
    for (const byteOffset of [0, 1, 2]) {
      const shard = new Uint8Array(byteOffset + stored.length);
      shard.set(stored, byteOffset);
      const entry = record(dtype, format, [halves.length], stored.length, byteOffset);
      assert.deepEqual(words(tensorBytes(shard, entry, "float32")), expected);
    }
  });
}

test("a shard that TVM wrote is read, though its format is noted on tensors of every type", () => {
  const shard = new Uint8Array(Buffer.from(published.shard, "hex"));
  assert.deepEqual(
    published.records.map(({ dtype, format }) => `${dtype} ${format}`),
    ["uint32 f32-to-bf16", "float16 f32-to-bf16", "float32 f32-to-bf16"],
  );
  for (const entry of published.records) {
    const wanted = entry.dtype === "uint32" ? "uint32" : "float32";
    assert.deepEqual(words(tensorBytes(shard, entry, wanted)), published.expected[entry.name]);
  }
});

test("what the library wants as it is stored isn't copied", () => {
  const shard = new Uint8Array(16);
  const bytes = tensorBytes(shard, record("uint32", "raw", [2], 8, 8), "uint32");
  assert.equal(bytes.buffer, shard.buffer);
  assert.equal(bytes.byteOffset, 8);
});

test("tensors outside of their shard, or of another type, are refused", () => {
  const shard = new Uint8Array(8);
  const outside = record("uint32", "raw", [2], 8, 4);
  assert.throws(() => tensorBytes(shard, outside, "uint32"), { code: "bundle_invalid" });
  const narrow = record("float32", "raw", [2], 8);
  assert.throws(() => tensorBytes(shard, narrow, "float16"), { code: "bundle_invalid" });
});

test("a tensor that takes more or fewer bytes than its shape is refused", () => {
  const shard = new Uint8Array(64);
  for (const nbytes of [0, 4, 12]) {
    const entry = record("uint32", "raw", [2], nbytes);
    assert.throws(() => tensorBytes(shard, entry, "uint32"), { code: "bundle_invalid" });
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
    () => checkTensors(cache, wanted),
    ({ code, message }) =>
      code === "bundle_invalid" && message.includes("v is missing") && message.includes("2 x 3"),
  );
});
