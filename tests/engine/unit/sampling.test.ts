import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRequest } from "../../../web/worker/engine/protocol.ts";
import { philox, uniform } from "../../../web/worker/engine/philox.ts";
import { Sampler } from "../../../web/worker/engine/sampler.ts";
import { golden } from "./golden.ts";

const { logits, prompt, philox: philoxCases, cases } = golden("sampling");
const neutral = {
  temperature: 1,
  topP: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
};
const model = { id: "golden", vocabSize: logits[0].length, defaults: neutral };
const messages = [{ role: "user" as const, content: "" }];

function samplerOf(settings: object, seed: number, choice: number): Sampler {
  const request = parseRequest({ messages, ...settings }, model);
  return new Sampler(request.sampling, seed, choice, prompt);
}

for (const { counter, key, words } of philoxCases) {
  test(`philox of ${counter}`, () => {
    assert.deepEqual(philox(counter, key), words);
  });
}

for (const { settings, seed, choice, tokens, logprobs } of cases) {
  test(`${JSON.stringify(settings)} seed ${seed} choice ${choice}`, () => {
    const sampler = samplerOf({ ...settings, logprobs: true }, seed, choice);
    const samples = logits.map((row: number[]) => sampler.sample(Float32Array.from(row)));
    assert.deepEqual(samples.map(({ id }: { id: number }) => id), tokens);
    for (const [index, { logprob }] of samples.entries()) {
      assert.ok(Math.abs(logprob - logprobs[index]) < 1e-6);
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

test("a sampler leaves the logits as they are", () => {
  const row = Float32Array.from(logits[0]);
  samplerOf({ logit_bias: { "1": 5 } }, 0, 0).sample(row);
  assert.deepEqual(row, Float32Array.from(logits[0]));
});
