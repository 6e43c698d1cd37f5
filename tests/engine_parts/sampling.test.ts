import assert from "node:assert/strict";
import { test } from "node:test";
import { philox, uniform } from "../../web/worker/engine/philox.ts";
import { Sampler } from "../../web/worker/engine/sampler.ts";
import { logits } from "../golden/logits.ts";
import { samplingOf } from "../golden/sampling.ts";
import { golden } from "./golden.ts";

const { prompt, philox: philoxCases, cases } = golden("sampling");

function samplerOf(settings: object, seed: number, choice: number): Sampler {
  return new Sampler(samplingOf(settings), seed, choice, prompt);
}

function near(found: number, wanted: number): boolean {
  return Math.abs(found - wanted) <= 1e-6 * Math.max(1, Math.abs(wanted));
}

for (const { counter, key, words } of philoxCases) {
  test(`philox of ${counter}`, () => {
    assert.deepEqual(philox(counter, key), words);
  });
}

for (const { rows, settings, seed, choice, samples } of cases) {
  const of = rows.vocabulary ?? "values";
  test(`${of} ${JSON.stringify(settings)} seed ${seed} choice ${choice}`, () => {
    const withLogprobs = samplerOf(settings, seed, choice);
    const without = samplerOf({ ...settings, logprobs: null, top_logprobs: null }, seed, choice);
    for (const [step, wanted] of samples.entries()) {
      const row = logits(rows, step);
      const before = row.slice();
      if (wanted === null) {
        assert.throws(() => withLogprobs.sample(row), { code: "internal" });
        assert.throws(() => without.sample(row), { code: "internal" });
        continue;
      }
      const [token, logprob, top] = wanted;
      const sample = withLogprobs.sample(row);
      assert.equal(sample.id, token);
      assert.equal(without.sample(row).id, token);
      assert.ok(near(sample.logprob, logprob), `${sample.logprob} is not ${logprob}`);
      assert.deepEqual(sample.top.map(({ id }) => id), top.map(([id]: [number]) => id));
      for (const [index, scored] of sample.top.entries()) assert.ok(near(scored.logprob, top[index][1]));
      assert.deepEqual(row, before);
    }
  });
}

test("random numbers are uniform", () => {
  const numbers = Array.from({ length: 4096 }, (_, position) => uniform(7, 0, position));
  const mean = numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  assert.ok(Math.abs(mean - 0.5) < 0.02);
  assert.ok(numbers.every((value) => value >= 0 && value < 1));
});

test("the most probable alternatives come best first", () => {
  const sampler = samplerOf({ temperature: 0, logprobs: true, top_logprobs: 3 }, 0, 0);
  const { id, logprob, top } = sampler.sample(Float32Array.of(1, 3, 2, 3));
  assert.equal(id, 1);
  assert.deepEqual(top.map((token) => token.id), [1, 3, 2]);
  assert.equal(top[0]?.logprob, logprob);
});

test("tokens that the model can't write may be penalised and biased", () => {
  const settings = { temperature: 0, repetition_penalty: 1.3, logit_bias: { "100": 5, "7": 100 } };
  assert.equal(samplerOf(settings, 0, 0).sample(new Float32Array(8)).id, 7);
});

for (const settings of [
  { temperature: 0.7, top_p: 0.9, logprobs: true, top_logprobs: 20 },
  { top_k: 50000 },
  { temperature: 0.7, top_p: 0.9, repetition_penalty: 1.1 },
]) {
  test(`a large vocabulary takes no sort: ${JSON.stringify(settings)}`, () => {
    const row = logits({ vocabulary: 128256, seed: 9, scale: 2, peaks: 30, lift: 2 }, 0);
    const sampler = samplerOf(settings, 0, 0);
    const sampling: number[] = [];
    const sorting: number[] = [];
    const measure = (times: number[], work: () => unknown) => {
      const start = performance.now();
      work();
      times.push(performance.now() - start);
    };
    // In turns, so that a busy machine slows both.
    for (let n = 0; n < 8; n++) {
      measure(sampling, () => sampler.sample(row));
      measure(sorting, () => [...row.keys()].sort((a, b) => (row[b] ?? 0) - (row[a] ?? 0)));
    }
    const [sample, sort] = [Math.min(...sampling), Math.min(...sorting)];
    assert.ok(sample < sort / 4, `${sample} ms, and a sort takes ${sort} ms`);
  });
}
