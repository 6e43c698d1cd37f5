import assert from "node:assert/strict";
import { test } from "node:test";
import { selfTest } from "../../web/worker/engine/self-test.ts";

const PREFILL = 3;
const WIDTH = (2 + 2 * 1) * 4;
const refused = { code: "self_test_failed" };

/** A device that computes these values, where 2, -4 and 1, 0 are right. */
function deviceOf({ product = [2, -4], attended = [1, 0] }: { product?: number[]; attended?: number[] }) {
  const steps: number[][] = [];
  const inputs = [{ shape: [1], dtype: "float32", data: [7] }];
  const subject = {
    metadata: {
      kv_cache: { num_attention_heads: 2, num_key_value_heads: 1, head_dim: 4 },
      self_test: {
        matmul: { inputs, expected: [2, -4], atol: 0.01, rtol: 0.01 },
        attention: { prefill_length: PREFILL, expected_decode: [1, 0], atol: 0.01, rtol: 0 },
      },
    },
    multiply: async (given: unknown) => {
      assert.deepEqual(given, inputs);
      return Float32Array.from(product);
    },
    attend: async (rows: readonly Float32Array[]) => {
      steps.push(...rows.map((row) => [...row]));
      return Float32Array.from(attended);
    },
  };
  return { subject: subject as any, steps };
}

test("a device that computes within the tolerance passes", async () => {
  await selfTest(deviceOf({}).subject);
  await selfTest(deviceOf({ product: [2.02, -4.04], attended: [1.009, -0.009] }).subject);
});

test("a device that computes otherwise is refused, whatever comes out", async () => {
  for (const product of [[2.1, -4], [2, 4], [2, -4.06], [NaN, -4], [2, Infinity], [2], []]) {
    await assert.rejects(selfTest(deviceOf({ product }).subject), refused, String(product));
  }
  for (const attended of [[1.02, 0], [1, 0.02], [1, NaN], []]) {
    await assert.rejects(selfTest(deviceOf({ attended }).subject), refused, String(attended));
  }
});

test("attention gets a prompt and a token, made by the formula of the build", async () => {
  const { subject, steps } = deviceOf({});
  await selfTest(subject);
  assert.deepEqual(steps.map((row) => row.length), [PREFILL * WIDTH, WIDTH]);
  for (const [i, value] of steps.flat().entries()) {
    assert.ok(Math.abs(value - Math.sin(0.37 * i) / 2) < 1e-6);
  }
});
