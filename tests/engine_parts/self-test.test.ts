import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeFloats, encodeFloats } from "../../web/worker/engine/float-types.ts";
import type { Metadata, ParameterShape } from "../../web/worker/engine/metadata.ts";
import { checkModel } from "../../web/worker/engine/metadata.ts";
import { probeInput, selfTest, type TestSubject } from "../../web/worker/engine/self-test.ts";
import { StoredRows } from "../../web/worker/engine/stored-rows.ts";
import { golden } from "./golden.ts";

interface Case {
  metadata: Metadata;
  parameters: (ParameterShape & { data: number[] })[];
  attended: number[];
  ids: number[];
  results: number[][];
  embeddings: number[];
}

const { input, cases } = golden("self_test") as {
  input: { rows: number; width: number; in_128ths: number[][] };
  cases: Case[];
};
const { halves, float16 } = golden("weights") as { halves: number[]; float16: number[] };

function rowsOf({ metadata, parameters }: Case): StoredRows {
  const rows = new StoredRows(metadata);
  for (const parameter of parameters) {
    const { dtype, data } = parameter;
    const words = dtype === "uint32" && new Uint8Array(Uint32Array.from(data).buffer);
    const bytes = words || encodeFloats(data, dtype === "float16" ? "float16" : "float32");
    // As it comes from the store: in pieces that end in the middle of a row.
    const piece = Math.ceil(bytes.length / 12) * 4;
    for (let offset = 0; offset < bytes.length; offset += piece) {
      rows.keep(parameter, { offset, bytes: bytes.slice(offset, offset + piece) });
    }
  }
  return rows;
}

/** A device that gives what the vectors say. */
class Device implements TestSubject {
  readonly metadata: Metadata;
  readonly results: Float32Array[];
  readonly embeddings: Float32Array;
  readonly attended: Float32Array;
  tokens: number[] = [];

  constructor(vectors: Case) {
    this.metadata = vectors.metadata;
    this.results = vectors.results.map((values) => Float32Array.from(values));
    this.embeddings = Float32Array.from(vectors.embeddings);
    this.attended = Float32Array.from(vectors.attended);
    this.ids = vectors.ids;
  }

  readonly ids: number[];

  run(name: string, lead: readonly number[], inputs: readonly Float64Array[]): Promise<Float32Array[]> {
    assert.equal(name, "all");
    assert.deepEqual(lead, [3, 1]);
    assert.deepEqual(inputs.map(({ length }) => length / 3), this.metadata.self_test.inputs);
    return Promise.resolve(this.results);
  }

  embed(ids: readonly number[]): Promise<Float32Array> {
    assert.deepEqual(ids, this.ids);
    return Promise.resolve(this.embeddings);
  }

  attend(steps: readonly Float64Array[]): Promise<Float32Array> {
    assert.deepEqual(steps.map(({ length }) => length), [48, 16]);
    return Promise.resolve(this.attended);
  }

  forward(tokens: readonly number[]): Promise<Float32Array> {
    this.tokens.push(...tokens);
    return Promise.resolve(this.logits([...this.tokens]));
  }

  logits(tokens: number[]): Float32Array {
    return Float32Array.from({ length: 8 }, (_, i) => Math.sin(i + tokens.reduce((a, b) => a + b, 0)));
  }

  readonly sequences = {
    addSequence: () => void (this.tokens = []),
    removeSequence: () => void (this.tokens = []),
    popTokens: (_: number, count: number) => void this.tokens.splice(this.tokens.length - count),
  };
}

test("inputs are the same in all engines", () => {
  const found = [...probeInput(input.rows, input.width)].map((value) => value * 128);
  assert.deepEqual(found, input.in_128ths.flat());
});

test("float16 is read and written", () => {
  const bytes = new Uint8Array(Uint16Array.from(halves).buffer);
  const floats = decodeFloats(bytes, "float16");
  assert.deepEqual([...new Uint32Array(floats.buffer)], float16);
  const finite = [...floats].filter((value) => !Number.isNaN(value));
  assert.deepEqual([...decodeFloats(encodeFloats(finite, "float16"), "float16")], finite);
  const between = [1 + 2 ** -11, 1 + 3 * 2 ** -11, 65519, 65520, 2 ** -25, 3 * 2 ** -25, -(2 ** -26)];
  const nearest = [1, 1 + 2 ** -9, 65504, Infinity, 0, 2 ** -23, -0];
  assert.deepEqual([...decodeFloats(encodeFloats(between, "float16"), "float16")], nearest);
});

for (const vectors of cases) {
  const { dtype, self_test: described } = vectors.metadata;
  const [layout] = described.results.flatMap((result) => (result.kind === "linear" ? result.layout : []));
  const refused = (device: Device, problem: RegExp): Promise<void> =>
    assert.rejects(selfTest(device, rowsOf(vectors)), { code: "self_test_failed", message: problem });

  test(`${layout} ${dtype}: what is right passes, and leaves no token`, async () => {
    const device = new Device(vectors);
    await selfTest(device, rowsOf(vectors));
    assert.deepEqual(device.tokens, []);
  });

  for (const [place, result] of described.results.entries()) {
    test(`${layout} ${dtype}: a wrong ${result.kind} ${place} is noticed, and one that is no number`, async () => {
      for (const wrong of [(value: number) => value * 1.1 + 0.01, () => Number.NaN]) {
        const device = new Device(vectors);
        const values = device.results[place] ?? new Float32Array();
        values[values.length - 1] = wrong(values.at(-1) ?? 0);
        await refused(device, /computes wrong results: value \d+ of .* for 3 rows/);
      }
    });
  }

  test(`${layout} ${dtype}: wrong embeddings, attention and steps are noticed`, async () => {
    const embeddings = new Device(vectors);
    embeddings.embeddings[7] = (embeddings.embeddings[7] ?? 0) + 0.01;
    await refused(embeddings, /embeddings/);
    const attention = new Device(vectors);
    attention.attended[7] = Number.NaN;
    await refused(attention, /attention/);
    const steps = new Device(vectors);
    let calls = 0;
    steps.logits = () => Float32Array.of(1, ++calls);
    await refused(steps, /in two steps differ/);
    const none = new Device(vectors);
    none.logits = () => Float32Array.of(1, Number.NaN);
    await refused(none, /in two steps differ/);
  });
}

test("a library of another model is refused", () => {
  const metadata = { quantization: "q4f16_1", model_config: { head_dim: 32, rope_scaling: { factor: 8 } } };
  const check = (quantization: string, config: object): void =>
    checkModel(metadata as unknown as Metadata, quantization, config);
  check("q4f16_1", { head_dim: 32, rope_scaling: { factor: 8 } });
  const code = "bundle_invalid";
  assert.throws(() => check("q4f32_1", metadata.model_config), { code, message: /quantization is "q4f16_1"/ });
  assert.throws(() => check("q4f16_1", { head_dim: 16, rope_scaling: { factor: 8 } }), { code, message: /head_dim/ });
  assert.throws(() => check("q4f16_1", { head_dim: 32, rope_scaling: null }), { code, message: /rope_scaling/ });
});
