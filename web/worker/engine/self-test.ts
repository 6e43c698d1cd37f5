/** Refuses a device that computes wrong before it can write nonsense. */
import { EngineError } from "../shared/errors.ts";
import type { Metadata, TestArray, Tolerance } from "./metadata.ts";

/** The library's functions that the self-test calls. */
export interface TestSubject {
  readonly metadata: Metadata;
  multiply(inputs: readonly TestArray[]): Promise<Float32Array>;
  /** Feeds rows of float32[n, width] to a fresh KV cache, one array a step; the last one's output. */
  attend(steps: readonly Float32Array[]): Promise<Float32Array>;
}

/** Throws EngineError "self_test_failed". */
export async function selfTest(subject: TestSubject): Promise<void> {
  const { matmul, attention } = subject.metadata.self_test;
  const product = await subject.multiply(matmul.inputs);
  compare("matrix product", product, matmul.expected, matmul);
  const attended = await subject.attend(attentionSteps(subject.metadata));
  compare("attention", attended, attention.expected_decode, attention);
}

/** Element i of all tokens is sin(0.37 i) / 2; the last token comes in a step of its own. */
function attentionSteps({ kv_cache: shape, self_test: test }: Metadata): Float32Array[] {
  const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: width } = shape;
  const row = (heads + 2 * kvHeads) * width;
  const prefill = test.attention.prefill_length * row;
  const all = Float32Array.from({ length: prefill + row }, (_, i) => Math.sin(0.37 * i) * 0.5);
  return [all.slice(0, prefill), all.slice(prefill)];
}

function compare(
  what: string,
  found: Float32Array,
  expected: readonly number[],
  { atol, rtol }: Tolerance,
): void {
  const wrong = expected.findIndex((value, index) => {
    const error = Math.abs((found[index] ?? Number.NaN) - value);
    return !(error <= atol + rtol * Math.abs(value));
  });
  if (wrong < 0) return;
  throw new EngineError({
    code: "self_test_failed",
    message:
      `This GPU computes wrong results: value ${wrong} of a ${what} is ${found[wrong]}, ` +
      `not ${expected[wrong]}.`,
    remedy: "Update the GPU driver and the browser, or use another device.",
  });
}
