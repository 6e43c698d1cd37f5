/**
 * Refuses a device or a library that computes wrong before it can write nonsense.
 *
 * A library offers its kernels one by one, on the model's own parameters (`self_test` in its metadata); what
 * they must give is computed here in doubles, from the weights as they came. Damaged ones are for hashes to find.
 */
import { EngineError } from "../shared/errors.ts";
import { SELF_TEST_SEQUENCE, type KvStore } from "./kv-cache.ts";
import type { LinearResult, Metadata, Norm, NormResult, SelfTest, TestRun } from "./metadata.ts";
import { comparedRows, spread, type StoredRows } from "./stored-rows.ts";

/** Half precision has nothing much smaller between 0 and 1, once it is rounded. */
const SMALLEST_SIGMOID = 1e-3;
/** How much x / (1 + e^-x) changes at most by what x changes. */
const STEEPEST_SILU = 1.1;

/** What the self-test asks of a model on its device. */
export interface TestSubject {
  readonly metadata: Metadata;
  /** Calls a function with inputs [...lead, width] and all parameters; its results. */
  run(name: string, lead: readonly number[], inputs: readonly Float64Array[]): Promise<Float32Array[]>;
  /** Rows of the embedding table, one after the other. */
  embed(ids: readonly number[]): Promise<Float32Array>;
  /** Feeds [n, width] to a new sequence of the KV cache, one array a step; the last step's output. */
  attend(steps: readonly Float64Array[]): Promise<Float32Array>;
  readonly sequences: Pick<KvStore, "addSequence" | "removeSequence" | "popTokens">;
  /** Appends tokens to a sequence of the KV cache; logits after the last one. */
  forward(tokens: readonly number[], sequence: number): Promise<Float32Array>;
}

/** The value that must be at `index`, give or take `bound`. */
export interface Expectation {
  readonly index: number;
  readonly value: number;
  readonly bound: number;
}

/** Throws EngineError "self_test_failed". */
export async function selfTest(subject: TestSubject, rows: StoredRows): Promise<void> {
  const { self_test: test } = subject.metadata;
  for (const run of test.runs) {
    const probes = new Probes(test, run, rows);
    const results = await subject.run(run.function, run.lead, probes.inputs);
    for (const place of run.results.keys()) {
      compare(`${probes.name(place)} for ${probes.rows} rows`, results[place], probes.expect(place, results));
    }
  }
  compare("embeddings", await subject.embed(embeddedIds(test)), expectEmbeddings(test, rows));
  await compareAttention(subject);
  await compareSteps(subject);
}

/**
 * Inputs [rows, width].
 *
 * Multiples of 1/128 with 127/128 as the largest of each 32: exact as float16, and in int8 by groups of 32.
 */
export function probeInput(rows: number, width: number): Float64Array {
  return Float64Array.from({ length: rows * width }, (_, index) => {
    const row = Math.floor(index / width);
    const column = index % width;
    return (column % 32 === 0 ? 127 : ((89 * row + 37 * column + 61) % 255) - 127) / 128;
  });
}

/** Inputs of one call, and what its results must be. */
export class Probes {
  readonly rows: number;
  readonly inputs: readonly Float64Array[];
  readonly #test: SelfTest;
  readonly #run: TestRun;
  readonly #stored: StoredRows;

  constructor(test: SelfTest, run: TestRun, stored: StoredRows) {
    this.rows = run.lead.reduce((product, extent) => product * extent, 1);
    this.inputs = test.inputs.map((width) => probeInput(this.rows, width));
    this.#test = test;
    this.#run = run;
    this.#stored = stored;
  }

  name(place: number): string {
    const result = this.#result(place);
    return "parameters" in result ? (result.parameters[0] ?? result.kind) : result.kind;
  }

  /** Of the result at `place` of `results`. */
  *expect(place: number, results: readonly Float32Array[]): Generator<Expectation> {
    const result = this.#result(place);
    if (result.kind === "linear") yield* this.#linear(result);
    if (result.kind === "rms_norm") yield* this.#norm(result);
    if (result.kind === "gated_silu") yield* this.#gated(results[place - 1] ?? new Float32Array());
  }

  #result(place: number): SelfTest["results"][number] {
    const result = this.#test.results[this.#run.results[place] ?? -1];
    if (!result) throw new Error(`the self-test has no result ${place}`);
    return result;
  }

  *#linear(result: LinearResult): Generator<Expectation> {
    const { in_features: depth, out_features, gated = false } = result;
    const width = gated ? out_features / 2 : out_features;
    const given = Array.from({ length: this.rows }, (_, row) => {
      const x = this.#input(result.input).subarray(row * depth, (row + 1) * depth);
      return result.norm ? this.#normalised(result.norm, x) : x;
    });
    for (const stored of comparedRows(result)) {
      const [column = 0] = stored;
      const weights = stored.map((row) => this.#stored.row(result, row));
      for (const [row, x] of given.entries()) {
        const [product, up] = weights.map((weight) => multiply(x, weight));
        if (!product) continue;
        const residual = result.residual ? this.#at(0, row, column) : 0;
        const expected = up ? this.#activation(product, up) : this.#sum(product, residual, result);
        yield { index: row * width + column, ...expected };
      }
    }
  }

  #sum(product: Product, residual: number, result: LinearResult): Omit<Expectation, "index"> {
    const { sum, value: relative, least } = this.#test.tolerance;
    const value = product.value + residual;
    // The product is rounded before the residual is added to it, which may leave much less.
    const rounded = Math.abs(product.value) + (result.residual ? Math.abs(value) : 0);
    const magnitude = product.magnitude + Math.abs(residual);
    // Logits are float32 whatever the other results are.
    return { value, bound: least + sum * magnitude + (result.logits ? 0 : relative * rounded) };
  }

  #normalised({ parameters, epsilon }: Norm, x: Float64Array): Float64Array {
    const weight = this.#stored.vector(parameters[0]);
    const mean = x.reduce((sum, value) => sum + value * value, 0) / x.length;
    return x.map((value, column) => (value / Math.sqrt(mean + epsilon)) * (weight[column] ?? Number.NaN));
  }

  *#norm({ input, ...norm }: NormResult): Generator<Expectation> {
    const width = this.#test.inputs[input] ?? 0;
    for (let row = 0; row < this.rows; row++) {
      const x = this.#input(input).subarray(row * width, (row + 1) * width);
      for (const [column, value] of this.#normalised(norm, x).entries()) {
        yield { index: row * width + column, value, bound: rounding(this.#test, value) };
      }
    }
  }

  /** The activation of `both`, gate and up. */
  *#gated(both: Float32Array): Generator<Expectation> {
    const width = both.length / this.rows / 2;
    for (let index = 0; index < this.rows * width; index++) {
      const place = Math.floor(index / width) * 2 * width + (index % width);
      const exact = (value = Number.NaN): Product => ({ value, magnitude: 0 });
      yield { index, ...this.#activation(exact(both[place]), exact(both[place + width])) };
    }
  }

  #activation(gate: Product, up: Product): Omit<Expectation, "index"> {
    const { activation, least, sum } = this.#test.tolerance;
    const silu = gate.value / (1 + Math.exp(-gate.value));
    const value = silu * up.value;
    const magnitude = Math.abs(value) + SMALLEST_SIGMOID * Math.abs(gate.value * up.value);
    const slack = STEEPEST_SILU * gate.magnitude * Math.abs(up.value) + Math.abs(silu) * up.magnitude;
    return { value, bound: least + activation * magnitude + sum * slack };
  }

  #input(input: number): Float64Array {
    return this.inputs[input] ?? new Float64Array();
  }

  #at(input: number, row: number, column: number): number {
    return this.#input(input)[row * (this.#test.inputs[input] ?? 0) + column] ?? Number.NaN;
  }
}

/** A sum of products, and the sum of their magnitudes. */
interface Product {
  readonly value: number;
  readonly magnitude: number;
}

function multiply(x: Float64Array, weight: Float64Array): Product {
  let value = 0;
  let magnitude = 0;
  for (let k = 0; k < x.length; k++) {
    const product = (x[k] ?? Number.NaN) * (weight[k] ?? Number.NaN);
    value += product;
    magnitude += Math.abs(product);
  }
  return { value, magnitude };
}

/** What rounding to the library's float type may change. */
function rounding({ tolerance }: SelfTest, value: number): number {
  return tolerance.least + tolerance.value * Math.abs(value);
}

function embeddedIds({ embedding }: SelfTest): number[] {
  return spread(embedding.out_features, embedding.rows);
}

function* expectEmbeddings(test: SelfTest, rows: StoredRows): Generator<Expectation> {
  let index = 0;
  for (const id of embeddedIds(test)) {
    for (const value of rows.row(test.embedding, id)) {
      yield { index: index++, value, bound: rounding(test, value) };
    }
  }
}

/** Element i of all tokens is sin(0.37 i) / 2; the last token comes in a step of its own. */
async function compareAttention(subject: TestSubject): Promise<void> {
  const { kv_cache: shape, self_test: test } = subject.metadata;
  const heads = shape.num_attention_heads + 2 * shape.num_key_value_heads;
  const row = heads * shape.head_dim;
  const prefill = test.attention.prefill_length * row;
  const all = Float64Array.from({ length: prefill + row }, (_, i) => Math.sin(0.37 * i) * 0.5);
  const found = await subject.attend([all.slice(0, prefill), all.slice(prefill)]);
  const bound = test.tolerance.attention;
  const { places, expected_decode: values } = test.attention;
  compare("attention", found, places.map((index, n) => ({ index, value: values[n] ?? Number.NaN, bound })));
}

/** A prompt at once, and with its last token in a step of its own: the same logits. */
async function compareSteps(subject: TestSubject): Promise<void> {
  const { prompt_length: length, embedding, tolerance } = subject.metadata.self_test;
  const tokens = Array.from({ length }, (_, n) => (7 * n * n + 3) % embedding.out_features);
  const { sequences } = subject;
  sequences.addSequence(SELF_TEST_SEQUENCE);
  const once = (await subject.forward(tokens, SELF_TEST_SEQUENCE)).slice();
  sequences.popTokens(SELF_TEST_SEQUENCE, length);
  if (length > 1) await subject.forward(tokens.slice(0, -1), SELF_TEST_SEQUENCE);
  const twice = await subject.forward(tokens.slice(-1), SELF_TEST_SEQUENCE);
  sequences.removeSequence(SELF_TEST_SEQUENCE);
  const difference = rootMeanSquare(once.map((value, index) => value - (twice[index] ?? Number.NaN)));
  const size = rootMeanSquare(once);
  if (difference <= tolerance.logits * size) return;
  const [by, large] = [difference.toPrecision(3), size.toPrecision(3)];
  throw wrong(`logits of a prompt at once and in two steps differ by ${by}, and are ${large} large`);
}

function rootMeanSquare(values: Float32Array): number {
  return Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / values.length);
}

function compare(what: string, found: Float32Array | undefined, expected: Iterable<Expectation>): void {
  for (const { index, value, bound } of expected) {
    const actual = found?.[index] ?? Number.NaN;
    // NaN is not below any bound.
    if (Math.abs(actual - value) <= bound) continue;
    throw wrong(`value ${index} of ${what} is ${actual}, not ${value}`);
  }
}

function wrong(problem: string): EngineError {
  return new EngineError({
    code: "self_test_failed",
    message: `This GPU computes wrong results: ${problem}.`,
    remedy: "Update the GPU driver and the browser, or use another device.",
  });
}
